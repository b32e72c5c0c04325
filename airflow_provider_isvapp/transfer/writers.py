# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Writes rows to one object, or to one object per month."""

from __future__ import annotations

import hashlib
import logging
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from airflow_provider_isvapp.api.schema.fields import Object
from airflow_provider_isvapp.api.schema.isvapp import TaxonomyItemRow
from airflow_provider_isvapp.errors import DestinationExists, StorageFailed
from airflow_provider_isvapp.transfer.destination import Destination
from airflow_provider_isvapp.transfer.gzip import Crc32
from airflow_provider_isvapp.transfer.options import MONTH_PLACEHOLDER, WriteOptions
from airflow_provider_isvapp.transfer.results import WrittenObject
from airflow_provider_isvapp.transfer.rows import RowBatch
from airflow_provider_isvapp.transfer.staging.base import Provenance, commit_staged


class Encoder(Protocol):
    """Encodes rows for storage."""

    def encode_rows(self, batches: Sequence[RowBatch]) -> bytes | memoryview:
        """Encode rows and return the bytes that are ready to be stored."""
        ...

    def finish(self, provenance: Provenance) -> bytes:
        """Return the remaining bytes.

        :param provenance: the final provenance, for a format that stores it at the end.
        """
        ...


class ByteEncoder(ABC):
    """Encodes ndjson in pieces that may begin and end anywhere."""

    @abstractmethod
    def encode(self, plain: bytes) -> bytes:
        """Encode ndjson and return the bytes that are ready to be stored."""

    def encode_rows(self, batches: Sequence[RowBatch]) -> bytes:
        """Encode rows and return the bytes that are ready to be stored."""
        return self.encode(b"".join(batch.lines for batch in batches))

    @abstractmethod
    def finish(self, provenance: Provenance) -> bytes:
        """Return the remaining bytes."""


class Plain(ByteEncoder):
    """Stores ndjson as it is."""

    def encode(self, plain: bytes) -> bytes:
        """Return the same bytes."""
        return plain

    def finish(self, provenance: Provenance) -> bytes:
        """Return nothing."""
        return b""


class Gzip(ByteEncoder):
    """Compresses ndjson again: a month cannot be cut out of the export's gzip file."""

    def __init__(self) -> None:
        self._compressor = _new_compressor()

    def encode(self, plain: bytes) -> bytes:
        """Return the compressed bytes that are ready."""
        return self._compressor.compress(plain)

    def finish(self, provenance: Provenance) -> bytes:
        """Return the remaining bytes and the trailer; a complete, empty member if there was no input."""
        return self._compressor.flush()


class _Compressor(Protocol):
    def compress(self, data: bytes | memoryview, /) -> bytes: ...
    def flush(self) -> bytes: ...


def _new_compressor() -> _Compressor:
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    return isal_zlib.compressobj(wbits=16 + zlib.MAX_WBITS)


def encoder_for(options: WriteOptions, row_type: type[Object]) -> Encoder:
    """Return a new encoder for one object.

    :param row_type: the documented structure of a row.
    :raises InvalidArgument: if its library is not installed.
    """
    if options.output_format == "parquet":
        from airflow_provider_isvapp.transfer.parquet import ParquetEncoder

        return ParquetEncoder(row_type, excluded=options.exclude_fields)
    return Gzip() if options.compression == "gzip" else Plain()


_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chunk:
    """A chunk of rows that was received, decompressed and checked.

    :param compressed: as it was received; empty for a list.
    :param plain: the decompressed bytes.
    :param batches: the rows that it completes, for a partitioned write and for Parquet.
    """

    compressed: memoryview
    plain: bytes
    batches: Sequence[RowBatch] = ()


class RowWriter(Protocol):
    """Writes rows chunk by chunk, and publishes them at the end or not at all."""

    def write(self, chunk: Chunk) -> None:
        """Store a chunk."""
        ...

    def flush(self, provenance: Provenance) -> list[WrittenObject]:
        """Send everything to the storage, so that only small steps remain, and return the objects to publish."""
        ...

    def commit(self, objects: Sequence[WrittenObject]) -> list[WrittenObject]:
        """Publish objects and return the published ones: another object that appeared meanwhile may stay.

        :param objects: some of those that :meth:`flush` returned; :meth:`abort` removes the others.
        """
        ...

    def abort(self) -> None:
        """Remove all objects that are not published."""
        ...


