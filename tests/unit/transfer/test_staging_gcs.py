# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Behaviour of Google Cloud Storage alone: resumable uploads, generations, figures that are added after the commit."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any
from weakref import WeakSet

import msgspec
import pytest

from airflow_provider_isvapp.errors import DamagedDownload, DestinationExists, InvalidArgument, StorageFailed
from airflow_provider_isvapp.transfer.staging.base import Provenance, commit_staged
from tests.support.downloads import download_with
from tests.support.file_server import FileResponse, FileServer, gzip_bytes, ndjson
from tests.support.gcs_server import CHUNK_BYTES, GcsServer
from tests.support.object_stores import gcs_client, in_gcs

pytest.importorskip("google.cloud.storage", reason="needs the extra gcs")

from google.auth.credentials import Credentials
from google.cloud.storage import Client

from airflow_provider_isvapp.transfer.staging import gcs
from airflow_provider_isvapp.transfer.staging.bucket import BucketObject, BucketTarget
from airflow_provider_isvapp.transfer.staging.gcs import GcsStore

KEY = "usage/export.ndjson"
URI = f"gs://lake/{KEY}"
OLD = b'{"old":true}\n'
BIG = bytes(range(256)) * 5_000
KNOWN = Provenance(format="ndjson", export_id="e-1", compressed_bytes=7)
FIGURES = msgspec.structs.replace(KNOWN, rows=2, bytes=len(BIG), crc32="00000000", months={"2024-02": 2})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsServer]:
    monkeypatch.setattr(gcs, "CHUNK_BYTES", 2 * CHUNK_BYTES)
    # An object of another test, until it is collected, would take its share of the chunks' memory.
    monkeypatch.setattr(gcs, "_open_objects", WeakSet())
    # Retries wait, but not for seconds.
    monkeypatch.setattr(gcs, "_FIRST_WAIT_SECONDS", 0.01)
    with GcsServer("lake") as server:
        yield server


def store_at(server: GcsServer, *, stall_seconds: float = 30.0, **options: Any) -> GcsStore:
    return GcsStore(gcs_client(server.url), "lake", options=options, stall_seconds=stall_seconds)


def target_at(server: GcsServer, **options: Any) -> BucketTarget:
    return store_at(server, **options).target(KEY, URI)


def staged(
    target: BucketTarget, content: bytes = BIG, *, exclusive: bool = False, flushed: bool = True
) -> BucketObject:
    began = target.stage(exclusive=exclusive, content_type="application/x-ndjson", provenance=KNOWN)
    for begin in range(0, len(content), 100_000):
        began.write(memoryview(content)[begin : begin + 100_000])
    if flushed:
        began.flush(FIGURES)
    return began


def publish(target: BucketTarget, content: bytes = BIG) -> None:
    staged(target, content).commit()


def content_of(server: GcsServer) -> bytes | None:
    found = server.store.buckets["lake"].get(KEY)
    return None if found is None else bytes(found[1])


def open_uploads(server: GcsServer) -> int:
    return sum(1 for session in server.store.sessions.values() if session is not None and session.created is None)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, 2 * CHUNK_BYTES, 2 * CHUNK_BYTES + 1, len(BIG)])
def test_exact_bytes_with_type_and_figures(server: GcsServer, size: int) -> None:
    target = target_at(server)

    info = staged(target, BIG[:size]).commit()

    resource, content = server.store.buckets["lake"][KEY]
    assert content == BIG[:size]
    assert resource["contentType"] == "application/x-ndjson"
    assert info.provenance == FIGURES
    assert info == target.info()
    # The upload of a single chunk begins when the figures are known.
    assert any(request.startswith("PATCH") for request in server.seen) == (size > 2 * CHUNK_BYTES)


def test_nothing_shows_before_the_last_step(server: GcsServer) -> None:
    publish(target_at(server), OLD)
    new = staged(target_at(server))
    assert content_of(server) == OLD
    assert list(store_at(server).names("")) == ["usage"]
    new.commit()
    assert content_of(server) == BIG


