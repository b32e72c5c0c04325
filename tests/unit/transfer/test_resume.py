# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Bodies that are too slow, too large, or of too many months end early, with an error of this package."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_isvapp.api.isvapp.client import DownloadResponse
from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.api.schema.isvapp import ExportStatus
from airflow_provider_isvapp.errors import ApiError, BrokenTransfer, DamagedDownload
from airflow_provider_isvapp.transfer.audit import MOST_MONTHS
from airflow_provider_isvapp.transfer.destination import local_destination
from airflow_provider_isvapp.transfer.results import WriteResult
from airflow_provider_isvapp.transfer.staging.local import LocalFile
from tests.support.downloads import download_with
from tests.support.file_server import FileResponse, FileServer, Source, export_row, gzip_bytes, ndjson

PLAIN = ndjson(6_000)
BODY = gzip_bytes(PLAIN)

# Otherwise, a body that trickles would take hours.
pytestmark = pytest.mark.timeout(60)


class Clock:
    """Advances by this number of seconds with each reading; a transfer reads the clock five times per second."""

    def __init__(self, step: float = 50.0) -> None:
        self.looks = 0
        self._step = step

    def __call__(self) -> float:
        self.looks += 1
        return self.looks * self._step


def download(source: Source, target: Path, **options: Any) -> WriteResult:
    options = {"sleep": lambda seconds: None, "attempts": 1, **options}
    return download_with(source, local_destination(str(target)), **options)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_that_trickles_is_a_broken_transfer(tmp_path: Path, chunked: bool) -> None:
    response = FileResponse(BODY, cut=50_000, trickle=True, chunked=chunked)
    with FileServer(response) as server, pytest.raises(BrokenTransfer) as caught:
        download(server.source(), tmp_path / "x", clock=Clock())
    assert "export e-1 was too slow" in str(caught.value)
    assert "bytes arrived within 120 s. The minimum is 2 KiB per second." in str(caught.value)
    assert " 50" in str(caught.value).partition("per second.")[2]
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_trickled_is_resumed_with_the_bytes_that_came(tmp_path: Path) -> None:
    with FileServer(FileResponse(BODY, cut=50_000, trickle=True), FileResponse(BODY)) as server:
        result = download(server.source(compressed=len(BODY)), tmp_path / "x", clock=Clock(), attempts=2)
    assert (tmp_path / "x").read_bytes() == PLAIN
    assert result.attempts == 2
    offset = server.requested_ranges[1]
    assert offset is not None
    assert 50_000 <= int(offset.removeprefix("bytes=").removesuffix("-")) < 51_000


def test_a_storage_that_is_slow_makes_no_download_too_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    enough = threading.Event()
    write = LocalFile.write

    def slow(file: LocalFile, data: bytes | memoryview) -> None:
        enough.wait(20)
        write(file, data)

    def cancelled() -> bool:
        if clock.looks > 8:
            enough.set()
        return False

    monkeypatch.setattr(LocalFile, "write", slow)
    # More pieces than are decompressed ahead.
    plain = PLAIN * 4
    with FileServer(FileResponse(gzip_bytes(*[PLAIN] * 4))) as server:
        download(server.source(), tmp_path / "x", clock=clock, cancelled=cancelled)
    assert (tmp_path / "x").read_bytes() == plain
    assert clock.looks > 8


@contextlib.contextmanager
def raw_server(head: bytes, endless: bytes) -> Iterator[Source]:
    """Send some bytes in response to every request, and then repeat other bytes forever if there are any."""
    over = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))

    def respond() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=send, args=(connection,), daemon=True).start()

    def send(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(64 * 1024)
            connection.sendall(b"HTTP/1.1 200 OK\r\n" + head)
            while endless and not over.wait(0.02 if len(endless) == 1 else 0):
                connection.sendall(endless)

    threading.Thread(target=respond, daemon=True).start()
    try:
        export = Export(id="e-1", status=ExportStatus.COMPLETED)
        yield Source(f"http://127.0.0.1:{listening.getsockname()[1]}/file", export, 5.0)
    finally:
        over.set()
        listening.close()


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(CHUNKED + b"5;a=", id="extension of a chunk"),
        pytest.param(CHUNKED + b"2\r\n\x1f\x8b\r\n0\r\n", id="trailers"),
        pytest.param(b"\r\n\x1f\x8b\x08", id="no length"),
    ],
)
def test_framing_that_trickles_is_a_broken_transfer(tmp_path: Path, head: bytes) -> None:
    with raw_server(head, b"a") as source, pytest.raises((BrokenTransfer, DamagedDownload)):
        download(source, tmp_path / "x", clock=Clock())
    assert list(tmp_path.iterdir()) == []