class StoredObject:
    """One object while it is written, with its size and checksums.

    :param stores_plain: whether it holds the plain ndjson of the whole export, whose CRC-32 is already computed.
    """

    def __init__(
        self,
        destination: Destination,
        options: WriteOptions,
        *,
        provenance: Provenance,
        stores_plain: bool = False,
    ) -> None:
        self.rows = 0
        self._stores_plain = stores_plain
        self._destination = destination
        self._if_exists = options.if_exists
        self._target = destination.target()
        self._staged = self._target.stage(
            exclusive=options.if_exists != "overwrite", content_type=options.content_type, provenance=provenance
        )
        self._size = 0
        self._crc32 = Crc32()
        self._sha256 = hashlib.sha256() if options.writes_manifest else None
        self._written: WrittenObject | None = None

    def store(self, data: bytes | memoryview) -> None:
        """Append encoded bytes."""
        if not data:
            return
        self._size += len(data)
        if not self._stores_plain:
            self._crc32.update(data)
        if self._sha256 is not None:
            self._sha256.update(data)
        self._staged.write(data)

    def flush(self, provenance: Provenance, *, month: str | None = None) -> WrittenObject:
        """Send all bytes to the storage."""
        self._staged.flush(provenance)
        known_crc32 = provenance.crc32 if self._stores_plain else None
        self._written = WrittenObject(
            path=self._destination.uri,
            rows=self.rows,
            bytes=self._size,
            crc32=known_crc32 or str(self._crc32),
            sha256=None if self._sha256 is None else self._sha256.hexdigest(),
            reference_date=month,
        )
        return self._written

    def commit(self) -> WrittenObject | None:
        """Publish the object; return None if another one appeared meanwhile and stays."""
        info = commit_staged(self._staged, self._target, uri=self._destination.uri, if_exists=self._if_exists)
        assert self._written is not None  # noqa: S101 - flushed first
        return None if info is None else replace(self._written, version=info.version, checksum=info.checksum)

    def abort(self) -> None:
        """Remove the object, unless it is published."""
        self._staged.abort()


class SingleObjectWriter:
    """Writes all rows to one object.

    :param row_type: the documented structure of a row.
    :param as_received: store the vendor's gzip file unchanged; the pipeline verifies it.
    """

    def __init__(
        self,
        destination: Destination,
        options: WriteOptions,
        *,
        provenance: Provenance,
        row_type: type[Object] = TaxonomyItemRow,
        as_received: bool = False,
    ) -> None:
        self._encoder = encoder_for(options, row_type)
        self._as_received = as_received
        self._empty = True
        self._object = StoredObject(
            destination, options, provenance=provenance, stores_plain=isinstance(self._encoder, Plain)
        )

    def write(self, chunk: Chunk) -> None:
        """Store a chunk."""
        if self._empty and chunk.plain and not chunk.compressed:
            # The file arrived decompressed.
            self._as_received = False
        if self._as_received:
            self._empty = self._empty and not chunk.compressed
            self._object.store(chunk.compressed)
        elif isinstance(self._encoder, ByteEncoder):
            self._object.store(self._encoder.encode(chunk.plain))
        else:
            self._object.store(self._encoder.encode_rows(chunk.batches))

    def flush(self, provenance: Provenance) -> list[WrittenObject]:
        """Hand everything to the storage."""
        if not self._as_received or self._empty:
            self._object.store(self._encoder.finish(provenance))
        self._object.rows = provenance.rows or 0
        return [self._object.flush(provenance)]

    def commit(self, objects: Sequence[WrittenObject]) -> list[WrittenObject]:
        """Publish the object."""
        published = self._object.commit() if objects else None
        return [] if published is None else [published]

    def abort(self) -> None:
        """Remove the object, unless it is published."""
        self._object.abort()


