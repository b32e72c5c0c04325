# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The protocol of a storage: describe one object, stage it, publish it.

One implementation for each kind of storage stands beside this module. What they share is decided here once: what a
lost response means, what happens to an object that appears meanwhile, how long a storage may be silent.
"""

from __future__ import annotations

import contextvars
import errno
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import IO, Annotated, Any, Literal, ParamSpec, Protocol, TypeVar

import msgspec

from airflow_provider_isvapp.errors import DestinationExists, InvalidArgument, ProviderError, StorageFailed

StorageKind = Literal["local", "s3", "gcs", "azure", "fsspec"]

# The name of the metadata entry of an object, and the last part of the extended attribute of a file.
METADATA_KEY = "isvapp_provenance"
# The same for the id of the write that made the object.
WRITE_ID_KEY = "isvapp_write_id"
# What no storage would take: S3 has room for 2 KB, an extended attribute for 64 KiB.
_LONGEST = 64 * 1024

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class Provenance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Travels with an object, so that it goes when the object is replaced.

    Only verified objects are published, so one with a provenance holds the whole export or list. Most storages take it
    with the first byte of an object, when the figures of an export are unknown; they are None then.

    :param export_id: the export; None for a list.
    :param dataset: the list; None for an export.
    :param sha256: SHA-256 of a list's plain ndjson in hexadecimal digits, which identifies it; None for an export.
    :param format: how its rows are stored and how far they were checked.
    :param compressed_bytes: size of the export's gzip file.
    :param rows: all rows, also those of other months' objects.
    :param bytes: size of its plain ndjson.
    :param crc32: CRC-32 of the plain ndjson as eight hexadecimal digits.
    :param months: rows by ``reference_date``.
    """

    format: str
    export_id: str | None = None
    dataset: str | None = None
    sha256: str | None = None
    compressed_bytes: _Count | None = None
    rows: _Count | None = None
    bytes: _Count | None = None
    crc32: str | None = None
    months: dict[str, _Count] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the figures are known."""
        return None not in (self.rows, self.bytes, self.crc32, self.months, self.compressed_bytes)

    def to_text(self) -> str:
        """Return the provenance as one line of ASCII."""
        return json.dumps(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are known."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}

    @classmethod
    def from_text(cls, text: object) -> Provenance | None:
        """Read a provenance; None for anything else: one of a later version, or text that another program stored."""
        if not isinstance(text, str | bytes) or len(text) > _LONGEST:
            return None
        try:
            return msgspec.json.decode(text, type=cls)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return None


# S3 and Google Cloud Storage count bytes, Azure characters.
_LONGEST_KEY = 1024


def check_key(key: str, uri: str) -> None:
    """See that a key names an object in a bucket or container.

    :raises InvalidArgument: if no storage takes it.
    """
    if not key:
        raise InvalidArgument(f"path {uri!r} names a bucket; add the name of the object to write.")
    if len(key) > _LONGEST_KEY:
        raise InvalidArgument(f"path {uri!r}: the key has {len(key)} characters, and {_LONGEST_KEY} are the most.")


@dataclass(frozen=True, kw_only=True)
class ObjectInfo:
    """What a storage says of an object that is there.

    :param version: the storage's own id of these bytes: ETag, generation, or size and modification time. What
        :meth:`StagedObject.commit` returns equals what :meth:`ObjectTarget.info` reads until the object is replaced.
        None if the storage has none.
    :param checksum: the storage's own checksum as ``algorithm:value``, in the storage's spelling; None if it has none.
    :param provenance: what this package stored with the object.
    :param write_id: of the write that made the object; None if another program made it.
    """

    version: str | None
    checksum: str | None = None
    provenance: Provenance | None = None
    write_id: str | None = None


class StagedObject(Protocol):
    """An object in the making, invisible under its name until :meth:`commit`.

    Exactly one of :meth:`commit` and :meth:`abort` ends it. All methods but the last raise
    :class:`~airflow_provider_isvapp.errors.StorageFailed` when the storage refuses, or acknowledges nothing for the
    store's ``stall_seconds`` (see :class:`Watchdog`).

    :ivar write_id: names this write. :meth:`ObjectTarget.info` tells the same of an object that this write made.
    """

    @property
    def write_id(self) -> str:
        """Name this write; no other has the same id."""
        ...

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes. They may change once this returns."""
        ...

    def flush(self, provenance: Provenance | None = None) -> None:
        """Hand every byte to the storage, so that only the last, small step remains.

        :param provenance: with the figures that are known by now. The storage keeps it if it can: with the last step
            (a local file, Azure, a small object on S3), or right after it (Google Cloud Storage).
        """
        ...

    def commit(self) -> ObjectInfo:
        """Make the object visible, whole, in the place of any older one. Call :func:`commit_staged` instead.

        Verifies the storage's checksum where it tells one, before the object is visible if it can.

        :raises DestinationExists: if it may not replace one and there is one, as the storage itself decides.
        """
        ...

    def abort(self) -> None:
        """Remove everything that was staged, if it is not committed. Does not raise, and returns within seconds."""
        ...


