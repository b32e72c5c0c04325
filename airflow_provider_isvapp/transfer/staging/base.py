# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The protocol of a storage: describe one object, stage it, publish it.

The modules beside this one implement it, one for each kind of storage. This one decides for all of them what a lost
response means, and what happens to an object that another writer publishes meanwhile.
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

# The name of an object's metadata entry, and the last part of a file's extended attribute.
METADATA_KEY = "isvapp_provenance"
# The metadata entry with the id of the write that created the object.
WRITE_ID_KEY = "isvapp_write_id"
# Longer than any storage accepts: S3 takes 2 KB of metadata, and an extended attribute holds 64 KiB.
_LONGEST = 64 * 1024

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class Provenance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Says which export or list an object holds. It is stored with the object, so a replacement removes it.

    Only verified objects are published, so an object with a provenance holds the whole export or list. Most storages
    take metadata with the first byte of an object. The figures are None if they were unknown then.

    :param export_id: the export; None for a list.
    :param dataset: the list; None for an export.
    :param sha256: SHA-256 of a list's plain ndjson in hexadecimal digits, which identifies it; None for an export.
    :param format: how the rows are stored, and how strictly they were checked.
    :param compressed_bytes: the size of the export's gzip file.
    :param rows: the number of all rows, including those in the objects of other months.
    :param bytes: the size of the plain ndjson.
    :param crc32: CRC-32 of the plain ndjson as eight hexadecimal digits.
    :param months: the number of rows by ``reference_date``.
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
        """Parse a provenance; None for anything else, such as one of a later version or text of another program."""
        if not isinstance(text, str | bytes) or len(text) > _LONGEST:
            return None
        try:
            return msgspec.json.decode(text, type=cls)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return None


@dataclass(frozen=True, kw_only=True)
class ObjectInfo:
    """The storage's description of an existing object.

    :param version: the storage's own id of the content: ETag, generation, or size and modification time.
        :meth:`StagedObject.commit` returns the same value as :meth:`ObjectTarget.info` until the object is replaced.
        None if the storage has none.
    :param checksum: the storage's own checksum as ``algorithm:value``, in the storage's spelling; None if it has none.
    :param provenance: the provenance that this package stored with the object.
    :param write_id: the id of the write that created the object; None if another program created it.
    """

    version: str | None
    checksum: str | None = None
    provenance: Provenance | None = None
    write_id: str | None = None

    @classmethod
    def from_metadata(
        cls, metadata: Mapping[str, str] | None, *, version: str | None, checksum: str | None
    ) -> ObjectInfo:
        """Build the description from an object's metadata."""
        metadata = metadata or {}
        return cls(
            version=version,
            checksum=checksum,
            provenance=Provenance.from_text(metadata.get(METADATA_KEY)),
            write_id=metadata.get(WRITE_ID_KEY),
        )


@dataclass(frozen=True, kw_only=True)
class FoundObject:
    """An existing object.

    :param read: returns the bytes between two positions, and fails if the object was replaced.
    """

    info: ObjectInfo
    size: int
    read: Callable[[int, int], bytes]


class RangeReader(io.RawIOBase):
    """Reads an object range by range.

    :param read: returns the bytes between two positions.
    :param range_bytes: the size of a range.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int, range_bytes: int) -> None:
        self._read = read
        self._size = size
        self._range_bytes = range_bytes
        self._position = 0
        self._range, self._range_start = b"", 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
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
    """An object that is not visible under its name until :meth:`commit`.

    Exactly one of :meth:`commit` and :meth:`abort` ends it. All methods but the last raise
    :class:`~airflow_provider_isvapp.errors.StorageFailed` if the storage refuses, or acknowledges nothing for the
    store's ``stall_seconds`` (see :class:`~airflow_provider_isvapp.transfer.threads.Watchdog`).
    """

    @property
    def write_id(self) -> str:
        """The unique id of this write, which :meth:`ObjectTarget.info` returns for the object that it creates."""
        ...

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes. The caller may change them afterwards."""
        ...

    def flush(self, provenance: Provenance | None = None) -> None:
        """Send every byte to the storage, so that only a small last step remains.

        :param provenance: the provenance with the figures that are known by now. The storage stores it if it can: in
            the last step (a local file, Azure, a small object on S3), or right after it (Google Cloud Storage).
        """
        ...

    def commit(self) -> ObjectInfo:
        """Make the object visible, whole, and replace any older one. Call :func:`commit_staged` instead.

        Verifies the storage's checksum if it has one, before the object becomes visible if possible.

        :raises DestinationExists: if the storage finds an object that this one may not replace.
        """
        ...

    def abort(self) -> None:
        """Remove everything that was staged, unless it is committed. Does not raise, and returns within seconds."""
        ...


