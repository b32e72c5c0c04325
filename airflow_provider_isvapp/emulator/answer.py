# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""An answer before it is put on the wire, and the refusals of both vendors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from airflow_provider_isvapp.emulator.endpoint import Endpoint

Framing = Literal["length", "chunked", "close"]

JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=utf-8"
GATEWAY_PAGE = (
    b"<html>\n<head><title>Bad gateway</title></head>\n<body><h1>The upstream did not answer</h1></body>\n</html>\n"
)


@dataclass(frozen=True)
class FileSlice:
    """A part of a file on disk."""

    path: Path
    offset: int
    length: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Status, headers and body, and what tells the client where the body ends."""

    status: int = 200
    body: bytes | FileSlice = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    framing: Framing = "length"

    @property
    def length(self) -> int:
        """Bytes in the body."""
        return self.body.length if isinstance(self.body, FileSlice) else len(self.body)


class Refusal(Exception):
    """An endpoint says no.

    :param status: the HTTP status.
    :param message: for the person who reads it.
    :param code: an OAuth2 error code, at the token endpoints.
    """

    def __init__(
        self, status: int, message: str, *, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = dict(headers or {})


def json_answer(value: Any, *, status: int = 200, pretty: bool = False) -> Answer:
    """Build an answer of plain JSON."""
    return Answer(status=status, body=json.dumps(value, indent=2 if pretty else None).encode())


def refuse(endpoint: Endpoint, refusal: Refusal) -> Answer:
    """Put a refusal into the vendor's words.

    ISVapp documents ``{"error", "success"}`` for every failure; OAuth2 (RFC 6749, 5.2) wants ``error`` to be a code.
    Productiv documents nothing.
    """
    body: dict[str, Any]
    if refusal.code is not None:
        body = {"error": refusal.code, "error_description": refusal.message}
    elif endpoint.is_productiv:
        body = {"message": refusal.message}
    else:
        body = {"error": refusal.message}
    if not endpoint.is_productiv:
        body["success"] = False
    return Answer(status=refusal.status, body=json.dumps(body).encode(), headers=refusal.headers)