def test_a_chunk_of_negative_size_is_not_taken_into_memory(tmp_path: Path) -> None:
    with raw_server(CHUNKED + b"-1\r\n", b"x" * 1_000_000) as source:
        body = source()
        assert len(body.read(1_000)) < 100_000
        body.close()
        with pytest.raises((BrokenTransfer, DamagedDownload)):
            download(source, tmp_path / "x")


@pytest.mark.parametrize("size", [b"9" * 5_000, b"9" * 20, b"-5", b"1e3", b"\xb2"])
def test_an_invalid_content_length_is_an_error_of_this_package(tmp_path: Path, size: bytes) -> None:
    head = b"Content-Length: %b\r\nConnection: close\r\n\r\n%b" % (size, b"junk")
    with raw_server(head, b"") as source, pytest.raises((BrokenTransfer, DamagedDownload)):
        download(source, tmp_path / "x")


def test_a_part_with_invalid_numbers_is_an_unexpected_response(tmp_path: Path) -> None:
    digits = b"9" * 5_000
    head = b"Content-Range: bytes %b-%b/*\r\n\r\n" % (digits, digits)

    with raw_server(head, b"") as source, requests.get(source.url, stream=True, timeout=5) as response:
        response.status_code = 206
        with pytest.raises(ApiError, match="not with the file"):
            DownloadResponse.from_response(source.export, response, offset=5)


def test_no_more_is_decompressed_than_the_recorded_size(tmp_path: Path, full_disk: Callable[[int], None]) -> None:
    """A file that grows by a thousand times is stopped at the record's size; a disk of 1 MB is not filled."""
    row = export_row(1) + b"\n"
    bomb = gzip_bytes(row * 100_000, level=9)
    full_disk(1_000_000)
    with FileServer(FileResponse(bomb)) as server, pytest.raises(DamagedDownload, match="more than the 130000 bytes"):
        download(server.source(compressed=len(bomb), uncompressed=130_000), tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_no_more_is_received_than_the_recorded_size(tmp_path: Path) -> None:
    response = FileResponse(BODY, chunked=True, cut=60_000, stall=True)
    with FileServer(response) as server, pytest.raises(DamagedDownload, match="more than the 50000 bytes"):
        download(server.source(compressed=50_000, read_timeout=0.5), tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_the_announced_length_is_compared_before_the_first_byte(tmp_path: Path) -> None:
    response = FileResponse(BODY, cut=0, stall=True)
    with FileServer(response) as server, pytest.raises(DamagedDownload, match=f"{len(BODY)} bytes, and the export's"):
        download(server.source(compressed=50_000, read_timeout=30.0), tmp_path / "x")


@pytest.mark.parametrize("divided", [True, False])
@pytest.mark.parametrize("rows", [1, 200])
def test_too_many_months_are_noticed_while_they_come(tmp_path: Path, divided: bool, rows: int) -> None:
    months = [f"{year:04d}-{month:02d}" for year, month in itertools.product(range(1900, 2100), range(1, 13))]
    plain = b"".join(b'{"reference_date":"%b","n":1}\n' % month.encode() * rows for month in months)
    options: dict[str, Any] = {"partition_by": "reference_date"} if divided else {}
    target = tmp_path / ("{reference_date}" if divided else "x")
    with FileServer(FileResponse(gzip_bytes(plain))) as server, pytest.raises(DamagedDownload) as caught:
        download(server.source(), target, **options)
    assert f"it has rows of more than {MOST_MONTHS} months, and an export has at most twelve" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_as_many_months_as_may_be_are_written(tmp_path: Path) -> None:
    months = [f"{year:04d}-{month:02d}" for year, month in itertools.product(range(2020, 2025), range(1, 13))]
    plain = ndjson(3 * len(months), months=months)
    with FileServer(FileResponse(gzip_bytes(plain))) as server:
        result = download(server.source(), tmp_path / "{reference_date}", partition_by="reference_date")
    assert len(result.objects) == MOST_MONTHS == len(list(tmp_path.iterdir()))
