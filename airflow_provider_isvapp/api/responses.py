# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Reads JSON response bodies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from airflow_provider_isvapp.api.redaction import Redactor
from airflow_provider_isvapp.api.transport import Response
from airflow_provider_isvapp.errors import API_CHANGED, ContractBroken, UnexpectedAnswer

Decoded = TypeVar("Decoded")

# What JSON can provoke: wrong syntax or types, invalid UTF-8, numbers without bounds, nesting without end.
_UNREADABLE = (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError)


def parse_object(response: Response, *, vendor: str, label: str, redact: Redactor) -> dict[str, msgspec.Raw]:
    """Read the top level of a JSON object; the values stay the vendor's own bytes.

    :param redact: removes secrets from what is quoted of the response.
    :raises UnexpectedAnswer: for an empty body, HTML or anything else that is not JSON.
    :raises ContractBroken: for JSON that is not an object.
    """
    body = response.content
    if not body.strip():
        raise UnexpectedAnswer(
            f"{vendor} answered {label} with status {response.status} and an empty body. Try again later."
        )
    try:
        return msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        kind: type[ContractBroken] | type[UnexpectedAnswer] = ContractBroken
    except _UNREADABLE:
        kind = UnexpectedAnswer
    content_type = redact(response.headers.get("Content-Type", "no content type"))
    what = "a web page" if body.lstrip()[:1] == b"<" else "something that is not a JSON object"
    raise kind(
        f"{vendor} answered {label} with status {response.status} and {what} ({content_type}, "
        f"{len(body)} bytes). A gateway or a login page may be in between; check the connection's host, "
        "and try again later."
    )


def split_array(value: msgspec.Raw, *, vendor: str, label: str, name: str) -> list[bytes]:
    """Split a JSON array of objects into its elements, each as the vendor's own bytes on one line.

    Number spellings, escapes, key order and duplicate keys stay as they were sent. Only where the vendor's JSON is
    spread over several lines is the white space between tokens removed.

    :param name: the array's name, for the message.
    :raises ContractBroken: if it is not an array of objects.
    """
    try:
        rows = msgspec.json.decode(value, type=list[msgspec.Raw])
    except _UNREADABLE:
        rows = None
    if rows is None:
        raise ContractBroken(f"{vendor} answered {label}, but {name!r} is not an array. {API_CHANGED}")
    lines = [bytes(row) for row in rows]
    for number, line in enumerate(lines):
        if not line.startswith(b"{"):
            raise ContractBroken(
                f"{vendor} answered {label}, but element {number} of {name!r} is not an object. {API_CHANGED}"
            )
        if b"\n" in line or b"\r" in line:
            lines[number] = msgspec.json.format(line, indent=-1)
    return lines


def require_utf8(lines: list[bytes], *, vendor: str, label: str, name: str) -> list[bytes]:
    """Check lines that are written as they are, and return them.

    :raises UnexpectedAnswer: if one of them is not UTF-8.
    """
    for number, line in enumerate(lines):
        if not _is_utf8(line):
            raise UnexpectedAnswer(
                f"{vendor} answered {label}, but element {number} of {name!r} is not UTF-8. Try again later."
            )
    return lines


def decode(
    value: bytes | msgspec.Raw, convert: Callable[[Any], Decoded] = lambda value: value, *, vendor: str, label: str
) -> Decoded:
    """Decode JSON into Python values and those into what they stand for.

    The one place where the contents of a response meet Python's types: whatever they provoke there is an error of
    ours.

    :param convert: makes the result of the decoded value.
    :raises UnexpectedAnswer: if the value is not JSON, or none that Python can hold.
    """
    try:
        return convert(msgspec.json.decode(value))
    except _UNREADABLE as error:
        kind = type(error).__name__
    raise UnexpectedAnswer(
        f"{vendor} answered {label} with JSON that cannot be read ({kind}): invalid text, a number out of range or "
        "nesting too deep. Try again later; if it lasts, ask the vendor."
    )


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
