# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Checks and counts the rows of an ndjson stream as it passes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from operator import attrgetter
from typing import Annotated, ClassVar, Literal, Protocol

import msgspec

from airflow_provider_isvapp.errors import DamagedDownload

_ROW_END = b"}\n"


def count_rows_with_prefix(rows: bytes, beginning: bytes, begin: int, end: int) -> int | None:
    """Count the lines of ``rows[begin:end]``, if each begins with ``beginning`` and ends with a brace; else None.

    None means "not seen to be so", not "wrong": the rows can be parsed then. It is so if there are as many joints
    between a row and the next as there are newlines, the last one excepted: two searches that have to agree.
    """
    if not (rows.startswith(beginning, begin) and rows.endswith(_ROW_END, begin, end)):
        return None
    count = _engine()
    lines = count(rows, b"\n", begin, end)
    return lines if count(rows, _ROW_END + beginning, begin, end) == lines - 1 else None


@cache
def _engine() -> Callable[[bytes, bytes, int, int], int]:
    """Pick stringzilla where it is installed (the extra ``fast``), many times as fast as Python's own search."""
    try:
        import stringzilla
    except ImportError:
        return bytes.count

    def count(rows: bytes, what: bytes, begin: int, end: int) -> int:
        occurrences: int = stringzilla.count(memoryview(rows)[begin:end], what)
        return occurrences

    return count


Count = Annotated[str, msgspec.Meta(pattern=r"\A[0-9]+\Z")]
Month = Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{4}-(0[1-9]|1[0-2])\Z")]
SalesforceId = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9]{15}([A-Za-z0-9]{3})?\Z")]


class TaxonomyItemRow(msgspec.Struct, gc=False):
    """A row of a taxonomy item export; fields that are not documented may be there, too."""

    type: Literal["TAXONOMY_ITEM"]
    aggregation: Literal["MONTHLY"]
    reference_date: Month
    salesforce_account_id: SalesforceId
    salesforce_account_name: str
    taxonomy_id: str
    taxonomy_item_id: str
    taxonomy_item_label: str
    taxonomy_item_parent_item_id: str | None
    taxonomy_label: str
    taxonomy_level_id: str
    taxonomy_level_label: str
    unique_users: Count
    unique_users_external: Count
    unique_users_internal: Count
    operations: Count
    operations_external: Count
    operations_internal: Count


LONGEST_ROW = 16 * 1024 * 1024

# What bytes that are no row bring about in the JSON decoder; a row of deep nesting exhausts the stack.
UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)


class Row(msgspec.Struct, gc=False):
    """Any row: an object, of which only the month is read.

    Parsing it skips over the other fields but follows JSON's grammar through all of them.
    """

    reference_date: str | None = None


# The beginning of a row up to its month: an object of plain strings, so that nothing else can be meant. The fields of
# every row come in one order, which makes this beginning the same for long runs of rows.
_ROW_BEGINNING = re.compile(rb'\{(?:"[^"\\\n]*":"[^"\\\n]*",)*"reference_date":"([^"\\\n]*)"')


class ListRow(msgspec.Struct, gc=False):
    """An element of a list: an object without a month."""

    reference_date: ClassVar[None] = None


class _HasMonth(Protocol):
    @property
    def reference_date(self) -> str | None: ...


@dataclass(frozen=True)
class PartitionChunk:
    """Rows of one month that follow each other.

    :param month: their ``reference_date``.
    :param lines: the rows, each with its newline.
    :param rows: how many.
    """

    month: str
    lines: memoryview
    rows: int


