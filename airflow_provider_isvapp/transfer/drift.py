# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Compares rows with what the vendor documents, and reports where they differ."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from operator import attrgetter
from typing import Any

import msgspec

from airflow_provider_isvapp.api.schema.fields import Field, ListOf, MapOf, Object, ObjectOf, Scalar, Type, read_object
from airflow_provider_isvapp.errors import MalformedRows

# The vendor controls the keys of objects: limit the size of a report.
_MOST_FINDINGS = 50
_LONGEST_KEY = 80
# The most findings in one message; the log has all of them.
_MOST_SHOWN = 5
# The last three of 18 characters are a checksum of the others.
_SALESFORCE_ID_LENGTH = 15
_INT64 = range(-(2**63), 2**63)


class DriftKind(StrEnum):
    """How a value differs from the documentation. All but the last leave the documented values intact."""

    UNKNOWN_FIELD = "unknown_field"
    UNKNOWN_VALUE = "unknown_value"
    ABSENT = "absent"
    NULL = "null"
    WRONG_TYPE = "wrong_type"


_SENTENCES = {
    DriftKind.UNKNOWN_FIELD: "is not documented",
    DriftKind.UNKNOWN_VALUE: "has a value that is not documented",
    DriftKind.ABSENT: "is documented but absent",
    DriftKind.NULL: "is null, which is not documented",
    DriftKind.WRONG_TYPE: "is not of the documented type",
}


@dataclass
class Drift:
    """One field that differs from the documentation.

    :param path: JSON path of the field in a row; ``[]`` is any element, and ``*`` a key that is data.
    :param rows: the number of rows in which it differs.
    :param first_row: the number of the first of them, from 1.
    """

    path: str
    kind: DriftKind
    rows: int
    first_row: int
    last_row: int

    def __str__(self) -> str:
        rows = "1 row" if self.rows == 1 else f"{self.rows:,} rows"
        return f"{self.path} {_SENTENCES[self.kind]} ({rows}, the first is row {self.first_row})"

    def as_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"path": self.path, "kind": str(self.kind), "rows": self.rows, "first_row": self.first_row}


class DriftReport:
    """The differences in a whole file or list, one per field, up to a maximum number."""

    def __init__(self) -> None:
        self._findings: dict[tuple[str, DriftKind], Drift] = {}

    def add(self, path: str, kind: DriftKind, row: int) -> None:
        """Record that a row differs."""
        found = self._findings.get((path, kind))
        if found is None:
            if len(self._findings) < _MOST_FINDINGS:
                self._findings[path, kind] = Drift(path, kind, rows=1, first_row=row, last_row=row)
        elif found.last_row != row:
            found.rows += 1
            found.last_row = row

    def __iter__(self) -> Iterator[Drift]:
        return iter(self._findings.values())

    def __len__(self) -> int:
        return len(self._findings)

    def __str__(self) -> str:
        shown = "; ".join(map(str, list(self)[:_MOST_SHOWN]))
        return shown if len(self) <= _MOST_SHOWN else f"{shown}; and {len(self) - _MOST_SHOWN} more fields"

    def as_json(self) -> list[dict[str, Any]]:
        """Return JSON values, for XCom."""
        return [found.as_json() for found in self]


