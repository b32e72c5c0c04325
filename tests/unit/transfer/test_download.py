# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Downloads to local files: exact bytes, or an error with the old file and nothing else left."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_isvapp.errors import (
    BrokenTransfer,
    DamagedDownload,
    DestinationExists,
    StorageFailed,
    TransferCancelled,
)
from airflow_provider_isvapp.transfer.destination import local_destination
from airflow_provider_isvapp.transfer.results import WriteResult
from tests.support.downloads import download_with
from tests.support.file_server import FileResponse, FileServer, Source, gzip_bytes, ndjson

PLAIN = ndjson(6_000, months=("2024-02", "2024-03"))
BODY = gzip_bytes(PLAIN)
OLD = b'{"old":true}\n'


class Waits(list[float]):
    """A replacement for sleep."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "usage" / "export.ndjson"
    path.parent.mkdir()
    path.write_bytes(OLD)
    return path


def download(source: Source, target: Path, **options: Any) -> WriteResult:
    options = {"sleep": Waits(), **options}
    return download_with(source, local_destination(str(target)), **options)


def assert_written(target: Path, expected: bytes = PLAIN) -> None:
    assert target.read_bytes() == expected
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def assert_untouched(target: Path) -> None:
    assert_written(target, OLD)


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(FileResponse(BODY), id="plain"),
        pytest.param(FileResponse(BODY, encoded=True), id="content-encoding"),
        pytest.param(FileResponse(BODY, chunked=True), id="chunked"),
        pytest.param(FileResponse(gzip_bytes(PLAIN[:100_001], b"", PLAIN[100_001:])), id="members"),
    ],
)
def test_exact_bytes(response: FileResponse, target: Path) -> None:
    with FileServer(response) as server:
        result = download(server.source(compressed=len(response.body), uncompressed=len(PLAIN)), target)
    assert_written(target)
    assert result.rows == 6_000
    assert result.bytes == len(PLAIN)
    assert result.compressed_bytes == len(response.body)
    assert result.months == {"2024-02": 3_000, "2024-03": 3_000}
    assert result.attempts == 1
    assert result.export_id == "e-1"


@pytest.mark.parametrize(
    ("response", "sizes"),
    [
        pytest.param(FileResponse(b""), {}, id="content-length 0"),
        pytest.param(FileResponse(b"", chunked=True), {"compressed": 0}, id="record says 0"),
        pytest.param(FileResponse(b"", chunked=True), {"uncompressed": 0}, id="record says 0 uncompressed"),
        pytest.param(FileResponse(gzip_bytes(b"")), {}, id="gzip of nothing"),
    ],
)
def test_an_empty_export_is_an_empty_object(response: FileResponse, sizes: dict[str, int], target: Path) -> None:
    with FileServer(response) as server:
        result = download(server.source(**sizes), target, min_rows=0)
    assert_written(target, b"")
    assert (result.rows, result.bytes, result.months) == (0, 0, {})


def test_an_empty_body_must_be_announced(target: Path) -> None:
    with (
        FileServer(FileResponse(b"", chunked=True)) as server,
        pytest.raises(DamagedDownload, match="the response was empty"),
    ):
        download(server.source(), target)
    assert_untouched(target)


def flipped(position: int) -> bytes:
    return BODY[:position] + bytes([BODY[position] ^ 1]) + BODY[position + 1 :]


HTML = b"<html><body>502 Bad Gateway</body></html>"

DAMAGED = [
    pytest.param(FileResponse(BODY[: len(BODY) // 2]), "ends inside gzip member 1", id="cut with an honest length"),
    pytest.param(FileResponse(BODY[: len(BODY) // 2], chunked=True), "ends inside gzip member 1", id="cut, chunked"),
    pytest.param(FileResponse(BODY[:-1], chunked=True), "ends inside gzip member 1", id="last byte missing, chunked"),
    pytest.param(
        FileResponse(flipped(len(BODY) // 2)), "gzip member 1 is corrupt|line [0-9]+ is not|after line", id="bit"
    ),
    pytest.param(FileResponse(flipped(len(BODY) - 8)), "gzip member 1 is corrupt", id="crc"),
    pytest.param(FileResponse(flipped(len(BODY) - 1)), "gzip member 1 is corrupt", id="isize"),
    pytest.param(FileResponse(BODY + b"junk"), "not gzip follow after gzip member 1", id="trailing garbage"),
    pytest.param(FileResponse(BODY + gzip_bytes(PLAIN)[:-5]), "ends inside gzip member 2", id="second member cut"),
    pytest.param(FileResponse(HTML), "it is not gzip", id="html"),
    pytest.param(FileResponse(PLAIN), "it is not gzip", id="not compressed"),
    pytest.param(FileResponse(gzip_bytes(HTML)), "line 1 is not a row", id="compressed html"),
    pytest.param(FileResponse(gzip_bytes(PLAIN[:-2])), "line 6000 is not a row", id="cut before it was compressed"),
]


@pytest.mark.parametrize(("response", "message"), DAMAGED)
def test_damage_publishes_nothing(response: FileResponse, message: str, target: Path) -> None:
    waits = Waits()
    with FileServer(response) as server, pytest.raises(DamagedDownload, match=message) as caught:
        download(server.source(), target, attempts=3, sleep=waits)
    assert_untouched(target)
    assert "export e-1" in str(caught.value)
    assert "Nothing was published" in str(caught.value)
    assert len(server.requested_ranges) == 3
    assert waits == [1.0, 2.0]


@pytest.mark.parametrize(("response", "message"), DAMAGED)
def test_a_damaged_file_is_fetched_again(response: FileResponse, message: str, target: Path) -> None:
    with FileServer(response, FileResponse(BODY)) as server:
        result = download(server.source(), target)
    assert_written(target)
    assert result.rows == 6_000
    assert result.attempts == 2


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"compressed": len(BODY) + 1},
            f"the file has {len(BODY)} bytes, and the export's record states {len(BODY) + 1}",
        ),
        (
            {"compressed": len(BODY) - 1},
            f"the file has {len(BODY)} bytes, and the export's record states {len(BODY) - 1}",
        ),
        ({"uncompressed": len(PLAIN) + 1}, f"to {len(PLAIN)} bytes, and the export's record states {len(PLAIN) + 1}"),
    ],
)
def test_sizes_that_contradict_the_record(sizes: dict[str, int], message: str, target: Path) -> None:
    with FileServer(FileResponse(BODY)) as server, pytest.raises(DamagedDownload, match=message):
        download(server.source(**sizes), target, attempts=2)
    assert_untouched(target)


CUTS = [len(BODY) // 100, len(BODY) // 2, len(BODY) - 1]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_broken_connection_resumes(cut: int, reset: bool, target: Path) -> None:
    with FileServer(FileResponse(BODY, cut=cut, reset=reset), FileResponse(BODY)) as server:
        result = download(server.source(compressed=len(BODY)), target)
    assert_written(target)
    assert result.attempts == 2
    first, second = server.requested_ranges
    assert first is None
    # Bytes that the reset discarded from the receive buffer are requested again.
    assert second is None or 0 < int(second.removeprefix("bytes=").removesuffix("-")) <= cut
    if not reset:
        assert second == f"bytes={cut}-"


def test_a_body_that_a_proxy_cut_resumes_where_the_record_knows_better(target: Path) -> None:
    with FileServer(FileResponse(BODY, cut=70_000, chunked=True), FileResponse(BODY, chunked=True)) as server:
        download(server.source(compressed=len(BODY)), target)
    assert_written(target)
    assert server.requested_ranges == [None, "bytes=70000-"]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    "weak",
    [{"ranges": False}, {"etag": None}, {"etag": 'W/"v1"'}],
    ids=["no ranges", "no etag", "weak etag"],
)
def test_without_ranges_or_a_strong_validator_it_starts_again(cut: int, weak: dict[str, Any], target: Path) -> None:
    with FileServer(FileResponse(BODY, cut=cut, **weak), FileResponse(BODY, **weak)) as server:
        result = download(server.source(), target)
    assert_written(target)
    assert result.attempts == 2
    assert len(server.requested_ranges) == 2


OTHER = ndjson(5_000, months=("2024-04",))


@pytest.mark.parametrize("obeys", [True, False], ids=["If-Range obeyed", "If-Range ignored"])
@pytest.mark.parametrize("cut", CUTS)
def test_two_files_are_never_spliced(cut: int, obeys: bool, target: Path) -> None:
    changed = FileResponse(gzip_bytes(OTHER), etag='"v2"', obeys_if_range=obeys)
    with FileServer(FileResponse(BODY, cut=cut), changed) as server:
        result = download(server.source(), target)
    assert_written(target, OTHER)
    assert result.attempts == 3
    assert result.months == {"2024-04": 5_000}


@pytest.mark.parametrize("cut", CUTS)
def test_connections_that_always_break_end_in_an_error(cut: int, target: Path) -> None:
    response = FileResponse(BODY, cut=cut, ranges=False)
    with FileServer(response) as server, pytest.raises(BrokenTransfer, match="export e-1"):
        download(server.source(), target, attempts=3)
    assert_untouched(target)
    assert len(server.requested_ranges) == 3


def test_a_silent_server_ends_in_an_error(target: Path) -> None:
    response = FileResponse(BODY, cut=50_000, stall=True)
    with FileServer(response) as server, pytest.raises(BrokenTransfer, match="stalled"):
        download(server.source(read_timeout=0.2), target, attempts=1)
    assert_untouched(target)


def test_cancelling_does_not_wait_for_a_silent_server(target: Path) -> None:
    calls: list[int] = []

    def cancelled() -> bool:
        calls.append(1)
        return len(calls) > 6

    with (
        FileServer(FileResponse(BODY, cut=50_000, stall=True)) as server,
        pytest.raises(TransferCancelled, match="export e-1 was stopped"),
    ):
        download(server.source(read_timeout=8.0), target, cancelled=cancelled)
    assert_untouched(target)


def test_fail_keeps_the_existing_object(target: Path) -> None:
    with FileServer(FileResponse(BODY)) as server, pytest.raises(DestinationExists, match=r"export\.ndjson exists"):
        download(server.source(), target, if_exists="fail")
    assert_untouched(target)
    assert server.requested_ranges == []


def test_fail_keeps_an_object_that_appears_meanwhile(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target.unlink()
    appeared: list[None] = []

    def cancelled() -> bool:
        if not appeared:
            target.write_bytes(OLD)
            appeared.append(None)
        return False

    with FileServer(FileResponse(BODY)) as server, pytest.raises(DestinationExists):
        download(server.source(), target, if_exists="fail", cancelled=cancelled)
    assert_untouched(target)


def test_a_full_disk_publishes_nothing(target: Path, full_disk: Callable[[int], None]) -> None:
    full_disk(100_000)
    with (
        FileServer(FileResponse(BODY)) as server,
        pytest.raises(StorageFailed, match=r"(No space left|File too large)"),
    ):
        download(server.source(), target)
    assert_untouched(target)


def test_progress_is_logged_every_few_seconds(target: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = itertools.count(0, 2)
    looks = itertools.count(1)
    caplog.set_level(logging.INFO)
    body = BODY * (4_000_000 // len(BODY))
    with FileServer(FileResponse(body, cut=len(body) // 2, stall=True)) as server, pytest.raises(TransferCancelled):
        download(
            server.source(compressed=len(body)),
            target,
            clock=lambda: float(next(clock)),
            cancelled=lambda: next(looks) > 7,
        )
    lines = [record.getMessage() for record in caplog.records]
    # The body is read in blocks, and the last one is not full.
    assert re.search(r"[1-9]\d* rows so far, .* (4\d|50)%$", lines[-1]), lines
    # Seven readings, two seconds apart by this clock.
    assert len(lines) == 2


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.integers(min_value=0, max_value=3_000),
    splits=st.lists(st.integers(min_value=0, max_value=1_000_000), max_size=4),
    cuts=st.lists(st.integers(min_value=0, max_value=100_000), max_size=3),
    chunked=st.booleans(),
)
def test_bytes_in_are_bytes_out(rows: int, splits: list[int], cuts: list[int], chunked: bool, tmp_path: Path) -> None:
    plain = ndjson(rows)
    edges = [0, *sorted(min(split, len(plain)) for split in splits), len(plain)]
    body = gzip_bytes(*(plain[a:b] for a, b in itertools.pairwise(edges)))
    responses = [FileResponse(body, cut=min(cut, len(body) - 1), chunked=chunked) for cut in cuts]
    target = tmp_path / "export.ndjson"
    with FileServer(*responses, FileResponse(body, chunked=chunked)) as server:
        result = download(server.source(compressed=len(body)), target, min_rows=0)
    assert_written(target, plain)
    assert result.rows == rows
