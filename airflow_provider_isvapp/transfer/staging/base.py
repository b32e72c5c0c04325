# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The protocol of a storage: describe one object, stage it, publish it.

One module beside this one implements each kind of storage. What they share is decided here once: what a
lost response means, what happens to an object that appears meanwhile, how long a storage may be silent.
"""

from __future__ import annotations

import errno
import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import IO, Annotated, Any, Literal, Protocol

import msgspec

from airflow_provider_isvapp.errors import DestinationExists, ProviderError, StorageFailed

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

    @classmethod
    def from_metadata(
        cls, metadata: Mapping[str, str] | None, *, version: str | None, checksum: str | None
    ) -> ObjectInfo:
        """Describe an object by its metadata."""
        metadata = metadata or {}
        return cls(
            version=version,
            checksum=checksum,
            provenance=Provenance.from_text(metadata.get(METADATA_KEY)),
            write_id=metadata.get(WRITE_ID_KEY),
        )


@dataclass(frozen=True, kw_only=True)
class FoundObject:
    """An object that is there.

    :param read: returns its bytes from a position to another, and fails if it was replaced.
    """

    info: ObjectInfo
    size: int
    read: Callable[[int, int], bytes]


class RangeReader(io.RawIOBase):
    """Reads an object range by range.

    :param read: returns the bytes from a position to another.
    :param range_bytes: how much it is asked for at once.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int, range_bytes: int) -> None:
        self._read = read
        self._size = size
        self._range_bytes = range_bytes
        self._position = 0
        self._range, self._range_start = b"", 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to a position."""
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer from the current position on."""
        if self._position >= self._size:
            return 0
        if not self._range_start <= self._position < self._range_start + len(self._range):
            end = min(self._position + self._range_bytes, self._size)
            self._range, self._range_start = self._read(self._position, end), self._position
            if len(self._range) != end - self._position:
                raise OSError(f"the storage sent {len(self._range)} bytes of {end - self._position}")
        begin = self._position - self._range_start
        data = self._range[begin : begin + len(buffer)]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


class StagedObject(Protocol):
    """An object in the making, invisible under its name until :meth:`commit`.

    Exactly one of :meth:`commit` and :meth:`abort` ends it. All methods but the last raise
    :class:`~airflow_provider_isvapp.errors.StorageFailed` when the storage refuses, or acknowledges nothing for the
    store's ``stall_seconds`` (see :class:`~airflow_provider_isvapp.transfer.threads.Watchdog`).

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
        """Send every byte to the storage, so that only the last, small step remains.

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

    Its constructor takes the client that Airflow's hook returns, the name of the bucket, ``options`` (the
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


# A storage's response, which the error may quote, can be of any length.
_LONGEST_REASON = 1_000


def describe_error(error: Exception) -> tuple[str, str]:
    """Return the reason and the next step of a message about an error."""
    reason = f"{type(error).__name__}: {error}"
    if isinstance(error, PermissionError):
        return reason, "Grant this process the right to write there, or choose another path."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return reason, "Make room, or choose another path."
    return reason, "Check that the storage is reachable, has room and grants this connection its rights."


@contextmanager
def storage_errors(
    uri: str,
    *,
    reading: bool = False,
    describe: Callable[[Exception], tuple[str, str]] = describe_error,
    secret: tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """Raise any error inside as StorageFailed, naming the URI.

    Every exception counts: fsspec's file systems let their own libraries' errors through, which share no root.

    :param reading: nothing is written inside.
    :param describe: returns the reason and the next step.
    :param secret: exceptions that show what no log may show, and are not named as the cause.
    """
    try:
        yield
    except ProviderError:
        raise
    except Exception as error:  # noqa: BLE001 - raised again below, without a context
        failure = error
    else:
        return
    reason, step = describe(failure)
    reason = reason[:_LONGEST_REASON].rstrip(".: ")
    failed = f"Reading {uri} failed: {reason}." if reading else f"Writing {uri} failed and published nothing: {reason}."
    cause = None if isinstance(failure, secret) else failure
    raise StorageFailed(f"{failed} {step}") from cause
