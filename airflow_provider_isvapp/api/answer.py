# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""From an answer's body to JSON: what is not JSON of the expected kind becomes an error that says what came instead."""

from __future__ import annotations

from typing import Any

import msgspec
import requests

from airflow_provider_isvapp.errors import ContractBroken, UnexpectedAnswer


def json_object(response: requests.Response, *, vendor: str, label: str) -> dict[str, msgspec.Raw]:
    """Read the top level of a JSON object; the values stay the vendor's own bytes.

    :raises UnexpectedAnswer: for an empty body, HTML or anything else that is not JSON.
    :raises ContractBroken: for JSON that is not an object.
    """
    body = response.content
    if not body.strip():
        raise UnexpectedAnswer(
            f"{vendor} answered {label} with status {response.status_code} and an empty body. Try again later."
        )
    try:
        return msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        kind: type[ContractBroken] | type[UnexpectedAnswer] = ContractBroken
    except msgspec.DecodeError:
        kind = UnexpectedAnswer
    except UnicodeDecodeError:
        kind = UnexpectedAnswer
    content_type = response.headers.get("Content-Type", "no content type")
    what = "a web page" if body.lstrip()[:1] == b"<" else "something that is not a JSON object"
    raise kind(
        f"{vendor} answered {label} with status {response.status_code} and {what} ({content_type}, "
        f"{len(body)} bytes). A gateway or a login page may stand between; check the connection's host, "
        "and try again later."
    )


def lines_of(value: msgspec.Raw, *, vendor: str, label: str, name: str) -> list[bytes]:
    """Cut a JSON array of objects into its elements, each as the vendor's own bytes on one line.

    Number spellings, escapes, key order and duplicate keys stay as they were sent. Only where the vendor's JSON is
    spread over several lines is the white space between tokens removed.

    :param name: the array's name, for the message.
    :raises ContractBroken: if it is not an array of objects.
    """
    try:
        rows = msgspec.json.decode(value, type=list[msgspec.Raw])
    except msgspec.DecodeError:
        rows = None
    if rows is None:
        raise ContractBroken(f"{vendor} answered {label}, but {name!r} is not an array.")
    lines = [bytes(row) for row in rows]
    for number, line in enumerate(lines):
        if not line.startswith(b"{"):
            raise ContractBroken(f"{vendor} answered {label}, but element {number} of {name!r} is not an object.")
        if b"\n" in line or b"\r" in line:
            lines[number] = msgspec.json.format(line, indent=-1)
    return lines


def plain(value: msgspec.Raw) -> Any:
    """Decode a slice into Python values."""
    return msgspec.json.decode(value)
