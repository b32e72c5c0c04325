# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Turns rows into Parquet, block by block, with the columns of their documentation."""

from __future__ import annotations

import codecs
from collections.abc import Collection, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_isvapp.api.schema.fields import (
    OTHER_FIELDS,
    Field,
    ListOf,
    MapOf,
    Object,
    ObjectOf,
    Scalar,
    Type,
    members_of,
    read_object,
    stored_kind,
)
from airflow_provider_isvapp.errors import MalformedRows
from airflow_provider_isvapp.transfer.rows import UNREADABLE
from airflow_provider_isvapp.transfer.staging.base import METADATA_KEY, Provenance

if TYPE_CHECKING:
    import pyarrow as pa

# The size of a block that is parsed at once, in pieces that pyarrow spreads over all cores. Converting 1 MiB of ndjson
# takes about 4 MiB of memory.
_BLOCK_BYTES = 4 * 1024 * 1024
_PIECE_BYTES = 1024 * 1024
# Readers skip or read a whole row group: about 64 MiB of an export's ndjson. A row with all attributes of an app is ten
# times as large as a row of an export, hence the limit in bytes.
_ROW_GROUP_ROWS = 128 * 1024
_ROW_GROUP_BYTES = 96 * 1024 * 1024

# pyarrow quotes the invalid value, which can be as long as a row.
_LONGEST_REASON = 200