class RowInspector:
    """Sees to it that every line is one JSON object, and counts lines and months.

    Parsing every row would be the slowest step of a download. So most rows are only seen to begin as the row before
    them, month included, right after a row that ends; where that fails, and for the first rows, the rows are parsed.

    :param row_type: what a row must look like.
    :param parse_all: take no short cut.
    :param by_month: hand the rows out again as runs of one month.
    """

    def __init__(self, row_type: type[_HasMonth] = Row, *, parse_all: bool = False, by_month: bool = False) -> None:
        self.rows = 0
        self._by_month = by_month
        self._partitions: list[PartitionChunk] = []
        self._decoder = msgspec.json.Decoder(row_type)
        self._parse_all = parse_all
        self._months: Counter[str | None] = Counter()
        self._beginning = b""
        self._month = ""
        self._open_row: list[bytes] = []
        self._open_size = 0

    def feed(self, chunk: bytes) -> list[PartitionChunk]:
        """Take the next bytes; they may begin and end anywhere.

        :return: the rows that are complete by now, if they are wanted by month.
        :raises DamagedDownload: at the first line that is not what it must be.
        """
        begin = 0
        if self._open_row:
            begin = chunk.find(b"\n") + 1
            if begin == 0:
                self._keep(chunk)
                return []
            self._keep(chunk[:begin])
            self._inspect_open_row()
        end = chunk.rfind(b"\n", begin) + 1
        if end > begin:
            self._inspect(chunk, begin, end)
        else:
            end = begin
        if end < len(chunk):
            self._keep(chunk[end:])
        return self._take_partitions()

    def finish(self) -> list[PartitionChunk]:
        """Take the end of the stream; the last row may lack its newline.

        :return: as :meth:`feed`; each row has its newline there.
        """
        if self._open_row:
            self._keep(b"\n")
            self._inspect_open_row()
        return self._take_partitions()

    def _take_partitions(self) -> list[PartitionChunk]:
        partitions, self._partitions = self._partitions, []
        return partitions

    @property
    def months(self) -> dict[str, int]:
        """Rows by ``reference_date``, in the order of the months; rows without one are left out."""
        return {month: self._months[month] for month in sorted(month for month in self._months if month is not None)}

    def _keep(self, part: bytes) -> None:
        self._open_row.append(part)
        self._open_size += len(part)
        if self._open_size > LONGEST_ROW:
            raise DamagedDownload(f"line {self.rows + 1} is longer than {LONGEST_ROW} bytes")

    def _inspect_open_row(self) -> None:
        row = b"".join(self._open_row)
        self._open_row.clear()
        self._open_size = 0
        self._inspect(row, 0, len(row))

    def _inspect(self, chunk: bytes, begin: int, end: int) -> None:
        """Check whole lines: ``chunk[begin:end]`` begins with a row and ends with a newline."""
        lines = count_rows_with_prefix(chunk, self._beginning, begin, end) if self._beginning else None
        if lines is not None:
            self._months[self._month] += lines
            if self._by_month:
                self._partitions.append(PartitionChunk(self._month, memoryview(chunk)[begin:end], lines))
        else:
            lines = chunk.count(b"\n", begin, end)
            self._parse(memoryview(chunk)[begin:end], lines)
            if not self._parse_all:
                self._learn_beginning(chunk, begin, end)
        self.rows += lines

    def _learn_beginning(self, chunk: bytes, begin: int, end: int) -> None:
        match = _ROW_BEGINNING.match(chunk, chunk.rfind(b"\n", begin, end - 1) + 1 or begin, end)
        self._beginning = match[0] if match else b""
        self._month = match[1].decode() if match else ""

    def _parse(self, lines_of_json: memoryview, lines: int) -> None:
        try:
            rows = self._decoder.decode_lines(lines_of_json)
        except UNREADABLE:
            rows = None
        if rows is None or len(rows) != lines:
            raise self._first_bad_line(bytes(lines_of_json))
        self._months.update(map(attrgetter("reference_date"), rows))
        if self._by_month:
            self._split(lines_of_json, [row.reference_date for row in rows])

    def _split(self, lines: memoryview, months: list[str | None]) -> None:
        ends = [newline.end() for newline in re.finditer(b"\n", lines)]
        begin = done = 0
        for month, group in groupby(months):
            count = len(list(group))
            if month is None:
                raise DamagedDownload(f"line {self.rows + done + 1} has no reference_date to divide the export by")
            done += count
            self._partitions.append(PartitionChunk(month, lines[begin : ends[done - 1]], count))
            begin = ends[done - 1]

    def _first_bad_line(self, block: bytes) -> DamagedDownload:
        for number, line in enumerate(block.removesuffix(b"\n").split(b"\n"), start=self.rows + 1):
            try:
                self._decoder.decode(line)
            except UNREADABLE as error:
                # The row itself is not shown: it holds customers' data.
                return DamagedDownload(f"line {number} is not a row: {error}")
        return DamagedDownload(f"after line {self.rows} there is not one JSON object a line")
