# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What somebody wants of a poller, until when, and when to look next."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from airflow_provider_isvapp.api.isvapp.export import Export
from airflow_provider_isvapp.api.isvapp.export_state import require_ready
from airflow_provider_isvapp.errors import ExportError, ExportTimeout, ProviderError

# Seconds between the first looks at an export; then a quarter of the time waited so far, up to the poll interval. So a
# short export is seen soon, and no export is seen later than by a quarter of its own duration.
FIRST_INTERVAL = 2.0
INTERVAL_GROWTH = 0.25


def interval_after(waited: float, *, poll_interval: float) -> float:
    """Say how many seconds after this look the next one is due.

    :param waited: for how long the export has been waited for.
    :param poll_interval: the longest interval.
    """
    return min(max(waited * INTERVAL_GROWTH, FIRST_INTERVAL), poll_interval)


@dataclass(eq=False, kw_only=True)
class ExportWait:
    """One trigger's wait. Times are those of the monotonic clock."""

    export_id: str
    poll_interval: float
    deadline: float
    on_trouble: Callable[[str], None]
    # An error is a result here: an exception of a future whose waiter has left would be reported as never retrieved.
    answer: asyncio.Future[Export | ProviderError]
    since: float = field(default_factory=time.monotonic)
    # Logs written in here reach the log of the waiting task.
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    last_seen: str = "not seen yet"
    due: float = field(init=False)

    def __post_init__(self) -> None:
        self.reschedule(self.since)

    def reschedule(self, now: float) -> None:
        """Set when the next look is due."""
        interval = interval_after(now - self.since, poll_interval=self.poll_interval)
        # The last look is at the deadline, however long the interval.
        self.due = min(now + interval, self.deadline)

    def see(self, export: Export) -> None:
        """Take an answer of the vendor: the wait ends or goes on."""
        moment = datetime.now(UTC)
        try:
            ready = require_ready(export, now=moment)
        except ExportError as error:
            self.end(error)
            return
        if ready:
            self.end(export)
            return
        self.last_seen = f"last seen {export.status} at {moment:%H:%M:%S} UTC"
        self.go_on()

    def trouble(self, error: ProviderError) -> None:
        """Take note of a poll that failed, which says nothing about the export."""
        self.last_seen = f"the last poll failed: {error}"
        self.go_on()

    def go_on(self) -> None:
        """Wait on, unless the deadline has passed."""
        now = time.monotonic()
        if now >= self.deadline:
            self.end(self.timeout_error())
        else:
            self.reschedule(now)

    def tell(self, text: str) -> None:
        """Write to the log of the waiting task."""
        self.context.run(self.on_trouble, text)

    def timeout_error(self) -> ExportTimeout:
        """Build the error for a deadline that has passed, with what was last seen."""
        return ExportTimeout(
            f"Export {self.export_id} was not finished in time; {self.last_seen}. It may still finish: clear the task "
            "to wait on, with a longer timeout if such exports take that long.",
            export_id=self.export_id,
        )

    def end(self, outcome: Export | ProviderError) -> None:
        """Answer, once."""
        if not self.answer.done():
            self.answer.set_result(outcome)


@dataclass(eq=False, kw_only=True)
class ListWait:
    """One who wants list after list, whatever is in them. Times are those of the monotonic clock."""

    poll_interval: float
    due: float = field(init=False)
    over: bool = False
    _answer: asyncio.Future[list[Export] | ProviderError] = field(init=False)

    def __post_init__(self) -> None:
        self._answer = asyncio.get_running_loop().create_future()
        self.reschedule()

    def reschedule(self) -> None:
        """Set when the next list is due."""
        self.due = time.monotonic() + self.poll_interval

    async def next(self) -> list[Export]:
        """Return the next list.

        :raises ProviderError: if there will be none.
        """
        outcome = await self._answer
        if isinstance(outcome, ProviderError):
            raise outcome.with_traceback(None)
        self._answer = asyncio.get_running_loop().create_future()
        return outcome

    def take(self, exports: list[Export]) -> None:
        """Hand over a list, unless the one before was not taken yet."""
        self.reschedule()
        if not self._answer.done():
            self._answer.set_result(exports)

    def end(self, error: ProviderError) -> None:
        """Say that there will be no more."""
        self.over = True
        if not self._answer.done():
            self._answer.set_result(error)
