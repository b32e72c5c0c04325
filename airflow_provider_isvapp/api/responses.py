# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Reads responses: refusals, JSON bodies, and values that come in another JSON type than the documented one."""

from __future__ import annotations

import codecs
import email.utils
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from airflow_provider_isvapp.api.redaction import Redactor
from airflow_provider_isvapp.errors import (
    API_CHANGED,
    AuthenticationRefused,
    ContractBroken,
    NotFound,
    PermissionRefused,
    RequestRefused,
    UnexpectedResponse,
)

Decoded = TypeVar("Decoded")

# Raised for wrong syntax or types, invalid UTF-8, numbers out of range and nesting without end.
_UNREADABLE = (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError)


@dataclass(frozen=True, kw_only=True)
class Response:
    """A response with its whole body, decoded and bounded."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)


REFUSED_AGAIN = "Change the request; as it is, it will be refused again."
WEB_PAGE = "a web page instead of an API response"
"""Replaces the message of a refusal in HTML, which comes from a gateway, a login page or another server."""


def client_error(*, vendor: str, label: str, status: int, vendor_message: str, scope: str | None) -> RequestRefused:
    """Build the error for a refused request.

    :param vendor_message: the vendor's own message, see :func:`find_vendor_message`.
    :param scope: the scope that the endpoint needs, named in the advice for a 403.
    """
    kind: type[RequestRefused] = RequestRefused
    advice = REFUSED_AGAIN
    match status:
        case 401:
            kind = AuthenticationRefused
            advice = "Check the connection's login and password (an API key goes into the password, without a login)."
        case 403:
            kind = PermissionRefused
            needed = f" {scope!r}" if scope else ""
            advice = f"Give the client the scope{needed}, or the API key its permission, in the vendor's settings."
        case 404:
            kind = NotFound
            advice = (
                "Check the id, the connection's host, and that the connection belongs to the account that created it."
            )
    if vendor_message == WEB_PAGE:
        advice = f"{vendor}'s API does not respond like this: check the connection's host, and any gateway in between."
    text = f"{vendor} refused {label} ({status}): {vendor_message or 'without a message'}."
    return kind(f"{text} {advice}", status=status, vendor_message=vendor_message)


def find_vendor_message(body: bytes, *, redact: Redactor) -> str:
    """Return the vendor's message from the body of an error: a documented JSON field, or the start of a text.

    ISVapp documents ``{"error": message, "success": false}``; OAuth2 (RFC 6749, 5.2) has ``error_description``;
    Productiv documents no format, and gateways use ``message``. Of an HTML page, nothing is quoted.
    """
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        text = body.decode("utf-8", "replace").strip()
        text = WEB_PAGE if text.startswith("<") else text
    else:
        found = [_as_text(fields[name]) for name in _MESSAGE_FIELDS if name in fields]
        text = ": ".join([text for text in found if text is not None][:2])
    return redact(text).rstrip(".")


_MESSAGE_FIELDS = ("error", "error_description", "message", "Message")


def _as_text(value: msgspec.Raw) -> str | None:
    try:
        return msgspec.json.decode(value, type=str)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def parse_object(response: Response, *, vendor: str, label: str, redact: Redactor) -> dict[str, msgspec.Raw]:
    """Read the top level of a JSON object; the values stay the vendor's own bytes.

    :param redact: removes secrets from the quoted header.
    :raises UnexpectedResponse: for an empty body, HTML or anything else that is not JSON.
    :raises ContractBroken: for JSON that is not an object.
    """
    body = response.content.removeprefix(codecs.BOM_UTF8)  # RFC 8259, 8.1 lets a parser ignore it
    if not body.strip():
        raise UnexpectedResponse(
            f"{vendor} responded to {label} with status {response.status} and an empty body. Try again later."
        )
    try:
        return msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        kind: type[ContractBroken] | type[UnexpectedResponse] = ContractBroken
    except _UNREADABLE:
        kind = UnexpectedResponse
    content_type = redact(response.headers.get("Content-Type", "no content type"))
    what = "a web page" if body.lstrip()[:1] == b"<" else "something that is not a JSON object"
    raise kind(
        f"{vendor} responded to {label} with status {response.status} and {what} ({content_type}, "
        f"{len(body)} bytes). A gateway or a login page may be in between; check the connection's host, "
        "and try again later."
    )


def split_array(value: msgspec.Raw, *, vendor: str, label: str, name: str) -> list[bytes]:
    """Split a JSON array of objects into its elements, each as the vendor's own bytes on one line.

    Number formats, escapes, key order and duplicate keys stay as sent. Only white space between tokens is removed, and
    only from an element that spans several lines.

    :param name: the array's name, for the message.
    :raises ContractBroken: if it is not an array of objects.
    """
    try:
        rows = msgspec.json.decode(value, type=list[msgspec.Raw])
    except _UNREADABLE:
        rows = None
    if rows is None:
        raise ContractBroken(f"{vendor} responded to {label}, but {name!r} is not an array. {API_CHANGED}")
    lines = [bytes(row) for row in rows]
    for number, line in enumerate(lines):
        if not line.startswith(b"{"):
            raise ContractBroken(
                f"{vendor} responded to {label}, but element {number} of {name!r} is not an object. {API_CHANGED}"
            )
        if b"\n" in line or b"\r" in line:
            lines[number] = msgspec.json.format(line, indent=-1)
    return lines


def require_utf8(lines: list[bytes], *, vendor: str, label: str, name: str) -> list[bytes]:
    """Return lines that are written unchanged, after a check.

    :raises UnexpectedResponse: if one of them is not UTF-8.
    """
    for number, line in enumerate(lines):
        if not _is_utf8(line):
            raise UnexpectedResponse(
                f"{vendor} responded to {label}, but element {number} of {name!r} is not UTF-8. Try again later."
            )
    return lines


def decode(
    value: bytes | msgspec.Raw, convert: Callable[[Any], Decoded] = lambda value: value, *, vendor: str, label: str
) -> Decoded:
    """Decode JSON and convert the result. All errors that the content causes on the way become one of ours.

    :param convert: makes the result of the decoded value.
    :raises UnexpectedResponse: if the value is not JSON, or not representable in Python.
    """
    try:
        return convert(msgspec.json.decode(value))
    except _UNREADABLE as error:
        kind = type(error).__name__
    raise UnexpectedResponse(
        f"{vendor} responded to {label} with JSON that cannot be read ({kind}): invalid text, a number out of range or "
        "nesting too deep. Try again later; if it lasts, ask the vendor."
    )


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_DIGITS = re.compile(r"[0-9]{1,19}")
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
# Bounded, so that matching stays fast on a long text of blanks.
_BLANK_BEFORE_ZONE = re.compile(r"\s{1,9}(?=[+-]\d\d:?\d\d$)", re.ASCII)
_ZONE_NAME = re.compile(r"\s{0,9}(UTC|GMT)$")
# Seconds since the epoch from 2001 on, or milliseconds: the ranges do not overlap.
_EPOCH_DIGITS = re.compile(r"[0-9]{10}|[0-9]{13}")
_EPOCH_SECONDS = (1e9, 1e11)
_EPOCH_MILLISECONDS = (1e12, 1e14)


def as_flag(value: object) -> bool | None:
    """Read ``true`` and ``false``, also as a string or as 1 and 0; None for anything else."""
    if isinstance(value, bool):
        return value
    return _FLAGS.get(str(value).strip().lower()) if isinstance(value, int | str) else None


def as_size(value: object) -> int | None:
    """Read a size in bytes, also as a string of digits or with an empty fraction; None for anything else."""
    if isinstance(value, str) and _DIGITS.fullmatch(text := value.strip()):
        value = int(text)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        return None
    return value


def as_time(value: object) -> datetime | None:
    """Read a time: ISO 8601, also with blanks in it, an HTTP date, or seconds or milliseconds since the epoch.

    :return: a timezone-aware time, in UTC where no zone is given; None for anything else.
    """
    try:
        if isinstance(value, str) and _EPOCH_DIGITS.fullmatch(value):
            value = int(value)
        if isinstance(value, str):
            text = _ZONE_NAME.sub("Z", _BLANK_BEFORE_ZONE.sub("", value.strip()))
            seconds = http_date(value)
            moment = datetime.fromisoformat(text) if seconds is None else datetime.fromtimestamp(seconds, UTC)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            seconds = float(value)
            if _EPOCH_MILLISECONDS[0] <= seconds < _EPOCH_MILLISECONDS[1]:
                seconds /= 1000
            elif not _EPOCH_SECONDS[0] <= seconds < _EPOCH_SECONDS[1]:
                return None
            moment = datetime.fromtimestamp(seconds, UTC)
        else:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        moment.astimezone(UTC)  # raises OverflowError here rather than in a caller: 9999-12-31T23:59-01:00
    except (ValueError, OverflowError):
        return None
    return moment


def http_date(value: str | None) -> float | None:
    """Read an HTTP date (RFC 9110, 5.6.7) as seconds since the epoch; None for anything invalid."""
    if value is None:
        return None
    try:
        moment = email.utils.parsedate_to_datetime(value)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)  # "-0000" is UTC from an unknown zone
        # Raises OverflowError for "Fri, 31 Dec 9999 23:59:59 -2359", which is in the year 10000 in UTC.
        return aware.astimezone(UTC).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def is_documented_time(value: object) -> bool:
    """Return whether a time has the format that the vendors document (RFC 3339)."""
    return isinstance(value, str) and _RFC_3339.fullmatch(value) is not None


def shape_of(value: object) -> str:
    """Describe a JSON value by its type and size, as the value itself may be a secret."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return f"a string of {len(value)} characters"
        case list():
            return f"a list of {len(value)} elements"
    return "an object"