class ParquetEncoder:
    """Writes a column for each documented field, with the type and nesting of :mod:`..api.schema.fields`.

    Undocumented fields go to the column ``other_fields``, as a JSON object by path (null if there are none).
    Compression is zstd. A row group bounds the memory, to about 150 MiB above that of the imported pyarrow.

    :param row_type: the documented structure of a row.
    :param excluded: fields to leave out, as in ``exclude_fields``.
    """

    def __init__(self, row_type: type[Object], *, excluded: Collection[str] = ()) -> None:
        import pyarrow as pa
        import pyarrow.json
        import pyarrow.parquet as pq

        self._pa = pa
        self._json = pyarrow.json
        self._fields = read_object(row_type).fields
        self._names = [item.name for item in self._fields]
        # pyarrow itself parses rows that have only texts, on all cores.
        self._are_texts = all(isinstance(item.type, Scalar) and item.type.json == "string" for item in self._fields)
        columns = [(item.name, self._column(item.type, item.name, excluded)) for item in self._fields]
        self._schema = pa.schema(
            [(name, kind) for name, kind in columns if kind is not None] + [(OTHER_FIELDS, pa.string())]
        )
        self._as_text = pa.schema([(name, pa.string()) for name in self._names])
        self._sink = _Sink()
        self._writer = pq.ParquetWriter(self._sink, self._schema, compression="zstd")
        self._lines: list[bytes] = []
        self._size = 0
        self._tables: list[pa.Table] = []
        self._rows = 0
        self._row_group_bytes = 0
        self._rows_before = 0
        # pyarrow's errors, not all of which are ValueErrors, and the JSON codec's errors for numbers and nesting.
        self._unreadable = (pa.ArrowException, ValueError, OverflowError, *UNREADABLE)

    def _column(self, kind: Type, path: str, excluded: Collection[str]) -> pa.DataType | None:
        """Return the type of a column; None if it or all of its members are excluded."""
        if path in excluded or path.rpartition(".")[2] in excluded:
            return None
        pa = self._pa
        if isinstance(kind, Scalar):
            return {
                "text": pa.string(),
                "any": pa.string(),
                "date": pa.date32(),
                "time": pa.timestamp("us", tz="UTC"),
                "integer": pa.int64(),
                "number": pa.float64(),
                "boolean": pa.bool_(),
            }[stored_kind(kind)]
        if isinstance(kind, ListOf):
            items = self._column(kind.items, f"{path}[]", excluded)
            return None if items is None else pa.list_(items)
        if isinstance(kind, MapOf):
            values = self._column(kind.values, f"{path}.*", excluded)
            return None if values is None else pa.map_(pa.string(), values)
        members = [(name, self._column(inner, f"{path}.{name}", excluded)) for name, inner in members_of(kind)]
        kept = [(name, inner) for name, inner in members if inner is not None]
        return pa.struct(kept) if kept else None

    def encode(self, plain: bytes | memoryview) -> bytes:
        """Encode ndjson and return the row groups that are ready."""
        self._lines.append(bytes(plain))
        self._size += len(plain)
        if self._size >= _BLOCK_BYTES:
            block = b"".join(self._lines)
            end = block.rfind(b"\n") + 1
            self._lines, self._size = [block[end:]], len(block) - end
            self._convert(block[:end])
        return self._sink.take()

    def finish(self, provenance: Provenance) -> bytes:
        """Return the last row group and the footer, whose entries include the provenance."""
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
        self._row_group_bytes += len(block)
        if self._rows >= _ROW_GROUP_ROWS or self._row_group_bytes >= _ROW_GROUP_BYTES:
            self._write_row_group()

    def _table(self, block: bytes) -> pa.Table:
        return self._typed(*self._parsed(block)) if self._are_texts else self._nested(block)

    def _first_bad_row(self, block: bytes) -> MalformedRows:
        """Return an error that gives the row's number but not the row, which holds customers' data."""
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
            table = self._pa.concat_tables(self._tables)
            self._writer.write_table(table, row_group_size=2 * _ROW_GROUP_ROWS)
        self._tables, self._rows, self._row_group_bytes = [], 0, 0

    def _parsed(self, block: bytes) -> tuple[pa.Table, pa.Array]:
        """Parse into columns of strings, first the fast way, which accepts only documented fields."""
        options = self._json.ParseOptions(explicit_schema=self._as_text, unexpected_field_behavior="error")
        reading = self._json.ReadOptions(block_size=_PIECE_BYTES)
        try:
            table = self._json.read_json(self._pa.BufferReader(block), read_options=reading, parse_options=options)
        except self._pa.ArrowInvalid:
            return self._parsed_with_others(block)
        return table.select(self._names), self._pa.nulls(table.num_rows, self._pa.string())

    def _parsed_with_others(self, block: bytes) -> tuple[pa.Table, pa.Array]:
        rows: list[dict[str, Any]] = msgspec.json.Decoder(dict).decode_lines(block)
        others = [{name: value for name, value in row.items() if name not in self._as_text.names} for row in rows]
        columns = {name: [_text(row.get(name)) for row in rows] for name in self._names}
        as_json = [msgspec.json.encode(other).decode() if other else None for other in others]
        return self._pa.table(columns, schema=self._as_text), self._pa.array(as_json, self._pa.string())

    def _typed(self, table: pa.Table, others: pa.Array) -> pa.Table:
        columns: list[Any] = []
        for item in self._fields:
            if item.name not in self._schema.names:
                continue
            column = table.column(item.name)
            assert isinstance(item.type, Scalar)  # noqa: S101 - only rows of texts get here
            try:
                if stored_kind(item.type) == "integer":
                    column = column.cast(self._pa.int64())
                elif stored_kind(item.type) == "date":
                    column = self._first_days(column)
            except self._pa.ArrowInvalid as error:
                raise ValueError(f"{item.name}: {error}") from None
            columns.append(column)
        return self._pa.Table.from_arrays([*columns, others], schema=self._schema)

    def _nested(self, block: bytes) -> pa.Table:
        rows = []
        for row in msgspec.json.Decoder(dict).decode_lines(block):
            others: dict[str, Any] = {}
            made = _members(row, self._fields, "", others)
            rows.append(made | {OTHER_FIELDS: msgspec.json.encode(others).decode() if others else None})
        return self._pa.Table.from_pylist(rows, schema=self._schema)

    def _first_days(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        import pyarrow.compute as pc

        months = pc.equal(pc.binary_length(column), len("2024-03"))
        return pc.if_else(months, pc.binary_join_element_wise(column, "01", "-"), column).cast(self._pa.date32())


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode()


def _members(value: dict[str, Any], fields: Sequence[Field], path: str, others: dict[str, Any]) -> dict[str, Any]:
    """Return the documented fields of an object as Arrow accepts them, and put the others into ``others`` by path."""
    made: dict[str, Any] = {}
    types = {item.name: item.type for item in fields}
    for name, inner in value.items():
        kind = types.get(name)
        if kind is None:
            others[f"{path}{name}"] = inner
        else:
            made[name] = _value(inner, kind, f"{path}{name}", others)
    return made


def _value(value: Any, kind: Type, path: str, others: dict[str, Any]) -> Any:
    if value is None:
        return None
    if isinstance(kind, ListOf):
        return [_value(item, kind.items, f"{path}[{place}]", others) for place, item in enumerate(value)]
    if isinstance(kind, MapOf):
        return [(key, _value(item, kind.values, f"{path}.{key}", others)) for key, item in value.items()]
    if isinstance(kind, ObjectOf):
        if kind.varies is None or kind.varies not in value:
            return _members(value, kind.fields, f"{path}.", others)
        tag, varying = value.get(kind.tag or ""), value[kind.varies]
        made = _members(value | {kind.varies: None}, kind.fields, f"{path}.", others)
        variant = dict(kind.variants).get(tag) if isinstance(tag, str) else None
        if variant is None:
            others[f"{path}.{kind.varies}"] = varying
        else:
            made[kind.varies] = {tag: _value(varying, variant, f"{path}.{kind.varies}", others)}
        return made
    match stored_kind(kind):
        case "date":
            return date.fromisoformat(value)
        case "integer":
            return int(value)
        case "number":
            return float(value)
    return value if isinstance(value, str | bool) else _text(value)


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