class PartitionedWriter:
    """Writes the rows of each month to a separate object.

    Once all objects are verified and handed to the storage, they are published one right after the other. A process
    that dies in between leaves some months new and some old, each of them complete; the next run writes them all, or
    without ``overwrite`` the missing ones.

    :param destination: the place of each month, with ``{reference_date}`` in its path.
    :param options: ``if_exists`` applies to each month whose object exists: ``overwrite`` it, ``skip`` it, or ``fail``
        at its first row, unless it is of this export.
    """

    def __init__(
        self,
        destination: Destination,
        options: WriteOptions,
        *,
        provenance: Provenance,
    ) -> None:
        self._destination = destination
        self._options = options
        self._if_exists = options.if_exists
        self._provenance = provenance
        self._months: dict[str, _MonthObject] = {}
        self._left: set[str] = set()

    def write(self, chunk: Chunk) -> None:
        """Store the rows that the chunk completes."""
        for batch in chunk.batches:
            for name, rows in batch.by_month().items():
                if name in self._left:
                    continue
                month = self._months.get(name) or self._begin(name)
                if month is not None:
                    month.write(rows)

    def flush(self, provenance: Provenance) -> list[WrittenObject]:
        """Send everything to the storage, in the order of the months."""
        objects = []
        for name, month in sorted(self._months.items()):
            month.store()
            month.stored.store(month.encoder.finish(provenance))
            objects.append(month.stored.flush(provenance, month=name))
        return objects

    def commit(self, objects: Sequence[WrittenObject]) -> list[WrittenObject]:
        """Publish the months of these objects in their order.

        :raises StorageFailed: if a month is not published; the message names the published ones.
        """
        published: list[WrittenObject] = []
        for name in sorted(item.reference_date or "" for item in objects):
            try:
                written = self._months[name].stored.commit()
            except StorageFailed as error:
                if not published:
                    raise
                months = ", ".join(str(item.reference_date) for item in published)
                failure = StorageFailed(
                    f"The months {months} of export {self._provenance.export_id} are published, and the others are "
                    f"not: {error} The next run writes them."
                )
            else:
                published += [] if written is None else [written]
                continue
            raise failure
        return published

    def abort(self) -> None:
        """Remove all objects that are not published."""
        for month in self._months.values():
            month.stored.abort()

    def _begin(self, month: str) -> _MonthObject | None:
        destination = self._destination.with_value(MONTH_PLACEHOLDER, month)
        there = None if self._if_exists == "overwrite" else destination.target().info()
        if there is not None:
            if self._if_exists == "fail" and not self._is_of_this_export(there.provenance):
                raise DestinationExists(f"{destination.uri} exists, and if_exists is 'fail'.")
            _LOG.info("%s already exists and stays as it is", destination.uri)
            self._left.add(month)
            return None
        stored = StoredObject(destination, self._options, provenance=self._provenance)
        self._months[month] = _MonthObject(stored, encoder_for(self._options, TaxonomyItemRow))
        return self._months[month]

    def _is_of_this_export(self, provenance: Provenance | None) -> bool:
        return provenance is not None and (provenance.export_id, provenance.format) == (
            self._provenance.export_id,
            self._provenance.format,
        )


# Alternating months arrive in small batches, which are buffered: at most 4 MiB for ``MOST_MONTHS`` months. All buffers
# are full at about the same time, and then the other thread waits: with 256 KiB, a download takes a tenth longer.
_BUFFER_BYTES = 64 * 1024


class _MonthObject:
    def __init__(self, stored: StoredObject, encoder: Encoder) -> None:
        self.stored = stored
        self.encoder = encoder
        self._batches: list[RowBatch] = []
        self._size = 0

    def write(self, batch: RowBatch) -> None:
        self._batches.append(batch)
        self._size += len(batch.lines)
        self.stored.rows += len(batch.months)
        if self._size >= _BUFFER_BYTES:
            self.store()

    def store(self) -> None:
        """Encode and store the buffered rows."""
        if self._batches:
            batches, self._batches, self._size = self._batches, [], 0
            self.stored.store(self.encoder.encode_rows(batches))
