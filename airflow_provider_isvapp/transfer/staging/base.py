# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What every kind of storage does with one object: describe it, stage it, publish it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import IO, Annotated, Any, Protocol

import msgspec

from airflow_provider_isvapp.errors import InvalidArgument, ProviderError, StorageFailed

# The name of the metadata entry of an object, and the last part of the extended attribute of a file.
METADATA_KEY = "isvapp_provenance"
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


class StagedObject(Protocol):
    """An object in the making, invisible under its name until :meth:`commit`.

    Exactly one of :meth:`commit` and :meth:`abort` ends it. All methods but the last raise
    :class:`~airflow_provider_isvapp.errors.StorageFailed` when the storage refuses.
    """

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        ...

    def flush(self, provenance: Provenance | None = None) -> None:
        """Hand every byte to the storage, so that only the last, small step remains.

        :param provenance: with the figures that are known by now.
        """
        ...

    def commit(self) -> None:
        """Make the object visible, whole, in the place of any older one.

        :raises DestinationExists: if it may not replace one and there is one.
        """
        ...

    def abort(self) -> None:
        """Remove everything that was staged, if it is not committed. Does not raise."""
        ...


class ObjectTarget(Protocol):
    """Where one object is or shall be."""

    def check(self) -> None:
        """See, as far as that can be known without writing, that an object can be written here.

        :raises InvalidArgument: if the path can never name one.
        :raises StorageFailed: if the storage refuses.
        """
        ...

    def exists(self) -> bool:
        """Ask the storage, not a cached listing."""
        ...

    def provenance(self) -> Provenance | None:
        """Return the provenance of the object that is there."""
        ...

    def open(self) -> AbstractContextManager[IO[bytes]]:
        """Open the object that is there for reading."""
        ...

    def stage(self, *, exclusive: bool, provenance: Provenance | None) -> StagedObject:
        """Begin an object.

        :param exclusive: never replace one.
        :param provenance: what is known of the object before its first byte.
        """
        ...


# A storage's answer, which the error may quote, can be of any length.
_LONGEST_REASON = 1_000


@contextmanager
def storage_errors(address: str, *, reading: bool = False) -> Iterator[None]:
    """Raise whatever goes wrong inside as StorageFailed, naming the address.

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
        raise StorageFailed(
            f"{failed} Check that the storage is reachable, has room and grants this connection its rights."
        ) from error
