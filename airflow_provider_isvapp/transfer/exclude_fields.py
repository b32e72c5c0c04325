# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Leaves fields out of rows, and keeps every other value as the vendor wrote it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence

from airflow_provider_isvapp.errors import InvalidArgument

_ELEMENT = "[]"
_BRACKETS = frozenset(_ELEMENT)
# The tokens that matter in valid JSON: strings (a name is followed by a colon) and structural characters.
_TOKEN = re.compile(rb'("(?:[^"\\]++|\\.)*+")[ \t\r]*+(:?)|[{}\[\],]')
_SPACE = b" \t\r"


def parse_field(text: object) -> tuple[str, ...]:
    """Parse the name of a field: ``Name`` at every depth, or a path from the row such as ``Instances[].Name``.

    :return: the names on the path, with ``[]`` for any element of an array.
    :raises InvalidArgument: if it is neither.
    """
    parts: list[str] = []
    if isinstance(text, str) and text.isprintable():
        for part in text.split("."):
            name = part.rstrip(_ELEMENT)
            elements, rest = divmod(len(part) - len(name), len(_ELEMENT))
            if not name or rest or part != name + _ELEMENT * elements or not _BRACKETS.isdisjoint(name):
                break
            parts += [name, *[_ELEMENT] * elements]
        else:
            if parts[-1] != _ELEMENT:
                return tuple(parts)
    raise InvalidArgument(
        f"exclude_fields: {text!r} names no field. Give a name, as in 'AppContacts', which applies at every depth, "
        "or a path from the row, as in 'Instances[].AppContacts'."
    )


class _Member:
    """Finds a field and its value at any depth, if its name has no escapes.

    A quotation mark inside a string follows a backslash, and the one before a name does not. A match is therefore never
    part of a string.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._spelling = b'"%s"' % name.encode()
        literal = re.escape(self._spelling)
        key = literal + rb"(?<!\\" + literal + rb")[ \t\r]*+:"
        value = rb'[ \t\r]*+(?:"(?:[^"\\]++|\\.)*+"|[^\s"{}\[\],]++)[ \t\r]*+'
        self._key = re.compile(key)
        self._followed = re.compile(key + value + rb",")
        self._last = re.compile(rb",[ \t\r]*+" + key + value)
        self._alone = re.compile(key + value)

    def is_in(self, lines: bytes) -> bool:
        """Whether a row has the field."""
        return self._spelling in lines and self._key.search(lines) is not None

    def strip(self, lines: bytes) -> bytes:
        """Remove the field wherever its value is neither an array nor an object."""
        lines = self._followed.sub(b"", lines)
        if self._spelling not in lines:
            return lines
        return self._alone.sub(b"", self._last.sub(b"", lines))


class FieldFilter:
    """Removes fields from rows that are known to be one JSON object per line.

    The other values keep their bytes: digits, escapes, white space and repeated fields. Without names, rows pass
    unchanged.

    :param excluded: the names of the fields, see :func:`parse_field`.
    """

    def __init__(self, excluded: Sequence[str]) -> None:
        self._excluded = {parse_field(text): text for text in excluded}
        self._names = {path[-1] for path in self._excluded}
        self._found: set[str] = set()
        self._open_line = b""
        self._members = [_Member(name) for name in sorted(self._names)]
        # A name can be written with escapes: of its letters, or of characters that have a short escape.
        letters = {f"{ord(letter):04x}" for name in self._names for letter in name}
        short = any(letter in '"\\/' or letter < " " or letter > "\uffff" for name in self._names for letter in name)
        self._escape = re.compile(
            rb"\\" if short else rb"\\u(?:%s)" % "|".join(sorted(letters)).encode(), re.IGNORECASE
        )

    def feed(self, chunk: bytes) -> bytes:
        """Add the next bytes, which may begin and end anywhere; return the rows that they complete."""
        if not self._excluded:
            return chunk
        end = chunk.rfind(b"\n") + 1
        if not end:
            self._open_line += chunk
            return b""
        lines, self._open_line = self._open_line + chunk[:end], chunk[end:]
        return self.strip(lines)

    def finish(self) -> bytes:
        """Return the last row if it lacks its newline."""
        line, self._open_line = self._open_line, b""
        return self.strip(line)

    def check(self, documented: Collection[str]) -> None:
        """Check, after the last row, that each field is known.

        :param documented: paths of the documented fields.
        :raises InvalidArgument: if a field is neither documented nor in any row: a misspelled name would leak data.
        """
        paths = {parse_field(text) for text in documented}
        known = paths | {(path[-1],) for path in paths}
        unknown = [text for path, text in self._excluded.items() if text not in self._found and path not in known]
        if unknown:
            raise InvalidArgument(
                f"exclude_fields: {', '.join(map(repr, unknown))}: no row has it, and the vendor's documentation does "
                "not name it. Correct the name, or leave it out. Nothing was published."
            )

    def strip(self, lines: bytes) -> bytes:
        """Return whole rows without the fields."""
        if not self._excluded:
            return lines
        if self._escape.search(lines) is None:
            present = [member for member in self._members if member.is_in(lines)]
            if not all((member.name,) in self._excluded for member in present):
                return self._strip_by_structure(lines)
            for member in present:
                self._found.add(self._excluded[(member.name,)])
                lines = member.strip(lines)
            if not any(member.is_in(lines) for member in present):
                return lines
        return self._strip_by_structure(lines)

    def _strip_by_structure(self, lines: bytes) -> bytes:
        out = bytearray()
        kept_from = 0
        # The containers around a token, each with its path and the name of its next value.
        path: tuple[str, ...] = ()
        name = ""
        outer: list[tuple[tuple[str, ...], str]] = []
        removed_in: int | None = None
        for token in _TOKEN.finditer(lines):
            match lines[token.start()]:
                case 0x22:  # "
                    if not token[2]:
                        continue
                    name = _name(token[1])
                    if name in self._names and self._matches((*path, name)) and removed_in is None:
                        removed_in = len(outer)
                        out += memoryview(lines)[kept_from : token.start()]
                case 0x7B | 0x5B as opening:  # { [
                    outer.append((path, name))
                    path = (*path, name) if len(outer) > 1 else ()
                    name = _ELEMENT if opening == 0x5B else ""
                case 0x2C:  # ,
                    if removed_in == len(outer):
                        removed_in = None
                        kept_from = token.end()
                case _:  # } ]
                    if removed_in == len(outer):
                        removed_in = None
                        kept_from = token.start()
                        _drop_comma(out)
                    path, name = outer.pop()
        return bytes(out + memoryview(lines)[kept_from:])

    def _matches(self, path: tuple[str, ...]) -> bool:
        found = [self._excluded[name] for name in {path, path[-1:]} if name in self._excluded]
        self._found.update(found)
        return bool(found)


def _name(token: bytes) -> str:
    return str(json.loads(token)) if b"\\" in token else token[1:-1].decode()


def _drop_comma(out: bytearray) -> None:
    """Remove the comma before the last field of an object, if there is one."""
    while out[-1] in _SPACE:
        del out[-1]
    if out.endswith(b","):
        del out[-1]
