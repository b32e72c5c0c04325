# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Names endpoints, logs requests and limits their rate; never holds a secret."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum


class Endpoint(StrEnum):
    """Every endpoint of both vendors; ``UNKNOWN`` is any other path."""

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
        """Whether Productiv serves it: no rate limit and another error format."""
        return self.startswith("productiv")


KEPT = 200_000
"""Older requests are dropped from the log (not from the counts), so that it can run for days."""


@dataclass(frozen=True, kw_only=True)
class RequestRecord:
    """One request.

    ``at`` is the monotonic time of arrival. ``path`` has the query but no download token. ``status`` and ``seconds``
    are None while the request is in flight; a request whose connection was reset keeps ``status`` None.
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
    """All requests in the order of their arrival; safe to read from another thread.

    :param on_finished: called with each record once it is finished.
    """

    def __init__(self, on_finished: Callable[[RequestRecord], None] | None = None) -> None:
        self._on_finished = on_finished
        self._lock = threading.Lock()
        self._records: dict[int, RequestRecord] = {}
        self._counts: Counter[str] = Counter()
        self._next = 0

    def arrived(self, record: RequestRecord) -> int:
        """Note an arrival and return its number."""
        with self._lock:
            number = self._next
            self._next += 1
            self._records[number] = record
            self._records.pop(number - KEPT, None)
            self._counts[record.endpoint] += 1
            return number

    def finished(self, number: int, *, status: int | None, at: float) -> None:
        """Note how a request ended."""
        with self._lock:
            record = self._records.get(number)
            if record is None:  # the log was cleared, or is full
                return
            record = replace(record, status=status, seconds=at - record.at)
            self._records[number] = record
        if self._on_finished is not None:
            self._on_finished(record)

    def records(self) -> list[RequestRecord]:
        """Everything since the last :meth:`clear`."""
        with self._lock:
            return list(self._records.values())

    def counts(self) -> Counter[str]:
        """Arrivals by endpoint, refused ones included."""
        with self._lock:
            return self._counts.copy()

    def clear(self) -> None:
        """Forget everything; numbers go on, so that a request in flight cannot be taken for a later one."""
        with self._lock:
            self._records.clear()
            self._counts.clear()


WINDOW_SECONDS = 1.0


class SlidingWindow:
    """A sliding window: a refused request does not count, so a caller who waits long enough is always served.

    :param limit: requests accepted in any window, or None for no limit.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._accepted: defaultdict[str, deque[float]] = defaultdict(deque)

    def admit(self, credential: str, at: float) -> float | None:
        """Let a request pass, or say how many seconds from now the next one can.

        :param credential: whose request it is.
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
        """Forget the past."""
        self._accepted.clear()
