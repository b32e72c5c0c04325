# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Responses before they are sent, and the error format of each vendor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from airflow_provider_isvapp.emulator.requests import Endpoint

Framing = Literal["length", "chunked", "close"]

JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=utf-8"
GATEWAY_PAGE = (
    b"<html>\n<head><title>Bad gateway</title></head>\n<body><h1>The upstream did not respond</h1></body>\n</html>\n"
)


@dataclass(frozen=True)
class FileSlice:
    """A part of a file on disk."""

    path: Path
    offset: int
    length: int


@dataclass(frozen=True, kw_only=True)
class Response:
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


class ErrorResponse(Exception):
    """A response that reports an error, as an endpoint raises it.

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


def json_response(value: Any, *, status: int = 200, pretty: bool = False) -> Response:
    """Build a JSON response."""
    return Response(status=status, body=json.dumps(value, indent=2 if pretty else None).encode())


def error_response(endpoint: Endpoint, error: ErrorResponse) -> Response:
    """Put a error into the vendor's words.

    ISVapp documents ``{"error", "success"}`` for every failure; OAuth2 (RFC 6749, 5.2) wants ``error`` to be a code.
    Productiv documents nothing.
    """
    body: dict[str, Any]
    if error.code is not None:
        body = {"error": error.code, "error_description": error.message}
    elif endpoint.is_productiv:
        body = {"message": error.message}
    else:
        body = {"error": error.message}
    if not endpoint.is_productiv:
        body["success"] = False
    return Response(status=error.status, body=json.dumps(body).encode(), headers=error.headers)