class ObjectTarget(Protocol):
    """The place of one object."""

    def check(self) -> None:
        """See, as far as that can be known without writing, that an object can be written here.

        :raises InvalidArgument: if the path can never name one, or the storage's client does not take an option.
        :raises StorageFailed: if the storage refuses.
        """
        ...

    def check_rights(self) -> None:
        """See, by a request that leaves nothing, that an object may be written here.

        A task calls this once, before it asks the vendor for anything.

        :raises StorageFailed: if the bucket is missing, the credentials lack the right, or the storage is unreachable.
        """
        ...

    def info(self) -> ObjectInfo | None:
        """Ask the storage, not a cached listing, for the object that is there; None if there is none."""
        ...

    def open(self) -> AbstractContextManager[IO[bytes]]:
        """Open the object that is there for reading; the file can seek."""
        ...

    def stage(self, *, exclusive: bool, content_type: str, provenance: Provenance | None) -> StagedObject:
        """Begin an object.

        :param exclusive: never replace one. The storage decides that in the last step, by a precondition.
        :param content_type: its media type. It never has a content encoding: readers would unpack it on the way.
        :param provenance: what is known of the object before its first byte.
        """
        ...


class ObjectStore(Protocol):
    """A bucket or container as one connection reaches it, or the files of this host.

    Its constructor takes the client that Airflow's hook hands out, the name of the bucket, ``options`` (the
    ``storage_options`` of an operator, in the words of that client) and ``stall_seconds``. It sends no request.
    """

    @property
    def kind(self) -> StorageKind:
        """The kind of storage."""
        ...

    @property
    def namespace(self) -> str:
        """The URI of the bucket or container, as OpenLineage names it: keys are names in it."""
        ...

    def target(self, key: str, uri: str) -> ObjectTarget:
        """Return the place of an object.

        :param key: its name in the bucket.
        :param uri: its URI for messages.
        """
        ...

    def names(self, prefix: str) -> Iterator[str]:
        """List what begins with a prefix, as the storage lists it now: keys, cut before the next slash.

        So a folder is named once, however many objects are in it.
        """
        ...


_LOG = logging.getLogger(__name__)


def commit_staged(
    staged: StagedObject, target: ObjectTarget, *, uri: str, if_exists: Literal["overwrite", "skip", "fail"]
) -> ObjectInfo | None:
    """Publish a staged object, and decide what a failure of the last step means.

    A response can be lost when the storage has acted already, and the client's own retry is then refused: by the
    precondition, since an object is there, or because the upload is gone. The object that is there tells by the id of
    its write whether it is this one.

    :param target: where it is staged for.
    :param if_exists: with which the object was staged.
    :return: the object that is there now; None if another one appeared meanwhile and stays (``skip``).
    :raises DestinationExists: if another one appeared meanwhile and ``if_exists`` is ``fail``.
    :raises StorageFailed: if it is not published, or if that is not known.
    """
    try:
        return staged.commit()
    except (DestinationExists, StorageFailed) as error:
        failure = error
    try:
        there = target.info()
    except StorageFailed as error:
        raise StorageFailed(
            f"Whether {uri} is published is not known: {failure} Asking for it failed, too: {error} "
            "What is there is whole, and the next run recognises it."
        ) from failure
    if there is not None and there.write_id == staged.write_id:
        _LOG.info("%s is published, although the storage's response was lost", uri)
        return there
    if isinstance(failure, DestinationExists) and if_exists == "skip":
        _LOG.info("%s appeared while it was being written, and if_exists is 'skip': it stays", uri)
        return None
    raise failure


STALL_SECONDS = 120.0
"""For how long a storage may acknowledge nothing while something is on its way to it."""
_TICK_SECONDS = 0.2

