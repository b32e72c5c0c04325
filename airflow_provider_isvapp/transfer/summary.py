# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Sums up the rows of an export as they pass: what a check compares, and what shows whether a month has changed."""

from __future__ import annotations

import codecs
import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from io import BytesIO
from typing import Any, NamedTuple

import msgspec

from airflow_provider_isvapp.api.schema.fields import Scalar, read_object
from airflow_provider_isvapp.api.schema.isvapp import TaxonomyItemRow
from airflow_provider_isvapp.errors import MalformedRows, StorageFailed

# Changes with the input of a digest or the meaning of a figure. A summary of another version is ignored.
_VERSION = 1
_DIGEST_BYTES = 16
_DIGESTS = 256**_DIGEST_BYTES
_MONTH = "reference_date"
# The last three characters of an 18-character Salesforce id are a checksum of the others.
_SALESFORCE_ID_LENGTH = 15
_LONGEST_COUNT = 18
_SORT_KIBIBYTES = 16 * 1024

_FIELDS = read_object(TaxonomyItemRow).fields
_LABELS = tuple(item.name for item in _FIELDS if item.facts.label)
_KINDS = {item.name: item.type.kind for item in _FIELDS if isinstance(item.type, Scalar)}
KEY = tuple(item.name for item in _FIELDS if item.facts.key)
COUNTERS = tuple(name for name, kind in _KINDS.items() if kind == "count text")
(_ACCOUNT,) = (name for name, kind in _KINDS.items() if kind == "salesforce id")


class MonthSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one month's rows as stored, without excluded fields.

    :param rows: the number of rows.
    :param bytes: their size as ndjson.
    :param accounts: the number of accounts.
    :param counters: the sum of each documented counter by field name, without those that no row has.
    :param digest: 32 hexadecimal digits, equal only for the same rows, in any order and JSON formatting.
    :param digest_unnamed: the digest of the rows without their names and labels.
    """

    rows: int
    bytes: int
    accounts: int
    counters: dict[str, int]
    digest: str
    digest_unnamed: str


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of the rows of an object, an export or a list.

    :param rows: the number of rows.
    :param bytes: their size as ndjson.
    :param months: the figures by ``reference_date``, sorted; rows without one are under ``""``. Empty for a list, and
        for an export of an undocumented type.
    """

    rows: int
    bytes: int
    months: dict[str, MonthSummary] = {}
    version: int = _VERSION

    def of_month(self, month: str) -> Summary:
        """Return the summary of one month's rows."""
        found = self.months[month]
        return Summary(rows=found.rows, bytes=found.bytes, months={month: found})

    @classmethod
    def of_months(cls, summaries: Iterable[Summary]) -> Summary:
        """Return the combined summary of objects with different months."""
        months = {month: found for summary in summaries for month, found in summary.months.items()}
        return cls(
            rows=sum(month.rows for month in months.values()),
            bytes=sum(month.bytes for month in months.values()),
            months=dict(sorted(months.items())),
        )

    def as_json(self) -> dict[str, Any]:
        """Return JSON values, for a manifest and for XCom."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found

    @classmethod
    def from_json(cls, value: object) -> Summary | None:
        """Read what :meth:`as_json` returned; None for anything else, including a summary of another version."""
        try:
            found = msgspec.convert(value, cls)
        except msgspec.ValidationError:
            return None
        return found if found.version == _VERSION else None


class RowSummarizer:
    """Computes the figures of rows that are known to be one JSON object per line.

    A digest is the sum of the rows' hashes modulo 2**128. It is independent of the order, and a duplicate row changes
    it, which an exclusive or would not ensure. The hash is that of the parsed row with its fields in alphabetical
    order: escapes, white space and the notation of numbers make no difference. Of two fields with the same name, the
    last counts.

    Memory grows with the number of accounts, by about 200 bytes each, and not with the number of rows.

    :param is_documented: whether :class:`TaxonomyItemRow` documents the rows; otherwise they are only counted.
    :param keys: collects the key of each row; None if no check looks for repeated ones.
    """

    def __init__(self, *, is_documented: bool = True, keys: KeyIndex | None = None) -> None:
        self._is_documented = is_documented
        self._keys = keys
        self._rows = 0
        self._bytes = 0
        self._months: dict[str, _Month] = {}
        self._accounts: defaultdict[str, int] = defaultdict(int)
        self._open_line: list[bytes] = []

    def feed(self, chunk: bytes) -> None:
        """Add the next bytes; they may begin and end anywhere.

        :raises MalformedRows: if a counter of a row is not an integer.
        """
        end = chunk.rfind(b"\n") + 1
        if end:
            self._open_line.append(chunk[:end])
            block = b"".join(self._open_line)
            self._open_line.clear()
            self._add(block)
        if end < len(chunk):
            self._open_line.append(chunk[end:])

    def finish(self) -> None:
        """Add the end of the rows; the last one may lack its newline.

        :raises MalformedRows: as :meth:`feed`.
        """
        if self._open_line:
            self.feed(b"\n")

    def summary(self) -> Summary:
        """Return the summary of the rows so far."""
        accounts = [0] * len(self._months)
        for months in self._accounts.values():
            for index in range(months.bit_length()):
                accounts[index] += months >> index & 1
        return Summary(
            rows=self._rows,
            bytes=self._bytes,
            months={
                name: MonthSummary(
                    rows=month.rows,
                    bytes=month.bytes,
                    accounts=accounts[month.index],
                    counters=month.counters,
                    digest=f"{month.digest:0{2 * _DIGEST_BYTES}x}",
                    digest_unnamed=f"{month.digest_unnamed:0{2 * _DIGEST_BYTES}x}",
                )
                for name, month in sorted(self._months.items())
            },
        )

    def _add(self, block: bytes) -> None:
        """Add whole lines. Blank lines and a byte order mark before the first row are ignored."""
        if self._rows == 0:
            block = block.removeprefix(codecs.BOM_UTF8)
        lines = [line for line in BytesIO(block) if not line.isspace()]
        if self._is_documented:
            by_month: defaultdict[str, list[_Line]] = defaultdict(list)
            for number, line in enumerate(lines, start=self._rows + 1):
                found = _read(line, number)
                by_month[found.row.get(_MONTH) or ""].append(found)
            if self._keys is not None:
                self._keys.add(found for rows in by_month.values() for found in rows)
            for month, rows in by_month.items():
                self._add_to_month(month, rows)
        self._rows += len(lines)
        self._bytes += sum(map(len, lines))

    def _add_to_month(self, name: str, lines: Sequence[_Line]) -> None:
        month = self._months.get(name)
        if month is None:
            month = self._months[name] = _Month(index=len(self._months))
        month.add(lines)
        bit = 1 << month.index
        for account in {account for line in lines if isinstance(account := line.row.get(_ACCOUNT), str)}:
            self._accounts[account[:_SALESFORCE_ID_LENGTH]] |= bit


class _Line(NamedTuple):
    number: int
    size: int
    row: dict[str, Any]
    write: Callable[[dict[str, Any]], bytes]


@dataclass(frozen=True, kw_only=True)
class RepeatedKeys:
    """Rows that repeat the key of an earlier row.

    :param rows: the number of such rows.
    :param first: the numbers of two rows with the same key, from 1.
    """

    rows: int
    first: tuple[int, int]


class KeyIndex:
    """The keys of all rows, on disk: SQLite sorts them there, in constant memory, and compares whole keys.

    The file is in the directory for temporary files (``SQLITE_TMPDIR``, else ``TMPDIR``) and has no name: it disappears
    with the process, even after a crash.
    """

    def __init__(self) -> None:
        # The checking thread adds keys, and the task's own thread queries them.
        self._database = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_SORT_KIBIBYTES}"):
            self._database.execute(f"PRAGMA {setting}")
        self._database.execute("CREATE TABLE keys (key BLOB, row INTEGER)")

    def add(self, lines: Iterable[_Line]) -> None:
        """Add the keys of rows."""
        with _disk_errors():
            self._database.execute("BEGIN")
            self._database.executemany("INSERT INTO keys VALUES (?, ?)", map(_key, lines))
            self._database.execute("COMMIT")

    def repeated(self) -> RepeatedKeys | None:
        """Return the rows that repeat the key of an earlier one; None if there are none."""
        with _disk_errors():
            found = self._database.execute(
                "SELECT sum(n - 1), min(first), last FROM "
                "(SELECT count(*) AS n, min(row) AS first, max(row) AS last FROM keys GROUP BY key HAVING n > 1)"
            ).fetchone()
        return None if found[0] is None else RepeatedKeys(rows=found[0], first=(found[1], found[2]))

    def close(self) -> None:
        """Remove the file."""
        self._database.close()


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StorageFailed(
            f"The keys of the rows cannot be sorted on the worker's disk: {error}. UniqueKeys needs about 100 bytes "
            "per row there: set TMPDIR to a directory with enough space."
        ) from error


def _key(line: _Line) -> tuple[bytes, int]:
    key = {name: line.row.get(name) for name in KEY}
    if isinstance(account := key[_ACCOUNT], str):
        key[_ACCOUNT] = account[:_SALESFORCE_ID_LENGTH]
    return line.write(key), line.number


class _Month:
    """The running figures of one month."""

    def __init__(self, *, index: int) -> None:
        self.index = index
        self.rows = 0
        self.bytes = 0
        self.counters: dict[str, int] = {}
        self.digest = 0
        self.digest_unnamed = 0

    def add(self, lines: Sequence[_Line]) -> None:
        self.rows += len(lines)
        self.bytes += sum(line.size for line in lines)
        for name in COUNTERS:
            found = _sum(name, lines)
            if found is not None:
                self.counters[name] = self.counters.get(name, 0) + found
        for _, _, row, write in lines:
            labels = {name: row.pop(name) for name in _LABELS if name in row}
            state = blake2b(write(row), digest_size=_DIGEST_BYTES)
            self.digest_unnamed += int.from_bytes(state.digest())
            state.update(write(labels))
            self.digest += int.from_bytes(state.digest())
        self.digest %= _DIGESTS
        self.digest_unnamed %= _DIGESTS


# Most rows have only texts and nulls.
_read_texts = msgspec.json.Decoder(dict[str, str | None]).decode
_write_texts = msgspec.json.Encoder(order="sorted").encode


def _read(line: bytes, number: int) -> _Line:
    """Parse a row; numbers keep every digit."""
    try:
        return _Line(number, len(line), _read_texts(line), _write_texts)
    except (msgspec.MsgspecError, UnicodeError):
        pass
    try:
        row = json.loads(line.decode(), parse_int=Decimal, parse_float=Decimal)
        return _Line(number, len(line), row, _write)
    except (ValueError, ArithmeticError, RecursionError) as error:
        problem = str(error) or type(error).__name__
    raise MalformedRows(f"row {number} cannot be read: {problem}")


def _write(value: dict[str, Any]) -> bytes:
    return _spell(value).encode()


def _spell(value: object) -> str:
    """Return a canonical JSON-like text: the same for equal values only."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{_spell(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_spell, value)) + "]"
    if isinstance(value, Decimal):
        sign, digits, exponent = value.as_tuple()
        number = "".join(map(str, digits)).lstrip("0")
        significant = number.rstrip("0")
        return f"{'-' * sign}{significant}e{int(exponent) + len(number) - len(significant)}" if significant else "0"
    return json.dumps(value)


def _sum(name: str, lines: Sequence[_Line]) -> int | None:
    """Return the sum of one counter; None if no row has it."""
    counts = [line.row[name] for line in lines if line.row.get(name) is not None]
    if not counts:
        return None
    try:
        text = "".join(counts)
        if text.isascii() and text.isdigit():
            return sum(map(int, counts))
    except (TypeError, ValueError):
        pass
    return sum(_count(name, line) for line in lines if line.row.get(name) is not None)


def _count(name: str, line: _Line) -> int:
    found = line.row[name]
    is_text = isinstance(found, str) and found.isascii() and found.isdigit() and len(found) <= _LONGEST_COUNT
    # A number with more digits is not a real count, and would take long to convert.
    is_number = isinstance(found, Decimal) and 0 <= found < 10**_LONGEST_COUNT and found == int(found)
    if not is_text and not is_number:
        raise MalformedRows(f"row {line.number} has no integer in {name}")
    return int(found)
