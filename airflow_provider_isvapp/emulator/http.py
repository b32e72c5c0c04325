# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Requests and responses as values: endpoints, the request log, the rate limit, and the vendors' error formats.

Nothing here holds a secret or does I/O.
"""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal


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
        :param at: its monotonic time of arrival.
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
