# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Faults between this package and a storage: every storage has the old object or the whole new one."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_provider_isvapp.errors import DestinationExists, StorageFailed
from airflow_provider_isvapp.transfer.destination import Destination, local_destination
from airflow_provider_isvapp.transfer.staging import base, bucket, s3
from airflow_provider_isvapp.transfer.staging.base import ObjectInfo, Provenance, StagedObject
from airflow_provider_isvapp.transfer.staging.local import LocalStore
from airflow_provider_isvapp.transfer.threads import Watchdog
from tests.support import ROOT
from tests.support.fault_proxy import Fault, FaultProxy, Kind
from tests.support.object_stores import AZURE_KEY, gcs_client, in_fsspec, in_gcs, in_s3, s3_client, s3_refusal
from tests.support.tls_server import server_context

OLD = b'{"old":true}\n'
SMALL = b'{"new":true}\n' * 100
# Three parts of S3's minimum size.
LARGE = bytes(range(256)) * (11 * 4096)
IfExists = Literal["overwrite", "skip", "fail"]
Step = Literal["begin", "send", "publish"]


class Storage(ABC):
    """A storage, with access to its content without the proxy."""

    proxy: FaultProxy
    # Code that defines ``destination`` in another process; without it, no test kills a process.
    in_a_process: str | None = None
    # Azure has no request that drops the blocks of one write.
    keeps_staged = False

    @abstractmethod
    def destination(self, *, stall_seconds: float = 30.0) -> Destination:
        """The location of the object, through the proxy."""

    @abstractmethod
    def put(self, content: bytes) -> None:
        """Write an object without the package."""

    @abstractmethod
    def read(self) -> bytes | None:
        """The object's content; None without an object."""

    @abstractmethod
    def clear(self) -> None:
        """Remove everything."""

    @abstractmethod
    def leftovers(self) -> int:
        """The number of unfinished uploads that the storage lists."""

    @abstractmethod
    def is_step(self, step: Step, content: bytes, method: str, path: str) -> bool:
        """Whether a request is the one that begins the upload, sends bytes of it, or publishes it."""


