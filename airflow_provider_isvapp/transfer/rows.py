# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Checks and counts the rows of an ndjson stream as it passes."""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import ClassVar, Protocol, cast

import msgspec
from msgspec.structs import astuple

from airflow_provider_isvapp.errors import MalformedRows
from airflow_provider_isvapp.transfer.audit import is_month
from airflow_provider_isvapp.transfer.drift import RowChecker
from airflow_provider_isvapp.transfer.options import DEFAULT_MAX_ROW_BYTES

# Errors of the JSON decoder for bytes that are not a row; deep nesting exhausts the stack.
UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)


class Row(msgspec.Struct, gc=False):
    """Any row: an object whose month is the only field that is read.

    The decoder skips the other fields, but validates their JSON.
    """

    reference_date: str | None = None


class ListRow(msgspec.Struct, gc=False):
    """An element of a list: an object without a month."""

    reference_date: ClassVar[None] = None


class UndocumentedRow(msgspec.Struct, gc=False):
    """A row of an export of an undocumented type: any object."""

    reference_date: ClassVar[None] = None


class _HasMonth(Protocol):
    @property
    def reference_date(self) -> str | None: ...


@dataclass(frozen=True)
class RowBatch:
    """Checked rows in the order of arrival.

    :param lines: the rows, each with its newline.
    :param months: the ``reference_date`` of each row, which is safe in a path if the export is partitioned.
    :param arrays: the same rows as JSON arrays, if they were requested and all rows match their documentation: the
        number of the line, the values in documented order, and a 0.
    """

    lines: bytes
    months: Sequence[str | None] = ()
    arrays: bytes | None = None

    def by_month(self) -> dict[str, RowBatch]:
        """Group the rows, which may come in any order, by month."""
        months = cast("Sequence[str]", self.months)
        if months.count(months[0]) == len(months):
            return {months[0]: self}
        lines = _group(self.lines, months)
        arrays = {} if self.arrays is None else _group(self.arrays, months)
        return {
            month: RowBatch(b"".join(of_month), [month] * len(of_month), b"".join(arrays[month]) if arrays else None)
            for month, of_month in lines.items()
        }


def _group(lines: bytes, months: Sequence[str]) -> dict[str, list[bytes]]:
    groups: defaultdict[str, list[bytes]] = defaultdict(list)
    for month, line in zip(months, BytesIO(lines), strict=True):
        groups[month].append(line)
    return groups


_ENCODER = msgspec.json.Encoder()
_MONTH_NAME = "reference_date"
_MONTH_KEY = b'"reference_date"'
# Every other JSON spelling of that name contains one of its letters, or the underscore, as an escape.
_ESCAPED_LETTERS = (rb"\u005", rb"\u006", rb"\u007")
_ESCAPED_LETTER = re.compile(rb"\\u00[567]")


@cache
def _load_count() -> Callable[[bytes, bytes], int]:
    """Use stringzilla if it is installed (extra ``fast``): it searches many times as fast as Python."""
    try:
        import stringzilla
    except ImportError:
        return bytes.count
    count: Callable[[bytes, bytes], int] = stringzilla.count
    return count


