# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What all endpoints share: requests and their log, the rate limit, credentials and tokens, and responses.

Only the issuer of tokens holds secrets, and nothing here does I/O.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from airflow_provider_isvapp.emulator.config import Clock, EmulatorConfig


class Endpoint(StrEnum):
    """The endpoints of both vendors; ``UNKNOWN`` is any other path."""

    TOKEN = "token"  # noqa: S105 - the name of an endpoint
    ACCOUNT = "account"
    CREATE_EXPORT = "create_export"
    LIST_EXPORTS = "list_exports"
    SHOW_EXPORT = "show_export"
    DOWNLOAD = "download"
    SALESFORCE_ACCOUNTS = "salesforce_accounts"
    PRODUCTIV_TOKEN = "productiv_token"  # noqa: S105 - the name of an endpoint
    PRODUCTIV_APPS = "productiv_apps"
    PRODUCTIV_APP = "productiv_app"
    UNKNOWN = "unknown"

    @property
    def is_productiv(self) -> bool:
        """Whether it is an endpoint of Productiv, which has no rate limit and another error format."""
        return self.startswith("productiv")


LOG_SIZE = 200_000
"""Older requests are dropped from the log, but not from the counts, so that the emulator can run for days."""


@dataclass(frozen=True, kw_only=True)
class RequestRecord:
    """One request.

    ``at`` is the monotonic time of arrival. ``path`` includes the query, but no download token. ``status`` and
    ``seconds`` are None while the request is in flight; ``status`` stays None if the connection was reset.
    """

    at: float
    method: str
    path: str
    endpoint: str
    credential: str | None
    export_id: str | None = None
    status: int | None = None
    seconds: float | None = None


class RequestLog:
    """All requests in the order of their arrival. Thread-safe.

    :param on_finished: called with each record once it is finished.
    """

    def __init__(self, on_finished: Callable[[RequestRecord], None] | None = None) -> None:
        self._on_finished = on_finished
        self._lock = threading.Lock()
        self._records: dict[int, RequestRecord] = {}
        self._counts: Counter[str] = Counter()
        self._next = 0

    def arrived(self, record: RequestRecord) -> int:
        """Record an arrival and return its number."""
        with self._lock:
            number = self._next
            self._next += 1
            self._records[number] = record
            self._records.pop(number - LOG_SIZE, None)
            self._counts[record.endpoint] += 1
            return number

    def finished(self, number: int, *, status: int | None, at: float) -> None:
        """Record the end of a request."""
        with self._lock:
            record = self._records.get(number)
            if record is None:  # the log was cleared, or is full
                return
            record = replace(record, status=status, seconds=at - record.at)
            self._records[number] = record
        if self._on_finished is not None:
            self._on_finished(record)

    def records(self) -> list[RequestRecord]:
        """All requests since the last :meth:`clear`."""
        with self._lock:
            return list(self._records.values())

    def counts(self) -> Counter[str]:
        """Arrivals by endpoint, including rejected requests."""
        with self._lock:
            return self._counts.copy()

    def clear(self) -> None:
        """Remove all records. The numbers continue, so a request in flight is not mistaken for a later one."""
        with self._lock:
            self._records.clear()
            self._counts.clear()


WINDOW_SECONDS = 1.0