class ObjectTarget(Protocol):
    """The location of one object."""

    def check(self) -> None:
        """Check that an object can be written here, as far as possible without a write.

        :raises InvalidArgument: if the path can never name an object, or the storage's client does not take an option.
        :raises StorageFailed: if the storage refuses.
        """
        ...

    def check_rights(self) -> None:
        """Check that the task may write an object here, with a request that leaves nothing behind.

        A task calls this once, before its first request to the vendor.

        :raises StorageFailed: if the bucket is missing, the credentials lack the right, or the storage is unreachable.
        """
        ...

    def info(self) -> ObjectInfo | None:
        """Request the description of the object, not from a cache; None if there is no object."""
        ...

    def open(self) -> AbstractContextManager[IO[bytes]]:
        """Open the object as a seekable file for reading."""
        ...

    def stage(self, *, exclusive: bool, content_type: str, provenance: Provenance | None) -> StagedObject:
        """Begin an object.

        :param exclusive: do not replace an existing object. The storage decides that in the last step, by a
            precondition.
        :param content_type: the media type. The object has no content encoding, because readers would decode it.
        :param provenance: the provenance, as far as it is known before the first byte.
        """
        ...


class ObjectStore(Protocol):
    """A bucket or container as one connection reaches it, or the files of this host.

    The constructor sends no request. It takes the client of Airflow's hook, the name of the bucket, ``options`` (an
    operator's ``storage_options``, under the names of that client) and ``stall_seconds``.
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
        """Return the location of an object.

        :param key: the name in the bucket.
        :param uri: the URI for messages.
        """
        ...

    def names(self, prefix: str) -> Iterator[str]:
        """List the keys that begin with a prefix, up to the next slash, so a folder appears once. Uses no cache."""
        ...


_LOG = logging.getLogger(__name__)


def commit_staged(
    staged: StagedObject, target: ObjectTarget, *, uri: str, if_exists: Literal["overwrite", "skip", "fail"]
) -> ObjectInfo | None:
    """Publish a staged object, and decide what a failure of the last step means.

    The storage may publish the object although its response is lost. Then it refuses the client's own retry: the
    precondition finds an object, or the upload is gone. The write id of the existing object shows whether it is this
    one.

    :param target: the location that the object is staged for.
    :param if_exists: the option that the object was staged with.
    :return: the published object; None if another writer published one meanwhile and it stays (``skip``).
    :raises DestinationExists: if another writer published one meanwhile and ``if_exists`` is ``fail``.
    :raises StorageFailed: if the object is not published, or if that is unknown.
    """
    try:
        return staged.commit()
    except (DestinationExists, StorageFailed) as error:
        failure = error
    try:
        existing = target.info()
    except StorageFailed as error:
        raise StorageFailed(
            f"{uri} may or may not be published. The last step failed: {failure} A request for the object failed, too: "
            f"{error} If it is published, it is whole, and the next run recognises it."
        ) from failure
    if existing is not None and existing.write_id == staged.write_id:
        _LOG.info("%s is published, although the storage's response was lost", uri)
        return existing
    if isinstance(failure, DestinationExists) and if_exists == "skip":
        _LOG.info("Another writer published %s meanwhile, and if_exists is 'skip': its object stays", uri)
        return None
    raise failure


# An error may quote a storage's response, which can have any length.
_LONGEST_REASON = 1_000


def describe_error(error: Exception) -> tuple[str, str]:
    """Return the reason and the next step of a message about an error."""
    reason = f"{type(error).__name__}: {error}"
    if isinstance(error, PermissionError):
        return reason, "Grant this process the right to write there, or choose another path."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return reason, "Free space there, or choose another path."
    return reason, "Check that the storage is reachable, has free space and grants the connection its rights."


@contextmanager
def storage_errors(
    uri: str,
    *,
    reading: bool = False,
    describe: Callable[[Exception], tuple[str, str]] = describe_error,
    secret: tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """Convert errors within the block to StorageFailed, which names the URI.

    Catches every exception: fsspec's file systems raise those of their own libraries, which have no common base.

    :param reading: whether the block only reads.
    :param describe: returns the reason and the next step.
    :param secret: exceptions whose text no log may show, so they do not become the cause.
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
    failed = f"Could not read {uri}: {reason}." if reading else f"Could not publish {uri}: {reason}."
    cause = None if isinstance(failure, secret) else failure
    raise StorageFailed(f"{failed} {step}") from cause
