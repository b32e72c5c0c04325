# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Turns rows of an export into Parquet, block by block."""

from __future__ import annotations

import codecs
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_isvapp.errors import MalformedRows
from airflow_provider_isvapp.transfer.rows import UNREADABLE
from airflow_provider_isvapp.transfer.staging.base import METADATA_KEY, Provenance

if TYPE_CHECKING:
    import pyarrow as pa

# Parsed at once, in pieces that pyarrow gives to all cores. Memory grows with it: 1 MiB of ndjson takes about 4 MiB
# while it is converted.
_BLOCK_BYTES = 4 * 1024 * 1024
_PIECE_BYTES = 1024 * 1024
# Rows of a row group: about 64 MiB of ndjson, which readers skip or read as one.
_ROW_GROUP_ROWS = 128 * 1024

# pyarrow quotes the value that does not fit, which can be as long as a row.
_LONGEST_REASON = 200

_TEXTS_BEFORE = ("type", "aggregation")
_MONTH = "reference_date"
_TEXTS = (
    "salesforce_account_id",
    "salesforce_account_name",
    "taxonomy_id",
    "taxonomy_item_id",
    "taxonomy_item_label",
    "taxonomy_item_parent_item_id",
    "taxonomy_label",
    "taxonomy_level_id",
    "taxonomy_level_label",
)
_COUNTERS = (
    "unique_users",
    "unique_users_external",
    "unique_users_internal",
    "operations",
    "operations_external",
    "operations_internal",
)
_DOCUMENTED = (*_TEXTS_BEFORE, _MONTH, *_TEXTS, *_COUNTERS)
# One column of JSON for all fields that are not documented, so that a new one changes no schema.
_OTHER = "other_fields"


class ParquetEncoder:
    """Writes typed columns: counters as int64, ``reference_date`` as the first day of its month, the rest as strings.

    Fields that the vendor does not document are kept as a JSON object in the column ``other_fields`` (null if there are
    none). Compression is zstd. Memory is bounded by a row group, about 150 MiB above what pyarrow takes when it is
    imported.

    :param excluded: columns to leave out.
    """

    def __init__(self, *, excluded: Collection[str] = ()) -> None:
        import pyarrow as pa
        import pyarrow.json
        import pyarrow.parquet as pq

        self._pa = pa
        self._json = pyarrow.json
        self._schema = pa.schema(
            [(name, pa.string()) for name in _TEXTS_BEFORE]
            + [(_MONTH, pa.date32())]
            + [(name, pa.string()) for name in _TEXTS]
            + [(name, pa.int64()) for name in _COUNTERS]
            + [(_OTHER, pa.string())]
        )
        self._as_text = pa.schema([(name, pa.string()) for name in _DOCUMENTED])
        self._sink = _Sink()
        self._columns = [name for name in self._schema.names if name not in excluded]
        stored = pa.schema([self._schema.field(name) for name in self._columns])
        self._writer = pq.ParquetWriter(self._sink, stored, compression="zstd")
        self._lines: list[bytes] = []
        self._size = 0
        self._tables: list[pa.Table] = []
        self._rows = 0
        self._rows_before = 0
        # pyarrow's own errors, some of which are no ValueError, and what the JSON codec makes of numbers and nesting.
        self._unreadable = (pa.ArrowException, ValueError, OverflowError, *UNREADABLE)

    def encode(self, plain: bytes | memoryview) -> bytes:
        """Take bytes of ndjson; return the row groups that are ready."""
        self._lines.append(bytes(plain))
        self._size += len(plain)
        if self._size >= _BLOCK_BYTES:
            block = b"".join(self._lines)
            end = block.rfind(b"\n") + 1
            self._lines, self._size = [block[end:]], len(block) - end
            self._convert(block[:end])
        return self._sink.take()

    def finish(self, provenance: Provenance) -> bytes:
        """Return the last row group and the footer, with the provenance among its entries."""
        self._convert(b"".join(self._lines))
        self._write_row_group()
        self._writer.add_key_value_metadata({METADATA_KEY: provenance.to_text()})
        self._writer.close()
        return self._sink.take()

    def _convert(self, block: bytes) -> None:
        if self._rows_before == 0:
            block = block.removeprefix(codecs.BOM_UTF8)
        if not block:
            return
        try:
            table = self._table(block)
        except self._unreadable:
            table = None
        if table is None:
            raise self._first_bad_row(block)
        self._rows_before += table.num_rows
        self._tables.append(table)
        self._rows += table.num_rows
        if self._rows >= _ROW_GROUP_ROWS:
            self._write_row_group()

    def _table(self, block: bytes) -> pa.Table:
        return self._typed(*self._parsed(block))

    def _first_bad_row(self, block: bytes) -> MalformedRows:
        """Say which row it is, without showing it: it holds customers' data."""
        rows = filter(bytes.strip, block.split(b"\n"))
        for number, row in enumerate(rows, start=self._rows_before + 1):
            try:
                self._table(row)
            except self._unreadable as error:
                reason = str(error)[:_LONGEST_REASON]
                return MalformedRows(
                    f"row {number} of the object does not fit the documented types of its columns: {reason}"
                )
        return MalformedRows(f"the rows after row {self._rows_before} do not fit together in a Parquet file")

    def _write_row_group(self) -> None:
        if self._tables:
            table = self._pa.concat_tables(self._tables).select(self._columns)
            self._writer.write_table(table, row_group_size=2 * _ROW_GROUP_ROWS)
        self._tables, self._rows = [], 0

    def _parsed(self, block: bytes) -> tuple[pa.Table, pa.Array]:
        """Parse into columns of strings; the fast way first, which knows the documented fields only."""
        options = self._json.ParseOptions(explicit_schema=self._as_text, unexpected_field_behavior="error")
        reading = self._json.ReadOptions(block_size=_PIECE_BYTES)
        try:
            table = self._json.read_json(self._pa.BufferReader(block), read_options=reading, parse_options=options)
        except self._pa.ArrowInvalid:
            return self._parsed_with_others(block)
        return table.select(_DOCUMENTED), self._pa.nulls(table.num_rows, self._pa.string())

    def _parsed_with_others(self, block: bytes) -> tuple[pa.Table, pa.Array]:
        rows: list[dict[str, Any]] = msgspec.json.Decoder(dict).decode_lines(block)
        others = [{name: value for name, value in row.items() if name not in _DOCUMENTED} for row in rows]
        columns = {name: [_text(row.get(name)) for row in rows] for name in _DOCUMENTED}
        as_json = [msgspec.json.encode(other).decode() if other else None for other in others]
        return self._pa.table(columns, schema=self._as_text), self._pa.array(as_json, self._pa.string())

    def _typed(self, table: pa.Table, others: pa.Array) -> pa.Table:
        columns: list[Any] = []
        for name in _DOCUMENTED:
            column = table.column(name)
            try:
                if name in _COUNTERS:
                    column = column.cast(self._pa.int64())
                elif name == _MONTH:
                    column = self._first_days(column)
            except self._pa.ArrowInvalid as error:
                raise ValueError(f"{name}: {error}") from None
            columns.append(column)
        return self._pa.Table.from_arrays([*columns, others], schema=self._schema)

    def _first_days(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        import pyarrow.compute as pc

        months = pc.equal(pc.binary_length(column), len("2024-03"))
        return pc.if_else(months, pc.binary_join_element_wise(column, "01", "-"), column).cast(self._pa.date32())


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode()


class _Sink:
    """A file for pyarrow that is emptied after every block."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._position = 0

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._position += len(part)
        return len(part)

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False