class RowChecker:
    """Compares rows one by one with a documented object.

    :param struct: the documented structure of a row.
    :param allow_wrong_types: report a value of a wrong type instead of refusing its row.
    :param unique: refuse a row with the key of an earlier one.
    :ivar decode: parses a row that matches the documentation, and raises for any other.
    """

    def __init__(self, struct: type[Object], *, allow_wrong_types: bool, unique: bool = False) -> None:
        self.report = DriftReport()
        self._object = read_object(struct)
        self.decode = msgspec.json.Decoder(struct).decode
        unmatched, self._patterns = _without_patterns(struct)
        self._decode_unmatched = msgspec.json.Decoder(unmatched).decode
        self._any = msgspec.json.Decoder().decode
        self._allow_wrong_types = allow_wrong_types
        self._keys = tuple(item for item in self._object.fields if item.facts.key)
        self._unique = unique and bool(self._keys)
        self._seen: dict[Any, int] = {}

    def read_documented(self, lines: Iterable[bytes], *, match_patterns: bool = True) -> list[Any]:
        """Parse rows that match the documentation.

        Each pattern is matched once against a whole column of values. The decoder would match it once per value, which
        takes three times as long as all the rest.

        :param match_patterns: False if the caller matches the patterns of the texts.
        :raises msgspec.ValidationError: if a row differs; :meth:`check` finds out which one.
        """
        rows = list(map(self._decode_unmatched, lines))
        for name, pattern in self._patterns if match_patterns else ():
            column = "\n".join(map(attrgetter(name), rows)) + "\n"
            if column.count("\n") > len(rows) or pattern.fullmatch(column) is None:
                raise msgspec.ValidationError(f"a value of {name} is not as documented")
        return rows

    def check(self, line: bytes, row: int) -> None:
        """Compare a row.

        :param row: the row's number, from 1.
        :raises MalformedRows: if it has no key, has the key of another row, or has a value of a wrong type.
        """
        try:
            found = self.decode(line)
        except (msgspec.ValidationError, UnicodeError):
            pass
        else:
            if self._unique:
                self._require_unique(tuple(getattr(found, item.name) for item in self._keys), row)
            return
        value = self._read(line, row)
        for item in self._keys:
            if not isinstance(value.get(item.name), str) or not value[item.name]:
                raise MalformedRows(f"row {row} has no {item.name}, which identifies it")
        if self._unique:
            self._require_unique(tuple(value[item.name] for item in self._keys), row)
        self._compare(value, self._object, "$", row)

    def _read(self, line: bytes, row: int) -> dict[str, Any]:
        try:
            value = self._any(line)
        except msgspec.DecodeError:
            # Valid JSON nevertheless, with a number too large for any column or half a surrogate pair.
            value = json.loads(line, parse_int=float, parse_float=float)
        if not isinstance(value, dict):
            raise MalformedRows(f"row {row} is not a JSON object")
        return value

    def _require_unique(self, key: tuple[str, ...], row: int) -> None:
        names = " and ".join(item.name for item in self._keys)
        if _is_salesforce_id(self._keys[0]):
            key = (key[0][:_SALESFORCE_ID_LENGTH], *key[1:])
        if (first := self._seen.setdefault(key, row)) != row:
            raise MalformedRows(f"rows {first} and {row} have the same {names}")

    def _compare(self, value: Any, kind: Type, path: str, row: int) -> None:
        if isinstance(kind, ObjectOf) and isinstance(value, dict):
            self._compare_object(value, kind, path, row)
        elif isinstance(kind, ListOf) and isinstance(value, list):
            for item in value:
                self._compare(item, kind.items, f"{path}[]", row)
        elif isinstance(kind, MapOf) and isinstance(value, dict):
            for key, item in value.items():
                if not kind.keys:
                    self._compare(item, kind.values, f"{path}.*", row)
                    continue
                inner = f"{path}{member(key)}"
                if key not in kind.keys:
                    self.report.add(inner, DriftKind.UNKNOWN_FIELD, row)
                self._compare(item, kind.values, inner, row)
        elif value is None:
            self.report.add(path, DriftKind.NULL, row)
        elif not isinstance(kind, Scalar) or not fits(value, kind):
            self._refuse_type(path, row)
        elif kind.values and value not in kind.values:
            self.report.add(path, DriftKind.UNKNOWN_VALUE, row)

    def _compare_object(self, value: dict[str, Any], kind: ObjectOf, path: str, row: int) -> None:
        variants = dict(kind.variants)
        known = 0
        for item in kind.fields:
            inner = f"{path}{member(item.name)}"
            if item.name not in value:
                if item.required:
                    self.report.add(inner, DriftKind.ABSENT, row)
                continue
            known += 1
            found, wanted = value[item.name], item.type
            if item.name == kind.varies:
                tag = value.get(kind.tag or "")
                if not isinstance(tag, str) or tag not in variants:
                    continue  # the tag itself is reported, and the type for it is unknown
                wanted = variants[tag]
            if found is not None or not item.nullable:
                self._compare(found, wanted, inner, row)
        if known < len(value):
            names = {item.name for item in kind.fields}
            for name in value:
                if name not in names:
                    self.report.add(f"{path}{member(name)}", DriftKind.UNKNOWN_FIELD, row)

    def _refuse_type(self, path: str, row: int) -> None:
        if not self._allow_wrong_types:
            raise MalformedRows(f"row {row}: {path} {_SENTENCES[DriftKind.WRONG_TYPE]}")
        self.report.add(path, DriftKind.WRONG_TYPE, row)


def _without_patterns(struct: type[Object]) -> tuple[type[Object], list[tuple[str, re.Pattern[str]]]]:
    """Return the object with plain texts instead of patterns, and the patterns for lines of such values."""
    members: list[Any] = []
    patterns = []
    for item in msgspec.structs.fields(struct):
        kind = item.type
        found = [meta.pattern for meta in getattr(kind, "__metadata__", ()) if isinstance(meta, msgspec.Meta)]
        if any(found) and kind.__origin__ is str:
            kind = str
            (pattern,) = filter(None, found)
            value = pattern.removeprefix(r"\A").removesuffix(r"\Z")
            patterns.append((item.name, re.compile(rf"(?:(?:{value})\n)*+")))
        default = {} if item.required else {"default": item.default}
        members.append((item.name, kind, msgspec.field(name=item.encode_name, **default)))
    unmatched = msgspec.defstruct(struct.__name__, members, bases=(Object,), kw_only=True, gc=False)
    assert issubclass(unmatched, Object)  # noqa: S101 - for the type checker
    return unmatched, patterns


def member(name: str) -> str:
    """Return the JSON path step to a member of an object, with a very long name shortened."""
    name = name if len(name) <= _LONGEST_KEY else name[:_LONGEST_KEY] + "…"
    return f".{name}" if re.fullmatch(r"[^\W\d]\w*", name) else f"[{json.dumps(name)}]"


def fits(value: Any, kind: Scalar) -> bool:
    """Whether a value that is not null is of a documented type."""
    match kind.kind:
        case "any":
            return True
        case "boolean":
            return isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        case "integer":
            is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
            return is_whole and not isinstance(value, bool) and int(value) in _INT64
        case "date":
            return isinstance(value, str) and _is(value, date.fromisoformat) and len(value) == len("2024-03-01")
        case "time":
            return isinstance(value, str) and _is(value, datetime.fromisoformat)
    if kind.is_untyped and isinstance(value, int) and not isinstance(value, bool):
        return True
    return isinstance(value, str) and (kind.pattern is None or re.search(kind.pattern, value) is not None)


def _is(value: str, read: Any) -> bool:
    try:
        read(value)
    except ValueError:
        return False
    return True


def _is_salesforce_id(key: Field) -> bool:
    return isinstance(key.type, Scalar) and key.type.kind == "salesforce id"