P = ParamSpec("P")
T = TypeVar("T")

_running: contextvars.ContextVar[Watchdog] = contextvars.ContextVar("isvapp_watchdog")


class Watchdog:
    """Runs calls to a storage, and gives up when it acknowledges nothing for too long, whatever its client retries.

    Calls run in daemon threads: one that hangs is left behind, and does not keep the process from its end. It must not
    continue after its task has failed: a store lets its client call :func:`refuse_if_left_behind` before
    it sends a request, which the client's own retries do as well.

    :param uri: of the object, for the message.
    :param seconds: how long is too long. Counts only while a call is under way.
    :param clock: seconds that only grow.
    """

    def __init__(
        self, uri: str, *, seconds: float = STALL_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._uri = uri
        self._seconds = seconds
        self._clock = clock
        self._under_way = 0
        self._lock = threading.Lock()
        self._last = clock()
        self.gave_up = False

    def acknowledge(self) -> None:
        """Note that the storage has taken something: a response came, or bytes that were not sent before went out."""
        self._last = self._clock()

    def start(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call a function in a thread of its own."""
        future: Future[T] = Future()
        with self._lock:
            if not self._under_way:
                self.acknowledge()
            self._under_way += 1

        def run() -> None:
            _running.set(self)
            try:
                result = call(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - handed over to who waits
                self._end()
                future.set_exception(error)
            else:
                self.acknowledge()
                self._end()
                future.set_result(result)

        # Task logs of Airflow are bound to the context.
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(run,), name="isvapp-storage", daemon=True).start()
        return future

    def wait(self, future: Future[T]) -> T:
        """Return the result of a call.

        :raises StorageFailed: if the storage stalls.
        """
        while True:
            try:
                return future.result(timeout=min(_TICK_SECONDS, self._seconds))
            except TimeoutError:
                # The call may have raised it, or have ended just now.
                if future.done():
                    return future.result()
                self.check()

    def call(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function and return its result.

        :raises StorageFailed: if the storage stalls.
        """
        return self.wait(self.start(call, *args, **kwargs))

    def check(self) -> None:
        """See whether the storage stalls.

        :raises StorageFailed: if so.
        """
        silent = self._clock() - self._last
        if self._under_way and silent > self._seconds:
            self.gave_up = True
            raise StorageFailed(
                f"The storage acknowledged nothing of {self._uri} for {silent:.0f} s. "
                "Check the network to it, and its own health."
            )

    def _end(self) -> None:
        with self._lock:
            self._under_way -= 1


def refuse_if_left_behind() -> None:
    """Raise where the call of this thread was given up by its :class:`Watchdog`.

    :raises StorageFailed: then.
    """
    watchdog = _running.get(None)
    if watchdog is not None and watchdog.gave_up:
        raise StorageFailed("The write was given up.")


# A storage's response, which the error may quote, can be of any length.
_LONGEST_REASON = 1_000


@contextmanager
def storage_errors(address: str, *, reading: bool = False) -> Iterator[None]:
    """Raise whatever goes wrong inside as StorageFailed, naming the URL.

    Every exception counts: fsspec's file systems let their own libraries' errors through, which share no root.

    :param reading: nothing is written inside.
    """
    try:
        yield
    except ProviderError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error)[:_LONGEST_REASON]}"
        failed = (
            f"Reading {address} failed: {reason}."
            if reading
            else f"Writing {address} failed and published nothing: {reason}."
        )
        raise StorageFailed(f"{failed} {_next_step(error)}") from error


def _next_step(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "Grant this process the right to write there, or choose another path."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Make room, or choose another path."
    # That of botocore's ClientError.
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
    return _STEPS.get(code, "Check that the storage is reachable, has room and grants this connection its rights.")


# By S3's codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_STEPS = {
    "NoSuchBucket": "Create the bucket, or correct the path.",
    "AccessDenied": "Grant the connection's user s3:PutObject and s3:AbortMultipartUpload on the path.",
    "InvalidAccessKeyId": "Check the connection's login: it is the access key's id.",
    "SignatureDoesNotMatch": "Check the connection's password: it is the secret access key.",
    "PermanentRedirect": "Set region_name in the connection's extra to the region of the bucket.",
    "AuthorizationHeaderMalformed": "Set region_name in the connection's extra to the region of the bucket.",
}