class RowInspector:
    """Checks that every line is one JSON object in UTF-8 with at most one month, and counts rows and months.

    The result for a row depends only on that row: lines are parsed together only where each of them is one row. In an
    export, blank lines and a byte order mark before the first row are ignored.

    :param row_type: the fields of a row to read.
    :param checker: compares each row with its documentation. Rows that match it are only parsed.
    :param by_month: return the rows, and refuse one whose month is missing or unsafe in a path.
    :param as_arrays: return the rows, documented ones as arrays, too. If they are not grouped by month, the caller
        compares their texts with the documented patterns, in columns.
    :param max_row_bytes: the longest row, without its newline.
    """

    def __init__(
        self,
        row_type: type[_HasMonth] = Row,
        *,
        checker: RowChecker | None = None,
        by_month: bool = False,
        as_arrays: bool = False,
        max_row_bytes: int = DEFAULT_MAX_ROW_BYTES,
    ) -> None:
        self.rows = 0
        self._lines = 0
        self._is_list = row_type is ListRow
        self._may_have_month = row_type not in (ListRow, UndocumentedRow)
        self._by_month = by_month
        self._as_arrays = as_arrays
        self._max_row_bytes = max_row_bytes
        self._checker = checker
        decoder = msgspec.json.Decoder(row_type)
        self._decode = decoder.decode
        self._decode_lines = decoder.decode_lines
        self._count = _load_count()
        self._months: Counter[str | None] = Counter()
        self._open_line: list[bytes] = []
        self._open_size = 0

    def feed(self, chunk: bytes) -> list[RowBatch]:
        """Inspect the next bytes; they may begin and end anywhere.

        :return: the rows completed by these bytes; empty without ``by_month`` and ``as_arrays``.
        :raises MalformedRows: at the first invalid line.
        """
        batches = []
        begin = 0
        if self._open_line:
            begin = chunk.find(b"\n") + 1
            self._keep(chunk[: begin - 1] if begin else chunk)
            if begin == 0:
                return []
            batches += self._inspect_open_line()
        end = max(begin, chunk.rfind(b"\n") + 1)
        batches += self._inspect(chunk[begin:end], match_patterns=self._by_month or not self._as_arrays)
        self._keep(chunk[end:])
        return batches

    def finish(self) -> list[RowBatch]:
        """Inspect the end of the stream; the last row may lack its newline.

        :return: as :meth:`feed`; each row ends with a newline.
        """
        return self._inspect_open_line()

    @property
    def months(self) -> dict[str, int]:
        """Rows by ``reference_date``, in the order of the months; rows without one are left out."""
        return {month: self._months[month] for month in sorted(month for month in self._months if month is not None)}

    def _keep(self, part: bytes) -> None:
        if part:
            self._open_line.append(part)
            self._open_size += len(part)
            if self._open_size > self._max_row_bytes + len(codecs.BOM_UTF8):
                raise self._too_long(self._lines + 1)

    def _inspect_open_line(self) -> list[RowBatch]:
        line = b"".join(self._open_line)
        self._open_line.clear()
        self._open_size = 0
        # The patterns, too: a malformed line after it would keep the row from the caller.
        return self._inspect(line + b"\n", match_patterns=True) if line else []

    def _inspect(self, block: bytes, *, match_patterns: bool) -> list[RowBatch]:
        """Check whole lines."""
        if self._lines == 0:
            block = block.removeprefix(codecs.BOM_UTF8)
        read = self._read_all(block, match_patterns=match_patterns)
        if read is None:
            block, months = self._read_each(block)
            arrays = None
        else:
            months, arrays = read
            self._lines += len(months)
        if not months:
            return []
        self.rows += len(months)
        if months.count(months[0]) == len(months):
            self._months[months[0]] += len(months)
        else:
            self._months.update(months)
        return [RowBatch(block, months, arrays)] if self._by_month or self._as_arrays else []

    def _read_all(self, block: bytes, *, match_patterns: bool) -> tuple[list[str | None], bytes | None] | None:
        """Return the month of each line, and the lines as arrays if requested.

        :return: None if a line is invalid, or if only a check of each line can tell.
        """
        rows: Iterable[_HasMonth]
        arrays = None
        try:
            if self._checker is not None:
                rows = self._checker.read_documented(BytesIO(block), match_patterns=match_patterns)
                if self._as_arrays:
                    numbered = enumerate(rows, self._lines + 1)
                    arrays = _ENCODER.encode_lines([(number, *astuple(row), 0) for number, row in numbered])
            elif lines := self._count_object_lines(block):
                rows = self._decode_lines(block)
                if len(rows) != lines:
                    return None
            else:
                rows = map(self._decode, BytesIO(block))
            months = [row.reference_date for row in rows]
            if not block.isascii():
                block.decode()
        except UNREADABLE:
            return None
        if (
            len(block) > self._max_row_bytes
            or (not self._is_list and self._may_repeat_month(block, months))
            or ((self._by_month or self._as_arrays) and not all(month and is_month(month) for month in set(months)))
        ):
            return None
        return months, arrays

    def _count_object_lines(self, block: bytes) -> int:
        """Count the lines of a block if each newline but the last one separates two objects; return 0 otherwise.

        If the block is valid JSON, a newline between a closing and an opening brace is between two objects: inside one,
        there would be a comma, and a string has no newline. So these lines are rows if there are as many rows.

        Only for stringzilla: splitting the block into lines takes less time than Python's search.
        """
        end = b"}\r\n" if block.endswith(b"}\r\n") else b"}\n"
        if self._count is bytes.count or not (block.startswith(b"{") and block.endswith(end)):
            return 0
        lines = self._count(block, b"\n")
        return lines if self._count(block, end + b"{") == lines - 1 else 0

    def _may_repeat_month(self, block: bytes, months: list[str | None]) -> bool:
        """Whether a row might have a second month: the decoder sees only the last one.

        No row has two if every row has one, and the name occurs once per row and in no escaped spelling.
        """
        return (
            self._count(block, _MONTH_KEY) != len(months)
            or None in months
            or (b"\\" in block and self._has_escaped_letter(block))
        )

    def _has_escaped_letter(self, block: bytes) -> bool:
        # One search by re takes less time than three of Python's, and more than three of stringzilla's.
        if self._count is bytes.count:
            return _ESCAPED_LETTER.search(block) is not None
        return any(self._count(block, letters) for letters in _ESCAPED_LETTERS)

    def _read_each(self, block: bytes) -> tuple[bytes, list[str | None]]:
        """Return the rows among the lines, and their months."""
        rows, months = [], []
        for line in BytesIO(block):
            self._lines += 1
            if self._is_list or line.strip(b" \t\r\n"):
                months.append(self._read(line))
                rows.append(line)
        return b"".join(rows), months

    def _read(self, line: bytes) -> str | None:
        if len(line) - 1 > self._max_row_bytes:
            raise self._too_long(self._lines)
        try:
            text = line.decode()
            month = self._decode(line).reference_date
            if self._may_have_month and _has_two_months(line, text):
                problem = f"has more than one {_MONTH_NAME}"
            elif self._by_month and (month is None or not is_month(month)):
                # The month becomes part of a path: refuse any text that could lead elsewhere.
                problem = f"has no {_MONTH_NAME} to partition the export by"
            else:
                if self._checker is not None:
                    self._checker.check(line, self._lines)
                return month
        except RecursionError:
            problem = "is nested too deeply to be read"
        except UNREADABLE as error:
            # The row itself is not shown: it holds customers' data.
            problem = f"is not a row: {error}"
        raise MalformedRows(f"line {self._lines} {problem}")

    def _too_long(self, line: int) -> MalformedRows:
        return MalformedRows(f"line {line} is longer than {self._max_row_bytes} bytes (max_row_bytes)")


def _has_two_months(line: bytes, text: str) -> bool:
    if line.count(_MONTH_KEY) < 2 and not _ESCAPED_LETTER.search(line):
        return False
    # Numbers stay text: only names matter, and Python refuses to parse integers of thousands of digits.
    members = json.loads(text, object_pairs_hook=list, parse_int=str, parse_float=str)
    return [name for name, _ in members].count(_MONTH_NAME) > 1
