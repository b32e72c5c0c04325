# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Turns rows into Parquet, block by block, with the columns of their documentation."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import date
from io import BytesIO
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
from airflow_provider_isvapp.transfer.drift import RowChecker
from airflow_provider_isvapp.transfer.rows import UNREADABLE, RowBatch
from airflow_provider_isvapp.transfer.staging.base import METADATA_KEY, Provenance

if TYPE_CHECKING:
    import pyarrow as pa

# The size of the ndjson whose columns are built at once. In smaller blocks, pyarrow takes longer; during larger ones,
# the reading thread waits.
_BLOCK_BYTES = 2 * 1024 * 1024
# Readers skip or read a whole row group: about 64 MiB of an export's ndjson. A row with all attributes of an app is ten
# times as large as a row of an export, hence the limit in bytes.
_ROW_GROUP_ROWS = 128 * 1024
_ROW_GROUP_BYTES = 96 * 1024 * 1024

# pyarrow quotes the invalid value, which can be as long as a row.
_LONGEST_REASON = 200

# Matches an escape that pyarrow's CSV reader does not know: it only unescapes quotation marks and backslashes.
_OTHER_ESCAPE = re.compile(rb'\\[^"\\]')


class ParquetEncoder:
    """Writes a column for each documented field, with the type and nesting of :mod:`..api.schema.fields`.

    Undocumented fields go to the column ``other_fields``, as a JSON object by path (null if there are none).
    Compression is zstd. A row group bounds the memory, to about 120 MiB above that of the imported pyarrow.

    :param row_type: the documented structure of a row.
    :param excluded: fields to leave out, as in ``exclude_fields``.
    """

    def __init__(self, row_type: type[Object], *, excluded: Collection[str] = ()) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._pa = pa
        self._checker = RowChecker(row_type, allow_wrong_types=False)
        self._fields = read_object(row_type).fields
        self._names = [item.name for item in self._fields]
        self._are_texts = all(isinstance(item.type, Scalar) and item.type.json == "string" for item in self._fields)
        columns = [(item.name, self._column(item.type, item.name, excluded)) for item in self._fields]
        self._schema = pa.schema(
            [(name, kind) for name, kind in columns if kind is not None] + [(OTHER_FIELDS, pa.string())]
        )
        self._as_text = pa.schema([(name, pa.string()) for name in self._names])
        self._sink = _Sink()
        self._writer = pq.ParquetWriter(self._sink, self._schema, compression="zstd")
        self._block: list[bytes] = []
        self._size = 0
        self._has_arrays = False
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

    def encode_rows(self, batches: Sequence[RowBatch]) -> bytes:
        """Encode rows and return the row groups that are ready."""
        for batch in batches:
            if self._has_arrays != (batch.arrays is not None):
                self._convert()
                self._has_arrays = batch.arrays is not None
            self._block.append(batch.lines if batch.arrays is None else batch.arrays)
            self._size += len(batch.lines)
            if self._size >= _BLOCK_BYTES:
                self._convert()
        return self._sink.take()

    def finish(self, provenance: Provenance) -> bytes:
        """Return the last row group and the footer, whose entries include the provenance."""
        self._convert()
        self._write_row_group()
        self._writer.add_key_value_metadata({METADATA_KEY: provenance.to_text()})
        self._writer.close()
        return self._sink.take()

    def _convert(self) -> None:
        block, self._block, size, self._size = b"".join(self._block), [], self._size, 0
        if not block:
            return
        try:
            table = self._read(block)
        except (MalformedRows, *self._unreadable):
            table = None
        if table is None:
            raise self._first_bad_row(block)
        self._rows_before += table.num_rows
        self._tables.append(table)
        self._rows += table.num_rows
        self._row_group_bytes += size
        if self._rows >= _ROW_GROUP_ROWS or self._row_group_bytes >= _ROW_GROUP_BYTES:
            self._write_row_group()

    def _read(self, block: bytes) -> pa.Table:
        return self._read_arrays(block) if self._has_arrays else self._read_lines(block)

    def _first_bad_row(self, block: bytes) -> MalformedRows:
        """Return an error that gives the row's number but not the row, which holds customers' data."""
        for number, row in enumerate(BytesIO(block), start=self._rows_before + 1):
            try:
                self._read(row)
            except MalformedRows as error:
                return error
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

    def _read_lines(self, block: bytes) -> pa.Table:
        """Read rows of any fields."""
        if not self._are_texts:
            return self._nested(block)
        rows: list[dict[str, Any]] = msgspec.json.Decoder(dict).decode_lines(block)
        others = [{name: value for name, value in row.items() if name not in self._as_text.names} for row in rows]
        columns = {name: [_text(row.get(name)) for row in rows] for name in self._names}
        as_json = [msgspec.json.encode(other).decode() if other else None for other in others]
        return self._typed(self._pa.table(columns, schema=self._as_text), self._pa.array(as_json, self._pa.string()))

    def _read_arrays(self, block: bytes) -> pa.Table:
        """Read the arrays of documented rows of texts.

        pyarrow's CSV reader takes them as they are: the brackets go with the numbers at both ends, which it skips. It
        builds columns four times as fast as its JSON reader.
        """
        if _OTHER_ESCAPE.search(block):
            arrays = msgspec.json.Decoder(list).decode_lines(block)
            columns = list(zip(*arrays, strict=True))[1:-1]
            table = self._pa.table(dict(zip(self._names, columns, strict=True)), schema=self._as_text)
        else:
            table = self._read_csv(block)
        self._match_patterns(table, block)
        return self._typed(table, self._pa.nulls(table.num_rows, self._pa.string()))

    def _read_csv(self, block: bytes) -> pa.Table:
        from pyarrow import csv

        # One block, in this thread: the other ones are busy with the next rows.
        return csv.read_csv(
            self._pa.BufferReader(block),
            read_options=csv.ReadOptions(
                use_threads=False, block_size=len(block), column_names=["[", *self._names, "]"]
            ),
            parse_options=csv.ParseOptions(double_quote=False, escape_char="\\"),
            convert_options=csv.ConvertOptions(
                check_utf8=False,
                include_columns=self._names,
                column_types=self._as_text,
                null_values=["null"],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )

    def _match_patterns(self, table: pa.Table, block: bytes) -> None:
        """Compare texts with their patterns, by column.

        :raises MalformedRows: if one of them differs.
        """
        import pyarrow.compute as pc

        for item in self._fields:
            assert isinstance(item.type, Scalar)  # noqa: S101 - only rows of texts get here
            if item.type.pattern is None:
                continue
            column = table.column(item.name)
            if item.type.kind == "count text":
                matches = pc.ascii_is_decimal(column)
            else:
                # RE2 spells the end of the text in its own way.
                matches = pc.match_substring_regex(column, item.type.pattern.replace(r"\Z", r"\z"))
            if not pc.all(matches).as_py():
                for number, *values, _ in msgspec.json.Decoder(list).decode_lines(block):
                    row = dict(zip(self._names, values, strict=True))
                    self._checker.check(msgspec.json.encode(row), number)

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

        encoded = column.combine_chunks().dictionary_encode()
        texts = encoded.dictionary
        months = pc.equal(pc.binary_length(texts), len("2024-03"))
        days = pc.if_else(months, pc.binary_join_element_wise(texts, "01", "-"), texts).cast(self._pa.date32())
        return days.take(encoded.indices)


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