@pytest.mark.parametrize("content", [BIG, OLD], ids=["chunks", "one chunk"])
def test_an_aborted_upload_is_cancelled(server: GcsServer, content: bytes) -> None:
    aborted = staged(target_at(server), content)
    assert open_uploads(server) == 1
    aborted.abort()
    assert open_uploads(server) == 0
    assert content_of(server) is None


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_chunk_that_arrives_in_part_continues_there(server: GcsServer, status: int) -> None:
    """The storage has stored some of the bytes, and reports that in its status response."""
    interrupted: list[str] = []

    def keeps_a_part(request: Any) -> int | None:
        if request.command == "PUT" and len(request.body) > CHUNK_BYTES and len(interrupted) < 2:
            interrupted.append(request.headers["Content-Range"])
            next(iter(server.store.sessions.values())).append(request.body[:CHUNK_BYTES])  # type: ignore[union-attr]
            return status
        return None

    server.fault = keeps_a_part
    publish(target_at(server))

    assert len(interrupted) == 2
    assert content_of(server) == BIG


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("content", [BIG, OLD, b""], ids=["chunks", "one chunk", "empty"])
def test_a_lost_response_is_requested_again(server: GcsServer, content: bytes, exclusive: bool) -> None:
    lost: set[str] = set()

    def first_time(request: Any) -> bool:
        position = request.headers.get("Content-Range")
        known = position in lost
        lost.add(position)
        return request.command == "PUT" and not known and "*/*" not in position

    server.loses_response = first_time
    staged(target_at(server), content, exclusive=exclusive).commit()

    assert content_of(server) == content
    assert len(lost) > 1


def test_a_publication_without_any_response_is_recognised(server: GcsServer) -> None:
    target = target_at(server, stall_seconds=0.5)
    new = staged(target, exclusive=True)
    server.loses_response = lambda request: request.command == "PUT"

    info = commit_staged(new, target, uri=URI, if_exists="fail")

    assert info is not None
    assert info.write_id == new.write_id
    assert content_of(server) == BIG


@pytest.mark.parametrize("content", [BIG, OLD], ids=["chunks", "one chunk"])
def test_an_object_that_appears_meanwhile_stays(server: GcsServer, content: bytes) -> None:
    new = staged(target_at(server), content, exclusive=True)
    publish(target_at(server), b"other")

    with pytest.raises(DestinationExists, match=URI):
        new.commit()
    new.abort()
    assert content_of(server) == b"other"


def test_of_two_writers_the_one_that_commits_last_fails(server: GcsServer) -> None:
    publish(target_at(server), OLD)
    first, second = staged(target_at(server)), staged(target_at(server), b"second")
    first.commit()

    with pytest.raises(StorageFailed, match="Another writer replaced gs://lake"):
        second.commit()
    second.abort()
    assert content_of(server) == BIG


def flips_a_byte(request: Any) -> None:
    if request.command == "PUT" and len(request.body) >= CHUNK_BYTES:
        request.body = b"\xff" + request.body[1:]


@pytest.mark.parametrize("server_checks", [True, False])
def test_a_flipped_byte_is_not_published(server: GcsServer, server_checks: bool) -> None:
    publish(target_at(server), OLD)

    def fault(request: Any) -> None:
        flips_a_byte(request)
        if not server_checks:
            del request.headers["x-goog-hash"]

    server.fault = fault
    new = staged(target_at(server))
    with pytest.raises(StorageFailed, match="match" if server_checks else "damaged in transit.*It was deleted"):
        new.commit()
    new.abort()
    assert content_of(server) == (OLD if server_checks else None)
    assert open_uploads(server) == 0


