# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Downloads to Azure Blob Storage, against azurite: the old blob or the whole new one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_isvapp.errors import DamagedDownload, DestinationExists
from airflow_provider_isvapp.transfer.destination import Destination
from airflow_provider_isvapp.transfer.results import Outcome, WriteResult
from airflow_provider_isvapp.transfer.staging import fsspec
from airflow_provider_isvapp.transfer.staging.fsspec import FsspecStore
from tests.support.downloads import download_with
from tests.support.file_server import Answer, FileServer, gzip_bytes, ndjson
from tests.support.object_stores import free_port, running

adlfs = pytest.importorskip("adlfs", reason="the extra 'azure' is not installed")

# The account that azurite documents; it is the same everywhere.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
PATH = "lake/usage/export.ndjson"
OLD = b'{"old":true}\n'
BIG = ndjson(4_000)


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("no azurite-blob: npm install --global azurite")
    port = free_port()
    options = ["--blobPort", str(port), "--inMemoryPersistence", "--silent", "--skipApiVersionCheck"]
    with running([program, *options], port, cwd=tmp_path_factory.mktemp("azurite")):
        yield f"http://127.0.0.1:{port}/{ACCOUNT}"


@pytest.fixture
def destination(azurite: str, monkeypatch: pytest.MonkeyPatch) -> Destination:
    monkeypatch.setattr(fsspec, "BLOCK_BYTES", 500_000)
    connection = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={azurite};"
    fs = adlfs.AzureBlobFileSystem(connection_string=connection, skip_instance_cache=True)
    if not fs.exists("lake"):
        fs.mkdir("lake")
    fs.pipe_file(PATH, OLD, overwrite=True)
    return at(fs, PATH)


def at(fs: Any, path: str) -> Destination:
    bucket, _, key = path.partition("/")
    return Destination(store=FsspecStore(fs, bucket, namespace="abfs://lake"), key=key, uri=f"abfs://{path}")


def fs_of(destination: Destination) -> Any:
    store: Any = destination.store
    return store.fs


def download(body: bytes, destination: Destination, **options: Any) -> WriteResult:
    with FileServer(Answer(body)) as server:
        return download_with(server.source(), destination, attempts=1, **options)


def read(destination: Destination) -> bytes:
    fs_of(destination).invalidate_cache()
    content: bytes = fs_of(destination).cat_file(f"lake/{destination.key}")
    return content


@pytest.mark.parametrize("plain", [BIG, ndjson(10), b""], ids=["blocks", "one block", "empty"])
def test_exact_bytes(destination: Destination, plain: bytes) -> None:
    result = download(gzip_bytes(plain), destination, min_rows=0)
    assert read(destination) == plain
    assert result.bytes == len(plain)


@pytest.mark.parametrize("plain", [BIG, ndjson(10)], ids=["blocks", "one block"])
def test_a_damaged_download_publishes_nothing(destination: Destination, plain: bytes) -> None:
    with pytest.raises(DamagedDownload):
        download(gzip_bytes(plain)[:-1], destination)
    assert read(destination) == OLD


def test_a_rerun_downloads_nothing(destination: Destination) -> None:
    first = download(gzip_bytes(BIG), destination, export_id="e-1")
    again = download(b"", destination, export_id="e-1")
    assert (first.outcome, again.outcome) == (Outcome.WRITTEN, Outcome.UNCHANGED)
    assert (again.rows, again.crc32, again.months) == (first.rows, first.crc32, first.months)


def test_a_rerun_of_a_parquet_file_downloads_nothing(destination: Destination) -> None:
    """Its provenance had to be sent before the figures were known: they come from the footer."""
    pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    options = {"export_id": "e-1", "output_format": "parquet"}
    first = download(gzip_bytes(BIG), destination, **options)
    again = download(b"", destination, **options)
    assert again.outcome is Outcome.UNCHANGED
    assert (again.rows, again.bytes, again.crc32, again.months) == (first.rows, first.bytes, first.crc32, first.months)


def test_a_rerun_of_a_divided_export_downloads_nothing(destination: Destination) -> None:
    """No provenance says which months there are: the request does."""
    months = ["2024-02", "2024-03"]
    body = gzip_bytes(ndjson(400, months=months))
    template = at(fs_of(destination), "lake/months/{reference_date}")
    options: dict[str, Any] = {"export_id": "e-1", "partition_by": "reference_date"}
    first = download(body, template, expected_months=months, **options)
    again = download(b"", template, expected_months=months, **options)
    assert (first.outcome, again.outcome) == (Outcome.WRITTEN, Outcome.UNCHANGED)
    assert (again.rows, again.months) == (400, first.months)
    assert download(b"", template, expected_months=2, **options).outcome is Outcome.UNCHANGED
    for unknown in (None, 3, [*months, "2024-04"]):
        assert download(body, template, expected_months=unknown, **options).outcome is Outcome.WRITTEN


def test_fail_is_decided_by_the_storage_in_the_last_step(destination: Destination) -> None:
    fs_of(destination).rm_file(PATH)
    appeared: list[None] = []

    def cancelled() -> bool:
        if not appeared:
            appeared.append(None)
            fs_of(destination).pipe_file(PATH, OLD)
        return False

    with pytest.raises(DestinationExists):
        download(gzip_bytes(BIG), destination, if_exists="fail", cancelled=cancelled)
    assert read(destination) == OLD