class SlidingWindow:
    """The vendor's rate limit. A rejected request does not count, so a caller that waits is served.

    :param limit: requests accepted per window; None for no limit.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._accepted: defaultdict[str, deque[float]] = defaultdict(deque)

    def admit(self, credential: str, at: float) -> float | None:
        """Accept a request and return None, or return the seconds after which the next one is accepted.

        :param credential: the credential of the request.
        :param at: the monotonic time of arrival.
        """
        if self._limit is None:
            return None
        accepted = self._accepted[credential]
        while accepted and at - accepted[0] >= WINDOW_SECONDS:
            accepted.popleft()
        if len(accepted) >= self._limit:
            return WINDOW_SECONDS - (at - accepted[0])
        accepted.append(at)
        return None

    def clear(self) -> None:
        """Forget all accepted requests."""
        self._accepted.clear()


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
    """A response before it is sent. ``framing`` says how the end of the body is marked."""

    status: int = 200
    body: bytes | FileSlice = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    framing: Framing = "length"

    @property
    def length(self) -> int:
        """The length of the body in bytes."""
        return self.body.length if isinstance(self.body, FileSlice) else len(self.body)


class ErrorResponse(Exception):
    """An error response, raised by an endpoint.

    :param status: the HTTP status.
    :param message: for people.
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
    """Build an error response in the vendor's format.

    ISVapp documents ``{"error", "success"}`` for every failure; in OAuth2 (RFC 6749, 5.2), ``error`` is a code.
    Productiv documents no format.
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


Vendor = Literal["isvapp", "productiv"]

ISVAPP_SCOPES = ("identity", "exports", "salesforce_accounts")
PRODUCTIV_SCOPES = ("https://api.productiv.com/apps.read",)
API_KEY_PERMISSION = "ISVapp metrics retrieval"


@dataclass(frozen=True)
class Token:
    """An issued access token."""

    vendor: Vendor
    client: str
    scopes: tuple[str, ...]
    expires_at: float


class TokenIssuer:
    """Knows the credentials and issues tokens for them.

    A credential's name is the client id or ``api_key``, never the secret: the request log shows it.

    :param token_mark: the prefix of each token.
    """

    def __init__(self, config: EmulatorConfig, clock: Clock, token_mark: str) -> None:
        self._config = config
        self._clock = clock
        self._token_mark = token_mark
        self._tokens: dict[str, Token] = {}
        self._clients: dict[Vendor, tuple[str, str]] = {}
        self.rotate(config)

    def issue(self, vendor: Vendor, client: str, secret: str, scope: str) -> tuple[str, Token]:
        """Exchange client credentials for a token.

        :param scope: one or more scopes, separated by spaces.
        :raises ErrorResponse: 401 for a wrong client, 400 for a wrong scope.
        """
        if (client, secret) != self._clients[vendor]:
            raise ErrorResponse(
                401,
                "The client id or the client secret is wrong.",
                code="invalid_client",
                headers={"WWW-Authenticate": f'Basic realm="{vendor}"'},
            )
        known = ISVAPP_SCOPES if vendor == "isvapp" else PRODUCTIV_SCOPES
        scopes = tuple(scope.split())
        unknown = [name for name in scopes if name not in known]
        if unknown or not scopes:
            raise ErrorResponse(
                400,
                f"Unknown scope: {' '.join(unknown)}." if unknown else "The scope is missing.",
                code="invalid_scope",
            )
        granted = self._config.client_scopes.split() if vendor == "isvapp" else known
        withheld = [name for name in scopes if name not in granted]
        if withheld:
            raise ErrorResponse(400, f"The client may not have the scope: {' '.join(withheld)}.", code="invalid_scope")
        value = self._token_mark + secrets.token_urlsafe(32)
        token = Token(vendor, client, scopes, self._clock.monotonic() + self._config.token_seconds)
        self._tokens[value] = token
        return value, token

    def require(self, vendor: Vendor, scope: str, authorization: str | None) -> None:
        """Check that a request with this ``Authorization`` header is allowed.

        :raises ErrorResponse: 401 without valid credentials, 403 naming the missing scope.
        """
        value = _bearer(authorization)
        if value is None:
            raise _unauthorized("Send an Authorization header with a bearer token.")
        if vendor == "isvapp" and value == self._config.api_key:
            return
        if vendor == "isvapp" and value == self._config.api_key_without_scope:
            raise ErrorResponse(403, f"This API key lacks the permission scope '{API_KEY_PERMISSION}'.")
        token = self._tokens.get(value)
        if token is None or token.vendor != vendor:
            raise _unauthorized("The access token is not known.")
        if self._clock.monotonic() >= token.expires_at:
            raise _unauthorized("The access token has expired.")
        if scope not in token.scopes:
            raise ErrorResponse(403, f"The access token lacks the scope '{scope}'; it has '{' '.join(token.scopes)}'.")

    def credential(self, authorization: str | None) -> str | None:
        """Return the name of the credential in an ``Authorization`` header, for the log and the rate limit."""
        basic = parse_basic(authorization)
        if basic is not None:
            return basic[0] if basic[0] in {client for client, _ in self._clients.values()} else None
        value = _bearer(authorization)
        if value == self._config.api_key:
            return "api_key"
        if value == self._config.api_key_without_scope:
            return "api_key_without_scope"
        token = self._tokens.get(value) if value else None
        return token.client if token else None

    def forget(self, authorization: str | None) -> None:
        """Revoke the token in this header before it expires."""
        value = _bearer(authorization)
        if value is not None:
            self._tokens.pop(value, None)

    def rotate(self, config: EmulatorConfig) -> None:
        """Replace the credentials by those of a configuration, and revoke all tokens."""
        self._config = config
        self._clients = {
            "isvapp": (config.client_id, config.client_secret),
            "productiv": (config.productiv_client_id, config.productiv_client_secret),
        }
        self.clear()

    def clear(self) -> None:
        """Revoke all tokens."""
        self._tokens.clear()


def parse_basic(authorization: str | None) -> tuple[str, str] | None:
    """Read client id and secret from an HTTP Basic header, plain (RFC 7617); None for anything else."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (user, password) if colon else None


def _bearer(authorization: str | None) -> str | None:
    scheme, _, value = (authorization or "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" and value.strip() else None


def _unauthorized(message: str) -> ErrorResponse:
    return ErrorResponse(401, message, headers={"WWW-Authenticate": "Bearer"})