def test_figures_that_cannot_be_added_do_not_undo_the_publication(
    server: GcsServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.store.denied.add("storage.objects.update")
    target = target_at(server)
    staged(target).commit()

    info = target.info()
    assert content_of(server) == BIG
    assert info is not None
    assert info.provenance == KNOWN
    assert "needs the permission storage.objects.update" in caplog.text


def test_figures_are_not_added_to_what_another_writer_changed(server: GcsServer) -> None:
    def changes_it_first(request: Any) -> None:
        if request.command == "PATCH" and "ifMetagenerationMatch" in request.path:
            server.store.buckets["lake"][KEY][0]["metageneration"] = "9"

    server.fault = changes_it_first
    target = target_at(server)
    staged(target).commit()

    info = target.info()
    assert info is not None
    assert info.provenance == KNOWN


@pytest.mark.parametrize("step", ["POST", "PUT"])
def test_silence_fails_the_write_in_time(server: GcsServer, step: str) -> None:
    over = threading.Event()
    server.fault = lambda request: over.wait(30) and None if request.command == step else None
    new = target_at(server, stall_seconds=0.5).stage(exclusive=True, content_type="text/plain", provenance=None)
    started = time.monotonic()

    with pytest.raises(StorageFailed, match="made no progress"):
        new.write(bytes(10 * CHUNK_BYTES))
    new.abort()

    assert time.monotonic() - started < 20
    over.set()


class Renewable(Credentials):  # type: ignore[misc]
    def refresh(self, request: Any) -> None:
        self.token = "new"


def test_a_chunk_is_sent_whole_after_a_token_was_refused(server: GcsServer) -> None:
    """google-auth sends the request again with a new token, and does not rewind its body."""
    lengths: list[str | None] = []

    def refuses_the_first(request: Any) -> int | None:
        if request.command != "PUT":
            return None
        lengths.append(request.headers.get("Content-Length"))
        return 401 if len(lengths) == 1 else None

    server.fault = refuses_the_first
    client = Client(project="test", credentials=Renewable(), client_options={"api_endpoint": server.url})
    publish(GcsStore(client, "lake").target(KEY, URI))
    assert lengths[0] == lengths[1] == str(2 * CHUNK_BYTES)
    assert content_of(server) == BIG


def test_a_storage_that_is_unavailable_for_long_fails_the_write(server: GcsServer) -> None:
    server.fault = lambda request: 503 if request.command == "PUT" else None
    new = target_at(server, stall_seconds=0.5).stage(exclusive=True, content_type="text/plain", provenance=None)
    with pytest.raises(StorageFailed, match="made no progress"):
        new.write(bytes(10 * CHUNK_BYTES))
    new.abort()


def test_an_aborted_upload_sends_nothing_more(server: GcsServer) -> None:
    earlier = set(threading.enumerate())
    server.fault = lambda request: 503 if request.command == "PUT" else None
    new = staged(target_at(server, stall_seconds=0.5), OLD)
    with pytest.raises(StorageFailed, match="made no progress"):
        new.commit()

    # Before the caller aborts it: a chunk that arrives now would publish the failed object.
    for thread in set(threading.enumerate()) - earlier:
        if thread.name == "isvapp-storage":
            thread.join(60)
            assert not thread.is_alive()
    server.fault = lambda request: None
    assert content_of(server) is None
    new.abort()


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "Check the credentials of the Google Cloud connection"),
        (403, "Storage Object User"),
        (404, "no longer exists"),
        (410, "no longer exists"),
        (400, "A fault of the test's"),
    ],
)
def test_a_refusal_of_the_storage_names_the_next_step(
    server: GcsServer, caplog: pytest.LogCaptureFixture, status: int, says: str
) -> None:
    caplog.set_level(logging.INFO, "airflow_provider_isvapp")
    publish(target_at(server), OLD)
    new = staged(target_at(server), BIG + bytes(CHUNK_BYTES), flushed=False)
    server.fault = lambda request: status if request.command == "PUT" else None

    with pytest.raises(StorageFailed, match=says) as raised:
        new.flush()
    new.abort()

    assert content_of(server) == OLD
    # Anyone who knows it may write.
    (upload_id,) = [name for name, session in server.store.sessions.items() if session is None]
    assert upload_id not in f"{raised.value} {raised.value.__cause__} {raised.value.__context__} {caplog.text}"


def test_a_bucket_that_is_missing(server: GcsServer) -> None:
    target = GcsStore(gcs_client(server.url), "nope").target(KEY, "gs://nope/x")
    with pytest.raises(StorageFailed, match=r"gs://nope/x.*The specified bucket does not exist.*Create the bucket"):
        target.info()
    new = target.stage(exclusive=True, content_type="text/plain", provenance=None)
    with pytest.raises(StorageFailed, match=r"Could not publish .*Create the bucket"):
        new.flush()


