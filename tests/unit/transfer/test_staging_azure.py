# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Downloads to Azure Blob Storage, against azurite: the old blob or the whole new one."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_isvapp.errors import DamagedDownload, DestinationExists, InvalidArgument, StorageFailed
from airflow_provider_isvapp.transfer.destination import Destination
from airflow_provider_isvapp.transfer.results import Outcome, WriteResult
from airflow_provider_isvapp.transfer.staging.base import Provenance
from airflow_provider_isvapp.transfer.staging.bucket import PartPool
from tests.support.downloads import download_with
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.file_server import FileResponse, FileServer, gzip_bytes, ndjson
from tests.support.object_stores import AZURE_ACCOUNT, AZURE_KEY

blob = pytest.importorskip("azure.storage.blob", reason="the extra 'azure' is not installed")
from azure.core.exceptions import ResourceNotFoundError  # noqa: E402

from airflow_provider_isvapp.transfer.staging import azure  # noqa: E402

OLD = b'{"old":true}\n'
BIG = ndjson(4_000)
KEY = "usage/export.ndjson"
URI = f"abfs://lake/{KEY}"
STAGING: dict[str, Any] = {"exclusive": False, "content_type": "application/x-ndjson", "provenance": None}


class Container:
    """An empty container.

    :ivar requests: the client's requests.
    """

    def __init__(self, url: str) -> None:
        self.requests: list[Any] = []
        self.service = blob.BlobServiceClient(
            url,
            credential=AZURE_KEY,
            retry_total=1,
            initial_backoff=0,
            increment_base=0,
            random_jitter_range=0,
            **azure.CLIENT_OPTIONS | {"raw_request_hook": lambda request: self.requests.append(request.http_request)},
        )
        self.client = self.service.get_container_client("lake")
        with suppress(ResourceNotFoundError):
            self.client.delete_container()
        self.client.create_container()
        self.requests.clear()

    def store(self, **arguments: Any) -> Any:
        return azure.AzureStore(self.service, "lake", **arguments)

    def destination(self, key: str = KEY, **arguments: Any) -> Destination:
        return Destination(store=self.store(**arguments), key=key, uri=f"abfs://lake/{key}")

    def target(self, **arguments: Any) -> Any:
        return self.store(**arguments).target(KEY, URI)

    def put(self, content: bytes = OLD, **arguments: Any) -> None:
        self.client.upload_blob(KEY, content, overwrite=True, **arguments)

    def read(self, key: str = KEY) -> bytes:
        content: bytes = self.client.download_blob(key).readall()
        return content


@pytest.fixture
def container(azure_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Container]:
    monkeypatch.setattr(azure, "BLOCK_BYTES", 100_000)
    monkeypatch.setattr(azure.AzureObject, "pool", PartPool(8))
    container = Container(azure_server)
    with container.service:
        yield container


def download(body: bytes, destination: Destination, **options: Any) -> WriteResult:
    with FileServer(FileResponse(body)) as server:
        return download_with(server.source(), destination, attempts=1, **options)


@pytest.mark.parametrize("plain", [BIG, ndjson(10), b""], ids=["blocks", "one block", "empty"])
def test_exact_bytes_and_their_metadata(container: Container, plain: bytes) -> None:
    result = download(gzip_bytes(plain), container.destination(), min_rows=0)
    assert container.read() == plain
    assert result.bytes == len(plain)
    properties = container.client.get_blob_client(KEY).get_blob_properties()
    assert properties.content_settings.content_type == "application/x-ndjson"
    assert properties.content_settings.content_encoding is None
    assert bytes(properties.content_settings.content_md5) == hashlib.md5(plain).digest()