class S3(Storage):
    def __init__(self, server: str, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self._direct = s3_client(server)
        self._through = s3_client(proxy.url, read_timeout=10)
        self._direct.create_bucket(Bucket="faults")
        self.in_a_process = (
            "from tests.support.object_stores import in_s3, s3_client\n"
            f"destination = in_s3(s3_client({proxy.url!r}), 'faults/a folder/object')\n"
        )

    def destination(self, *, stall_seconds: float = 30.0) -> Destination:
        return in_s3(self._through, "faults/a folder/object", stall_seconds=stall_seconds)

    def put(self, content: bytes) -> None:
        self._direct.put_object(Bucket="faults", Key="a folder/object", Body=content)

    def read(self) -> bytes | None:
        try:
            content: bytes = self._direct.get_object(Bucket="faults", Key="a folder/object")["Body"].read()
        except self._direct.exceptions.NoSuchKey:
            return None
        return content

    def clear(self) -> None:
        self._direct.delete_object(Bucket="faults", Key="a folder/object")
        for upload in self._direct.list_multipart_uploads(Bucket="faults").get("Uploads", []):
            self._direct.abort_multipart_upload(Bucket="faults", Key=upload["Key"], UploadId=upload["UploadId"])

    def leftovers(self) -> int:
        return len(self._direct.list_multipart_uploads(Bucket="faults").get("Uploads", []))

    def is_step(self, step: Step, content: bytes, method: str, path: str) -> bool:
        if content is SMALL:
            return method == "PUT"
        return {
            "begin": method == "POST" and path.endswith("?uploads"),
            "send": method == "PUT" and "partNumber=2" in path,
            "publish": method == "POST" and "uploadId=" in path,
        }[step]


@contextmanager
def open_s3(request: pytest.FixtureRequest) -> Iterator[Storage]:
    server = request.getfixturevalue("s3_server")
    certificate = request.getfixturevalue("tmp_path_factory").mktemp("s3") / "certificate.pem"
    with (
        FaultProxy(server, s3_refusal, tls=server_context(certificate, "127.0.0.1")) as proxy,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("AWS_CA_BUNDLE", str(certificate))
        yield S3(server, proxy)


class Gcs(Storage):
    def __init__(self, server: Any, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self._store = server.store
        self._direct = in_gcs(gcs_client(server.url), "faults/a folder/object").target()
        self._through = gcs_client(proxy.url)
        self.in_a_process = (
            "from airflow_provider_isvapp.transfer.staging import gcs\n"
            "from tests.support.object_stores import gcs_client, in_gcs\n"
            "gcs.CHUNK_BYTES = 4 * 1024 * 1024\n"
            f"destination = in_gcs(gcs_client({proxy.url!r}), 'faults/a folder/object')\n"
        )

    @staticmethod
    def refusal(status: int) -> tuple[dict[str, str], bytes]:
        return {"Content-Type": "application/json"}, json.dumps({"error": {"code": status, "message": "no"}}).encode()

    def destination(self, *, stall_seconds: float = 30.0) -> Destination:
        # Its client tries again until then.
        return in_gcs(self._through, "faults/a folder/object", stall_seconds=min(stall_seconds, 2.0))

    def put(self, content: bytes) -> None:
        staged = self._direct.stage(exclusive=False, content_type="text/plain", provenance=None)
        staged.write(content)
        staged.commit()

    def read(self) -> bytes | None:
        found = self._store.buckets["faults"].get("a folder/object")
        return None if found is None else bytes(found[1])

    def clear(self) -> None:
        self._store.buckets["faults"].clear()
        self._store.sessions.clear()

    def leftovers(self) -> int:
        return sum(session is not None and session.created is None for session in self._store.sessions.values())

    def is_step(self, step: Step, content: bytes, method: str, path: str) -> bool:
        if step == "begin":
            return method == "POST" and "uploadType=resumable" in path
        session = self._store.sessions.get(path.rpartition("upload_id=")[2])
        if method != "PUT" or session is None:
            return False
        # Requests of chunks differ only by their position.
        return content is SMALL or len(session.data) in ((4 * 1024 * 1024,) if step == "send" else LAST_CHUNK)


# Where the last chunk of LARGE begins and ends, if chunks have 4 MiB.
LAST_CHUNK = (len(LARGE) - 256 * 1024, len(LARGE))


@contextmanager
def open_gcs(request: pytest.FixtureRequest) -> Iterator[Storage]:
    pytest.importorskip("google.cloud.storage", reason="needs the extra gcs")
    from airflow_provider_isvapp.transfer.staging import gcs
    from tests.support.gcs_server import GcsServer

    with (
        GcsServer("faults") as server,
        FaultProxy(server.url, Gcs.refusal) as proxy,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(gcs, "CHUNK_BYTES", 4 * 1024 * 1024)
        patch.setattr(gcs, "_FIRST_WAIT_SECONDS", 0.01)
        yield Gcs(server, proxy)


class Azure(Storage):
    keeps_staged = True

    def __init__(self, server: str, proxy: FaultProxy) -> None:
        from azure.storage.blob import BlobServiceClient

        from airflow_provider_isvapp.transfer.staging.azure import CLIENT_OPTIONS

        self.proxy = proxy
        through = server.replace(urlsplit(server).netloc, urlsplit(proxy.url).netloc)
        retries = {"initial_backoff": 0, "increment_base": 0, "random_jitter_range": 0}
        self._client = BlobServiceClient(through, credential=AZURE_KEY, **retries, **CLIENT_OPTIONS)
        self.in_a_process = (
            "from azure.storage.blob import BlobServiceClient\n"
            "from airflow_provider_isvapp.transfer.destination import Destination\n"
            "from airflow_provider_isvapp.transfer.staging.azure import AzureStore\n"
            f"store = AzureStore(BlobServiceClient({through!r}, credential={AZURE_KEY!r}), 'faults')\n"
            "destination = Destination(store=store, key='a folder/object', uri='abfs://faults/a folder/object')\n"
        )
        container = BlobServiceClient(server, credential=AZURE_KEY).get_container_client("faults")
        container.create_container()
        self._direct = container.get_blob_client("a folder/object")

    @staticmethod
    def refusal(status: int) -> tuple[dict[str, str], bytes]:
        codes = {
            400: "Md5Mismatch",
            403: "AuthorizationPermissionMismatch",
            404: "ContainerNotFound",
            409: "ContainerBeingDeleted",
            410: "Gone",
            412: "LeaseIdMissing",
            429: "TooManyRequests",
            503: "ServerBusy",
        }
        body = f"<Error><Code>{codes[status]}</Code><Message>no</Message></Error>"
        return {"Content-Type": "application/xml", "x-ms-error-code": codes[status]}, body.encode()

    def destination(self, *, stall_seconds: float = 30.0) -> Destination:
        from airflow_provider_isvapp.transfer.staging.azure import AzureStore

        store = AzureStore(self._client, "faults", stall_seconds=stall_seconds)
        return Destination(store=store, key="a folder/object", uri="abfs://faults/a folder/object")

    def put(self, content: bytes) -> None:
        self._direct.upload_blob(content, overwrite=True)

    def read(self) -> bytes | None:
        content: bytes | None = self._direct.download_blob().readall() if self._direct.exists() else None
        return content

    def clear(self) -> None:
        """An upload in one request drops the blocks that were left."""
        self.put(b"")
        self._direct.delete_blob()

    def leftovers(self) -> int:
        """The blocks of a failed write stay until the next one."""
        return len(self._direct.get_block_list("uncommitted")[1]) if self._direct.exists() else 0

    def is_step(self, step: Step, content: bytes, method: str, path: str) -> bool:
        # The number of a block ends its id, of which base64 makes four letters for three.
        block_id = base64.b64decode(parse_qs(urlsplit(path).query).get("blockid", [""])[0])
        return {
            "begin": block_id.endswith(b"000000"),
            "send": block_id.endswith(b"000001"),
            "publish": method == "PUT" and "comp=blocklist" in path,
        }[step]


@contextmanager
def open_azure(request: pytest.FixtureRequest) -> Iterator[Storage]:
    server = request.getfixturevalue("azure_server")
    with FaultProxy(server.rpartition("/")[0], Azure.refusal) as proxy:
        yield Azure(server, proxy)


STORAGES = {"s3": open_s3, "gcs": open_gcs, "azure": open_azure}


@pytest.fixture(scope="module", params=STORAGES)
def opened(request: pytest.FixtureRequest) -> Iterator[Storage]:
    with STORAGES[request.param](request) as storage:
        yield storage


@pytest.fixture
def storage(opened: Storage) -> Iterator[Storage]:
    opened.clear()
    opened.proxy.seen.clear()
    yield opened
    opened.proxy.fault = None
    opened.proxy.before = lambda method, path: None


def begin(
    destination: Destination, content: bytes, if_exists: IfExists, provenance: Provenance | None = None
) -> StagedObject:
    staged = destination.target().stage(
        exclusive=if_exists != "overwrite", content_type="application/x-ndjson", provenance=None
    )
    try:
        for start in range(0, len(content), 1_000_000):
            staged.write(content[start : start + 1_000_000])
        staged.flush(provenance)
    except BaseException:
        staged.abort()
        raise
    return staged


def commit(staged: StagedObject, destination: Destination, if_exists: IfExists) -> ObjectInfo | None:
    try:
        return base.commit_staged(staged, destination.target(), uri=destination.uri, if_exists=if_exists)
    finally:
        staged.abort()


def write(destination: Destination, content: bytes, if_exists: IfExists = "overwrite") -> ObjectInfo | None:
    return commit(begin(destination, content, if_exists), destination, if_exists)


def fault(storage: Storage, what: Kind | int, step: Step, content: bytes, *, times: int | None = None) -> Fault:
    storage.proxy.fault = Fault(what, lambda method, path: storage.is_step(step, content, method, path), times)
    return storage.proxy.fault


STEPS: list[Any] = [
    pytest.param("begin", LARGE, id="begin"),
    pytest.param("send", LARGE, id="send"),
    pytest.param("publish", LARGE, id="publish"),
    pytest.param("publish", SMALL, id="small"),
]


@pytest.mark.parametrize(("step", "content"), STEPS)
@pytest.mark.parametrize("what", ["reset", "reset-inside", 429, 503])
def test_a_transient_error_is_retried(storage: Storage, what: Any, step: Step, content: bytes) -> None:
    storage.put(OLD)
    struck = fault(storage, what, step, content, times=1)
    assert write(storage.destination(), content) is not None
    assert struck.struck == 1
    assert storage.read() == content
    assert storage.leftovers() == 0


@pytest.mark.parametrize("opened", ["azure"], indirect=True)  # its client retries for the shortest time
def test_an_outage_from_the_last_step_on_says_that_the_object_may_be_published(storage: Storage) -> None:
    storage.put(OLD)
    destination = storage.destination()
    staged = begin(destination, LARGE, "overwrite")
    storage.proxy.fault = Fault("reset", lambda method, path: True, None)

    with pytest.raises(StorageFailed) as failure:
        commit(staged, destination, "overwrite")
    says = str(failure.value)
    assert says.startswith(f"{destination.uri} may or may not be published. The last step failed: ")
    assert " A request for the object failed, too: " in says
    assert says.endswith(" If it is published, it is whole, and the next run recognises it.")


@pytest.mark.parametrize(("step", "content"), STEPS[1:])
@pytest.mark.parametrize("what", ["reset", 403, 404, 409, 410, 412, 429, 503])
def test_a_lasting_error_fails_and_keeps_the_old_object(
    storage: Storage, what: Any, step: Step, content: bytes
) -> None:
    storage.put(OLD)
    struck = fault(storage, what, step, content)
    with pytest.raises((StorageFailed, DestinationExists)) as failure:
        write(storage.destination(), content)
    assert struck.struck
    # Without a precondition, no refusal means that an object exists.
    assert isinstance(failure.value, StorageFailed) or what == 412
    assert storage.read() == OLD
    storage.proxy.fault = None
    assert write(storage.destination(), content) is not None
    assert storage.read() == content
    assert storage.leftovers() == 0


@pytest.mark.parametrize(("step", "content"), STEPS)
@pytest.mark.parametrize("what", ["stall", "silence"])
def test_a_storage_that_stalls_fails_the_write_in_time(storage: Storage, what: Any, step: Step, content: bytes) -> None:
    storage.put(OLD)
    fault(storage, what, step, content)
    started = time.monotonic()
    with pytest.raises(StorageFailed, match="made no progress for "):
        write(storage.destination(stall_seconds=1), content)
    assert time.monotonic() - started < 15
    assert storage.read() == OLD


def check_versions(destination: Destination, content: bytes) -> None:
    """A later read returns the same as the write, even if the figures are added after the commit."""
    seen = []
    for begins_with in (b"1", b"2"):
        figures = Provenance(format="ndjson", export_id="e-1", rows=1)
        staged = begin(destination, begins_with + content, "overwrite", figures)
        written = commit(staged, destination, "overwrite")
        there = [destination.target().info() for _ in range(2)]
        assert written is not None
        assert [info and info.version for info in there] == [written.version] * 2
        # moto returns no checksum of a multipart upload.
        assert written.checksum in (None, *(info and info.checksum for info in there))
        seen.append(written.version)
    assert None not in seen
    assert seen[0] != seen[1]


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_the_version_that_a_write_returns_is_read_until_the_object_is_replaced(
    storage: Storage, content: bytes
) -> None:
    check_versions(storage.destination(), content)


@pytest.mark.parametrize("place", [lambda path: local_destination(str(path)), in_fsspec], ids=["local", "fsspec"])
def test_the_same_of_files(tmp_path: Path, place: Callable[[Path], Destination]) -> None:
    check_versions(place(tmp_path / "object"), SMALL)


def write_in_turn(months: list[StagedObject]) -> None:
    months[0].write(LARGE[: 10 * 1024 * 1024])
    months[1].write(LARGE)


@pytest.mark.timeout(180)
def test_a_write_fails_in_time_where_a_stalled_one_has_all_the_room(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread writes all months of an export, and would never check the stalled month."""
    monkeypatch.setattr(s3.S3Object, "pool", bucket.PartPool(2))
    if isinstance(storage, Azure):
        from airflow_provider_isvapp.transfer.staging import azure

        monkeypatch.setattr(azure.AzureObject, "pool", bucket.PartPool(2))
    storage.proxy.fault = Fault("silence", lambda method, path: method == "PUT")
    months: list[StagedObject] = [
        storage.destination(stall_seconds=1).target().stage(exclusive=False, content_type="text/plain", provenance=None)
        for _ in range(2)
    ]
    try:
        with pytest.raises(StorageFailed, match="made no progress for "):
            write_in_turn(months)
    finally:
        for month in months:
            month.abort()
    # The room is free at once, although the stalled write's requests still hang.
    storage.proxy.fault = None
    assert write(storage.destination(), LARGE) is not None


def test_a_slow_link_is_no_stall(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """One request takes more than three times the stall bound, and bytes leave all the time."""
    now = [0.0]
    monkeypatch.setattr(bucket, "Watchdog", partial(Watchdog, clock=lambda: now[0]))
    content = bytes(32 * 1024 * 1024)
    monkeypatch.setattr(s3, "PART_BYTES", len(content))
    if isinstance(storage, Azure):
        from airflow_provider_isvapp.transfer.staging import azure

        monkeypatch.setattr(azure, "BLOCK_BYTES", len(content))
    if isinstance(storage, Gcs):
        from airflow_provider_isvapp.transfer.staging import gcs

        monkeypatch.setattr(gcs, "CHUNK_BYTES", len(content))

    destination = storage.destination(stall_seconds=60)
    stall_seconds: float = destination.store.stall_seconds  # type: ignore[attr-defined]

    def take_a_while() -> None:
        # The sockets' buffers hold at most 4 MiB, which the watchdog does not see.
        now[0] += stall_seconds / 10

    storage.proxy.after_piece = take_a_while
    try:
        assert write(destination, content) is not None
    finally:
        storage.proxy.after_piece = lambda: None
    assert now[0] > 3 * stall_seconds
    assert storage.read() == content


@pytest.mark.parametrize("question", ["check_rights", "info"])
def test_a_storage_that_is_silent_from_the_start_is_not_waited_for(storage: Storage, question: str) -> None:
    storage.proxy.fault = Fault("silence", lambda method, path: True)
    target = storage.destination(stall_seconds=1).target()
    started = time.monotonic()
    with pytest.raises(StorageFailed, match="made no progress for "):
        getattr(target, question)()
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("if_exists", ["overwrite", "fail", "skip"])
@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_a_lost_response_is_no_failure(storage: Storage, content: bytes, if_exists: IfExists) -> None:
    struck = fault(storage, "lost", "publish", content, times=1)
    destination = storage.destination()
    written = write(destination, content, if_exists)
    assert struck.struck == 1
    assert storage.read() == content
    assert written is not None
    there = destination.target().info()
    assert there is not None
    assert (there.version, there.write_id) == (written.version, written.write_id)
    assert storage.leftovers() == 0


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_a_publication_of_which_nothing_is_heard_is_found(storage: Storage, content: bytes) -> None:
    """Every response of the last step is lost, and no retry gets through."""
    storage.put(OLD)
    fault(storage, "lost", "publish", content)
    assert write(storage.destination(), content, "overwrite") is not None
    assert storage.read() == content


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_an_object_that_appears_meanwhile_stays(storage: Storage, content: bytes) -> None:
    for if_exists in ("skip", "fail"):
        storage.clear()
        staged = begin(storage.destination(), content, if_exists)
        storage.put(OLD)
        if if_exists == "skip":
            assert commit(staged, storage.destination(), "skip") is None
        else:
            with pytest.raises(DestinationExists, match="may not overwrite"):
                commit(staged, storage.destination(), "fail")
        assert storage.read() == OLD
        assert bool(storage.leftovers()) == storage.keeps_staged


@pytest.mark.parametrize(("step", "content"), [STEPS[1], STEPS[3]])
def test_a_flipped_byte_is_not_published(storage: Storage, step: Step, content: bytes) -> None:
    storage.put(OLD)
    struck = fault(storage, "flip", step, content)
    with pytest.raises(StorageFailed):
        write(storage.destination(), content)
    assert struck.struck
    assert storage.read() == OLD


def test_of_two_writers_one_publishes_and_nothing_is_mixed(storage: Storage) -> None:
    other = LARGE[::-1]
    outcomes: dict[bytes, BaseException | None] = {}
    both_begun = threading.Barrier(2)

    def work(content: bytes) -> None:
        try:
            both_begun.wait(timeout=30)
            write(storage.destination(), content)
        except StorageFailed as error:
            outcomes[content] = error
        else:
            outcomes[content] = None

    threads = [threading.Thread(target=work, args=(content,)) for content in (LARGE, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    published = [content for content, error in outcomes.items() if error is None]
    assert len(outcomes) == 2
    assert storage.read() in published


@pytest.mark.parametrize(("step", "content"), STEPS[1:3])
def test_a_process_that_is_killed_leaves_the_old_object_or_the_new_one(
    storage: Storage, step: Step, content: bytes
) -> None:
    if storage.in_a_process is None:
        pytest.skip("not told how another process reaches it")
    storage.put(OLD)
    code = (
        "from tests.unit.transfer.test_staging_faults import LARGE, write\n"
        f"{storage.in_a_process}write(destination, LARGE)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as child:

        def kill(method: str, path: str) -> None:
            if storage.is_step(step, content, method, path):
                child.kill()
                child.wait()

        storage.proxy.before = kill
        assert child.wait(timeout=120) == -signal.SIGKILL
    storage.proxy.before = lambda method, path: None
    time.sleep(0.5)  # a complete last request may still be in transit
    assert storage.read() in ((OLD, content) if step == "publish" else (OLD,))
    assert write(storage.destination(), content[::-1]) is not None
    assert storage.read() == content[::-1]


class TestLocalFiles:
    """There is no network in between: the file system decides what other storages decide by preconditions."""

    def at(self, folder: Path) -> Destination:
        return Destination(store=LocalStore(), key=str(folder / "object"), uri=str(folder / "object"))

    @pytest.mark.parametrize("if_exists", ["skip", "fail"])
    def test_an_object_that_appears_meanwhile_stays(self, tmp_path: Path, if_exists: IfExists) -> None:
        destination = self.at(tmp_path)
        staged = begin(destination, SMALL, if_exists)
        (tmp_path / "object").write_bytes(OLD)
        if if_exists == "skip":
            assert commit(staged, destination, "skip") is None
        else:
            with pytest.raises(DestinationExists):
                commit(staged, destination, "fail")
        assert (tmp_path / "object").read_bytes() == OLD
        assert [path.name for path in tmp_path.iterdir()] == ["object"]

    def test_a_lost_response_is_no_failure(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A network file system repeats a link whose response was lost, and then finds the name taken."""
        import os

        link = os.link

        def twice(*arguments: Any, **options: Any) -> None:
            link(*arguments, **options)
            link(*arguments, **options)

        monkeypatch.setattr(os, "link", twice)
        destination = self.at(tmp_path)
        assert commit(begin(destination, SMALL, "fail"), destination, "fail") is not None
        assert (tmp_path / "object").read_bytes() == SMALL


def test_bytes_that_are_hashed_or_sent_again_are_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    progress: list[int] = []
    watchdog = Watchdog("s3://lake/x")
    body = bucket.RequestBody(memoryview(bytes(300_000)), watchdog)
    monkeypatch.setattr(watchdog, "acknowledge", lambda: progress.append(body.tell()))

    def read_all() -> int:
        return sum(map(len, iter(body.read, b"")))

    assert (read_all(), body.tell(), len(body), progress) == (300_000, 300_000, 300_000, [])
    body.seek(0)
    body.begin()
    assert len(body.read()) < 150_000
    assert len(body.read()) < 150_000
    assert len(progress) == 1
    body.begin()
    assert (read_all(), progress[-1]) == (300_000, 300_000)
    assert progress == sorted(set(progress))
    times = len(progress)
    body.resume(200_000)
    body.begin()
    assert (read_all(), len(body), len(progress)) == (100_000, 100_000, times)


def test_the_watchdog_pauses_while_no_request_is_in_progress() -> None:
    now = [0.0]
    watchdog = Watchdog("s3://lake/x", seconds=120, clock=lambda: now[0])
    assert watchdog.call(lambda: 1) == 1
    now[0] = 1_000.0
    assert watchdog.call(lambda: 2) == 2
    watchdog.check()
    release = threading.Event()
    waiting = watchdog.start(release.wait)
    now[0] += 119
    watchdog.check()
    now[0] += 2
    with pytest.raises(StorageFailed, match=r"The write to s3://lake/x made no progress for 121 s"):
        watchdog.wait(waiting)
    release.set()
