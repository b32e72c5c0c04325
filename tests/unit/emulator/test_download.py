# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest

from airflow_provider_isvapp.emulator import ManualClock
from tests.unit.emulator.caller import Caller

Start = Callable[..., Caller]
Ready = Callable[..., tuple[Caller, str]]


def members(body: bytes) -> int:
    count = 0
    while body:
        decompressor = zlib.decompressobj(31)
        decompressor.decompress(body)
        assert decompressor.eof
        body = decompressor.unused_data
        count += 1
    return count


def test_a_download_is_gzip_with_its_header(ready: Ready) -> None:
    caller, export_id = ready()
    response = caller.download(export_id)
    assert response.headers["Content-Encoding"] == "gzip"
    assert response.content == caller.emulator.export_bytes(export_id)
    assert gzip.decompress(caller.raw(export_id)) == response.content


def test_a_download_can_be_a_plain_file(ready: Ready) -> None:
    caller, export_id = ready(content_encoding=False)
    response = caller.download(export_id)
    assert "Content-Encoding" not in response.headers
    assert gzip.decompress(response.content) == caller.emulator.export_bytes(export_id)


@pytest.mark.parametrize(
    ("framing", "present"),
    [("length", "Content-Length"), ("chunked", "Transfer-Encoding"), ("close", "Connection")],
)
def test_what_ends_a_body(ready: Ready, framing: str, present: str) -> None:
    caller, export_id = ready(framing=framing)
    response = caller.download(export_id)
    assert {"Content-Length", "Transfer-Encoding", "Connection"} & response.headers.keys() == {present}
    assert response.content == caller.emulator.export_bytes(export_id)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_gzip_members(ready: Ready, count: int) -> None:
    caller, export_id = ready(gzip_members=count, rows=20_000)
    body = caller.raw(export_id)
    assert members(body) == count
    assert gzip.decompress(body) == caller.emulator.export_bytes(export_id)
    first = zlib.decompressobj(31)
    assert first.decompress(body).endswith(b"\n") is (count == 1)  # members do not end where rows do


def test_an_empty_export_is_a_gzip_of_nothing_or_nothing(ready: Ready) -> None:
    caller, export_id = ready(rows=0)
    body = caller.raw(export_id)
    assert (members(body), gzip.decompress(body)) == (1, b"")
    assert caller.record(export_id)["download_size_uncompressed_bytes"] == 0

    caller, export_id = ready(rows=0, empty_file="nothing")
    assert caller.raw(export_id) == b""
    assert caller.record(export_id)["download_size_compressed_bytes"] == 0


def test_no_ranges_by_default(ready: Ready) -> None:
    caller, export_id = ready()
    response = caller.download(export_id, headers={"Range": "bytes=10-"})
    assert response.status_code == 200
    assert "Accept-Ranges" not in response.headers


@pytest.mark.parametrize(
    ("header", "begin", "end"),
    [("bytes=0-0", 0, 1), ("bytes=100-199", 100, 200), ("bytes=100-", 100, None), ("bytes=-7", -7, None)],
)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_ranges(ready: Ready, framing: str, header: str, begin: int, end: int | None) -> None:
    caller, export_id = ready(ranges=True, framing=framing, content_encoding=False)
    whole = caller.download(export_id)
    part = caller.download(export_id, headers={"Range": header})
    assert (part.status_code, part.content) == (206, whole.content[begin:end])
    size = len(whole.content)
    first = begin % size
    assert part.headers["Content-Range"] == f"bytes {first}-{first + len(part.content) - 1}/{size}"
    assert part.headers["ETag"] == whole.headers["ETag"]
    assert part.headers["Accept-Ranges"] == "bytes"


def test_a_range_beyond_the_end_and_an_invalid_one(ready: Ready) -> None:
    caller, export_id = ready(ranges=True)
    size = caller.record(export_id)["download_size_compressed_bytes"]
    beyond = caller.download(export_id, headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{size}")
    for header in ("bytes=-", "bytes=9-3", "bytes=0-1,4-5", "lines=1-2"):
        assert caller.download(export_id, headers={"Range": header}).status_code == 200


def test_if_range_needs_the_very_same_strong_etag(ready: Ready) -> None:
    caller, export_id = ready(ranges=True, content_encoding=False)
    etag = caller.download(export_id).headers["ETag"]
    assert etag.startswith('"')

    def status(condition: str) -> int:
        return caller.download(export_id, headers={"Range": "bytes=5-", "If-Range": condition}).status_code

    assert status(etag) == 206
    assert status('"other"') == 200
    assert status(f"W/{etag}") == 200
    assert status("Mon, 15 Apr 2024 12:00:00 GMT") == 200


def test_a_weak_etag_never_matches_and_an_etag_can_be_missing(ready: Ready) -> None:
    caller, export_id = ready(ranges=True, etag="weak", content_encoding=False)
    etag = caller.download(export_id).headers["ETag"]
    assert etag.startswith('W/"')
    part = caller.download(export_id, headers={"Range": "bytes=5-", "If-Range": etag})
    assert part.status_code == 200
    caller, export_id = ready(ranges=True, etag="none")
    assert "ETag" not in caller.download(export_id).headers


def test_exports_of_the_same_rows_have_the_same_file(ready: Ready, clock: ManualClock) -> None:
    caller, export_id = ready()
    same, other = caller.export(), caller.export(timeframe="2024-01")
    clock.advance(60)
    tags = [caller.download(each).headers["ETag"] for each in (export_id, same, other)]
    assert tags[0] == tags[1] != tags[2]