@pytest.mark.parametrize("plain", [BIG, ndjson(10)], ids=["blocks", "one block"])
def test_a_damaged_download_publishes_nothing(container: Container, plain: bytes) -> None:
    container.put()
    with pytest.raises(DamagedDownload):
        download(gzip_bytes(plain)[:-1], container.destination())
    assert container.read() == OLD


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}, {"output_format": "parquet"}], ids=str)
def test_a_rerun_downloads_nothing_and_reads_no_content(container: Container, options: dict[str, Any]) -> None:
    if options.get("output_format") == "parquet":
        pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    destination = container.destination("usage/export.gz")
    first = download(gzip_bytes(BIG), destination, export_id="e-1", **options)
    container.requests.clear()
    again = download(b"", destination, export_id="e-1", **options)
    assert (first.outcome, again.outcome) == (Outcome.WRITTEN, Outcome.UNCHANGED)
    assert (again.rows, again.bytes, again.crc32, again.months) == (first.rows, first.bytes, first.crc32, first.months)
    assert {request.method for request in container.requests} == {"HEAD"}


def test_a_rerun_of_a_divided_export_needs_no_expected_months(container: Container) -> None:
    months = ["2024-02", "2024-03"]
    template = container.destination("months/{reference_date}")
    options: dict[str, Any] = {"export_id": "e-1", "partition_by": "reference_date"}
    first = download(gzip_bytes(ndjson(400, months=months)), template, **options)
    again = download(b"", template, **options)
    assert (first.outcome, again.outcome) == (Outcome.WRITTEN, Outcome.UNCHANGED)
    assert (again.rows, again.months) == (400, first.months)


@pytest.mark.parametrize(
    ("if_exists", "outcome"), [("fail", DestinationExists), ("skip", Outcome.SKIPPED), ("overwrite", Outcome.WRITTEN)]
)
def test_a_blob_that_appears_meanwhile(container: Container, if_exists: str, outcome: Any) -> None:
    """The service decides in the last step."""
    appeared: list[None] = []

    def cancelled() -> bool:
        if not appeared:
            appeared.append(None)
            container.put()
        return False

    def write() -> WriteResult:
        return download(gzip_bytes(BIG), container.destination(), if_exists=if_exists, cancelled=cancelled)

    if isinstance(outcome, Outcome):
        assert write().outcome is outcome
    else:
        with pytest.raises(outcome):
            write()
    assert container.read() == (BIG if outcome is Outcome.WRITTEN else OLD)


def put_append_blob(container: Container) -> None:
    container.client.get_blob_client(KEY).create_append_blob()


def put_folder(container: Container) -> None:
    container.put(b"", metadata={"hdi_isfolder": "true"})


def delete_container(container: Container) -> None:
    container.client.delete_container()


@pytest.mark.parametrize(
    ("prepare", "error", "message"),
    [
        (put_append_blob, InvalidArgument, "blob of the type AppendBlob"),
        (put_folder, InvalidArgument, "is a folder"),
        (delete_container, StorageFailed, "404 ContainerNotFound.* Create the container"),
    ],
)
def test_an_impossible_target_is_refused_before_any_request_to_the_vendor(
    container: Container, prepare: Any, error: type[Exception], message: str
) -> None:
    prepare(container)
    with FileServer() as server, pytest.raises(error, match=message):
        download_with(server.source(), container.destination())
    assert server.requested_ranges == []


def hold_a_lease(container: Container) -> None:
    container.put()
    container.client.get_blob_client(KEY).acquire_lease(60)


def leave_blocks_of_another_program(container: Container) -> None:
    container.client.get_blob_client(KEY).stage_block("1", b"x")


def write_150_kb(staged: Any) -> None:
    staged.write(b"x" * 150_000)
    staged.flush()
    staged.commit()


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (hold_a_lease, "412 LeaseIdMissing.* Another client holds a lease"),
        (put_append_blob, "409 InvalidBlobType.* delete it"),
        (delete_container, "404 ContainerNotFound.* Create the container"),
        (leave_blocks_of_another_program, "400 InvalidBlobOrBlock.* Another program has left an unfinished upload"),
    ],
)
@pytest.mark.parametrize("exclusive", [False, True], ids=["overwrite", "exclusive"])
def test_refusals_of_the_service_are_distinguished(
    container: Container, prepare: Any, message: str, exclusive: bool
) -> None:
    """Only one refusal means that the blob exists."""
    prepare(container)
    staged = container.target().stage(**STAGING | {"exclusive": exclusive})
    with pytest.raises(StorageFailed, match=message):
        write_150_kb(staged)
    staged.abort()