def test_options_reach_the_object(server: GcsServer) -> None:
    server.store.requester_pays.add("lake")
    with pytest.raises(StorageFailed, match="no user project"):
        target_at(server).info()
    options = {"kms_key_name": "projects/p/k", "predefined_acl": "projectPrivate", "storage_class": "NEARLINE"}
    target = target_at(server, user_project="payer", **options)
    target.check()
    publish(target)

    resource, _ = server.store.buckets["lake"][KEY]
    assert (resource["kmsKeyName"], resource["storageClass"]) == ("projects/p/k", "NEARLINE")
    assert any("predefinedAcl=projectPrivate" in request for request in server.seen)
    with target.open() as stored:
        assert stored.read() == BIG


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"acl": "private"}, "takes no 'acl' here. It takes kms_key_name, predefined_acl, storage_class, user_project"),
        ({"storage_class": "COLD"}, "storage_class must be one of ARCHIVE, COLDLINE.*not 'COLD'"),
        ({"predefined_acl": "mine"}, "predefined_acl: .*mine"),
        ({"kms_key_name": 1}, "kms_key_name must be a text, not 1"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_sent(
    server: GcsServer, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidArgument, match=says):
        target_at(server, **options).check()
    assert server.seen == []


@pytest.mark.parametrize("rows", [10, 30_000], ids=["one chunk", "chunks"])
def test_a_rerun_reads_nothing_again(server: GcsServer, rows: int) -> None:
    place = in_gcs(gcs_client(server.url), f"lake/{KEY}")
    with FileServer(FileResponse(gzip_bytes(ndjson(rows)))) as vendor:
        first = download_with(vendor.source(), place, export_id="e-1")
        again = download_with(vendor.source(), place, export_id="e-1")
    assert (first.outcome, again.outcome) == ("written", "unchanged")
    assert (again.rows, again.crc32, again.months) == (first.rows, first.crc32, first.months)
    assert not any("alt=media" in request for request in server.seen)


def test_a_rerun_of_months_knows_them_without_the_request(server: GcsServer) -> None:
    months = [f"2024-{month:02}" for month in range(1, 13)]
    place = in_gcs(gcs_client(server.url), "lake/{reference_date}/usage.ndjson")
    with FileServer(FileResponse(gzip_bytes(ndjson(36_000, months=months)))) as vendor:
        options: dict[str, Any] = {"export_id": "e-1", "partition_by": "reference_date"}
        first = download_with(vendor.source(), place, **options)
        again = download_with(vendor.source(), place, **options)
    assert (first.outcome, again.outcome) == ("written", "unchanged")
    assert sorted(server.store.buckets["lake"]) == [f"{month}/usage.ndjson" for month in months]
    assert again.months == first.months
    assert not any("alt=media" in request for request in server.seen)


@pytest.mark.parametrize("rows", [10, 30_000], ids=["one chunk", "chunks"])
def test_a_damaged_download_publishes_nothing(server: GcsServer, rows: int) -> None:
    publish(target_at(server), OLD)
    place = in_gcs(gcs_client(server.url), f"lake/{KEY}")
    with FileServer(FileResponse(gzip_bytes(ndjson(rows))[:-1])) as vendor, pytest.raises(DamagedDownload):
        download_with(vendor.source(), place, attempts=1)
    assert content_of(server) == OLD
    assert open_uploads(server) == 0


def test_objects_at_the_same_time_share_the_memory_of_one(server: GcsServer) -> None:
    store = store_at(server)
    months = [store.target(name, name).stage(exclusive=True, content_type="x/y", provenance=None) for name in "abcd"]
    for month in months:
        month.write(BIG)
        month.flush()
        month.commit()
    sizes = [len(session.data) for session in server.store.sessions.values() if session is not None]
    assert sizes == [len(BIG)] * 4
    chunks = [request for request in server.seen if request.startswith("PUT")]
    assert len(chunks) >= 4 * len(BIG) // (2 * CHUNK_BYTES) + 4


def test_names_are_listed_page_by_page(server: GcsServer) -> None:
    names = [f"m/{number:04}.ndjson" for number in range(1_200)]
    server.store.buckets["lake"].update({name: ({"name": name}, bytearray()) for name in [*names, "m/x/1", "n/1"]})
    assert list(store_at(server).names("m/")) == [*names, "m/x"]


def test_reading_stays_with_the_object_that_was_opened(server: GcsServer) -> None:
    target = target_at(server)
    publish(target)
    with target.open() as stored:
        assert stored.seek(-5, 2) == len(BIG) - 5
        assert stored.read() == BIG[-5:]
    with pytest.raises(StorageFailed, match="replaced meanwhile"):
        read_while_replaced(target)


def read_while_replaced(target: BucketTarget) -> None:
    with target.open() as stored:
        publish(target, b"newer")
        stored.read()