def test_of_two_writers_the_first_to_commit_wins(container: Container) -> None:
    first, second = (container.target().stage(**STAGING) for _ in range(2))
    for staged, content in ((first, b"1" * 250_000), (second, b"2" * 250_000)):
        staged.write(content)
        staged.flush()
    assert first.commit().write_id == container.target().info().write_id
    with pytest.raises(StorageFailed, match="Another writer replaced abfs://lake/usage"):
        second.commit()
    assert container.read() == b"1" * 250_000


@pytest.mark.parametrize("there", [True, False], ids=["replaced", "new"])
def test_the_right_to_write_is_tried_without_a_trace(container: Container, azure_server: str, there: bool) -> None:
    if there:
        container.put()
    container.target().check_rights()
    assert [item.name for item in container.client.list_blobs(include=["uncommittedblobs"])] == [KEY] * there
    assert not there or container.read() == OLD
    for permission, message in (("rcw", None), ("r", "403 Authorization")):
        token = blob.generate_account_sas(
            AZURE_ACCOUNT,
            AZURE_KEY,
            resource_types="sco",
            permission=permission,
            expiry=datetime.now(UTC) + timedelta(hours=1),
        )
        target = azure.AzureStore(blob.BlobServiceClient(azure_server, credential=token), "lake").target(KEY, URI)
        with pytest.raises(StorageFailed, match=message) if message else nullcontext():
            target.check_rights()


def test_blocks_of_a_failed_write_stay_until_the_next_one(container: Container) -> None:
    """No request drops the blocks, as the documentation says."""
    container.put()
    blob_client = container.client.get_blob_client(KEY)
    failed = container.target().stage(**STAGING)
    failed.write(b"x" * 250_000)
    failed.flush()
    failed.abort()
    assert len(blob_client.get_block_list("uncommitted")[1]) == 3
    download(gzip_bytes(BIG), container.destination())
    assert blob_client.get_block_list("uncommitted")[1] == []


def test_a_cancelled_write_is_not_published_later(container: Container, azure_server: str) -> None:
    """The client retries the last request after the caller has cancelled."""
    container.put()
    behind, _, account = azure_server.rpartition("/")
    with FaultProxy(behind, lambda status: ({}, b"")) as proxy:
        proxy.fault = Fault("silence", lambda method, path: "comp=blocklist" in path, times=1)
        options = {"read_timeout": 2, "initial_backoff": 0, "increment_base": 0, "random_jitter_range": 0}
        service = blob.BlobServiceClient(
            f"{proxy.url}/{account}", credential=AZURE_KEY, **options, **azure.CLIENT_OPTIONS
        )
        staged = azure.AzureStore(service, "lake", stall_seconds=1).target(KEY, URI).stage(**STAGING)
        staged.write(BIG)
        staged.flush()
        with pytest.raises(StorageFailed, match="made no progress"):
            staged.commit()
        time.sleep(3)
    assert container.read() == OLD


def test_the_options_of_the_store_are_those_of_the_blob(container: Container) -> None:
    options = {"standard_blob_tier": "Cool", "tags": {"team": "data lake"}}
    download(gzip_bytes(BIG), container.destination(options=options))
    client = container.client.get_blob_client(KEY)
    assert client.get_blob_properties().blob_tier == "Cool"
    assert client.get_blob_tags() == {"team": "data lake"}


def test_an_encryption_scope_goes_with_every_block_and_the_list_of_them(container: Container) -> None:
    download(gzip_bytes(BIG), container.destination(options={"encryption_scope": "ours"}))
    scopes = [request.headers.get("x-ms-encryption-scope") for request in container.requests if request.method == "PUT"]
    assert len(scopes) > 2
    assert set(scopes) == {"ours"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"StorageClass": "GLACIER"},
            "Azure takes no 'StorageClass' here. It takes encryption_scope, standard_blob_tier",
        ),
        (
            {"standard_blob_tier": "Cheap"},
            "standard_blob_tier must be one of Archive, Cool, .*, not 'Cheap'",
        ),
        ({"encryption_scope": 1}, "encryption_scope must be a name, not 1"),
        ({"tags": {"a": 1}}, "tags cannot be"),
        ({"tags": {"a": "ä"}}, "tags cannot be"),
        ({"tags": {str(n): "" for n in range(11)}}, "tags cannot be"),
    ],
    ids=str,
)
def test_an_option_that_azure_does_not_take_is_refused_first(
    container: Container, options: dict[str, Any], message: str
) -> None:
    with FileServer() as server, pytest.raises(InvalidArgument, match=f"storage_options: {message}"):
        download_with(server.source(), container.destination(options=options))
    assert (server.requested_ranges, container.requests) == ([], [])


def read_what_is_replaced(container: Container) -> None:
    with container.target().open() as stored:
        container.put()
        stored.read()


def test_a_blob_is_read_as_it_was_when_it_was_opened(container: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure.AzureTarget, "range_bytes", 1_000)
    container.put(BIG)
    with container.target().open() as stored:
        assert (stored.read(1_500), stored.seek(-7, 2), stored.read()) == (BIG[:1_500], len(BIG) - 7, BIG[-7:])
    with pytest.raises(StorageFailed, match=r"412 ConditionNotMet.* The blob was replaced meanwhile"):
        read_what_is_replaced(container)


@pytest.mark.parametrize("url", ["http://account:port/", "http://127.0.0.1:9/account", "https://account.invalid/"])
def test_no_error_shows_the_signature_of_a_token(url: str) -> None:
    client = blob.BlobServiceClient(f"{url}?sv=2026-01-01&sig=s3cr3t%2Bsignature", retry_total=0)
    with pytest.raises(StorageFailed, match="Check that the service is reachable") as raised:
        azure.AzureStore(client, "lake").target(KEY, URI).info()
    assert "s3cr3t" not in "".join(traceback.format_exception(raised.value))


class SlowServer:
    """Reads one request slowly for some seconds, and responds that a block is created.

    :ivar began: set when the request's headers have arrived.
    :ivar client_left: set if the client closes the connection.
    """

    def __init__(self, *, bytes_per_second: float, seconds: float = 4) -> None:
        self._seconds = seconds
        self.began = threading.Event()
        self.client_left = threading.Event()
        self._pace = bytes_per_second
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/{AZURE_ACCOUNT}"
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> SlowServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            connection, _ = self._listener.accept()
            with connection:
                head, _, body = self._received(connection, b"").partition(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                taken = len(body)
                self.began.set()
                fast = time.monotonic() + self._seconds
                while taken < length:
                    piece = connection.recv(16_384)
                    if not piece:
                        self.client_left.set()
                        return
                    taken += len(piece)
                    if time.monotonic() < fast:
                        time.sleep(len(piece) / self._pace)
                connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    @staticmethod
    def _received(connection: socket.socket, data: bytes) -> bytes:
        while b"\r\n\r\n" not in data:
            data += connection.recv(16_384)
        return data


def test_a_slow_line_has_the_connections_timeout_for_each_piece() -> None:
    """And not for the block: eight blocks of 4 MiB at a time need 1.7 MB/s to be sent within the SDK's 20 s."""
    with SlowServer(bytes_per_second=300_000) as server:
        client = blob.BlobServiceClient(server.url, credential=AZURE_KEY, retry_total=0, connection_timeout=2)
        staged = azure.AzureStore(client, "lake").target(KEY, URI).stage(**STAGING)
        staged.write(b"x" * azure.BLOCK_BYTES)
        staged.flush(Provenance(format="ndjson"))


def test_an_aborted_write_stops_at_its_next_piece() -> None:
    with SlowServer(bytes_per_second=1_000_000) as server:
        client = blob.BlobServiceClient(server.url, credential=AZURE_KEY, retry_total=0)
        staged = azure.AzureStore(client, "lake").target(KEY, URI).stage(**STAGING)
        staged.write(b"x" * azure.BLOCK_BYTES)
        assert server.began.wait(10)
        staged.abort()
        assert server.client_left.wait(10)
