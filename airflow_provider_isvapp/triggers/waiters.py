# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The waits of triggers for exports: their deadlines, poll intervals, and tolerance of failed polls."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from airflow_provider_isvapp.api.isvapp.export_state import is_ready_or_raise, may_appear
from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.errors import (
    AuthenticationRefused,
    ExportError,
    ExportTimeout,
    InvalidArgument,
    InvalidConnection,
    NotFound,
    PermissionRefused,
    ProviderError,
)

# The first interval in seconds; later ones are a quarter of the time waited so far, up to the poll interval. Short
# exports are found soon, and none later than by a quarter of its duration.
FIRST_INTERVAL = 2.0
INTERVAL_GROWTH = 0.25

# How many seconds polls may fail before the waits fail. A shorter outage fails no task.
LASTING_FAILURE = 900.0
# The same for refused connections. Each poll reads the connection again, as its credentials may be changed soon.
LASTING_REFUSAL = 120.0

# The limit of waits and intervals: a date plus a longer one would overflow.
LONGEST_WAIT = 366 * 24 * 3600.0
_YEAR_10000 = 253_402_300_800.0


def seconds_of(value: timedelta | float) -> float:
    """Return a duration in seconds, unchecked."""
    return value.total_seconds() if isinstance(value, timedelta) else value


def checked_seconds(name: str, value: object) -> float:
    """Check a timeout or an interval.

    :param name: the argument's, for the message.
    :param value: a timedelta or a number of seconds.
    :raises InvalidArgument: for anything else, and for values out of range.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST_WAIT:
        raise InvalidArgument(
            f"{name}: must be a timedelta or a number of seconds, more than 0 and at most {LONGEST_WAIT:.0f}, "
            f"not {value!r:.100}."
        )
    return float(seconds)


def checked_time(name: str, value: object) -> float:
    """Check a time in seconds since the epoch; it may be in the past.

    :param name: the argument's, for the message.
    :raises InvalidArgument: for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _YEAR_10000:
        raise InvalidArgument(f"{name}: must be a number of seconds since the epoch, not {value!r:.100}.")
    return float(value)


def interval_after(waited: float, *, poll_interval: float) -> float:
    """Return the seconds until the next poll.

    :param waited: the seconds waited so far.
    :param poll_interval: the longest interval.
    """
    return min(max(waited * INTERVAL_GROWTH, FIRST_INTERVAL), poll_interval)


class FailedPolls:
    """Decides when polls that fail in a row end a wait.

    A single failed poll never does: it may be one bad response of a gateway, or a defect that occurs only once.

    :param of_one_export: whether the polls are for a single export, so that a refusal concerns that export.
    """

    def __init__(self, *, of_one_export: bool) -> None:
        self._of_one_export = of_one_export
        self._since: float | None = None

    def __bool__(self) -> bool:
        """Return whether the latest poll failed."""
        return self._since is not None

    def clear(self) -> None:
        """Record a successful poll."""
        self._since = None

    def add(self, error: Exception) -> bool:
        """Record a failed poll, and return whether it ends the wait.

        :param error: a ``ProviderError``; any other is a defect of this package.
        """
        now = time.monotonic()
        if self._since is None:
            self._since = now
            return False
        return now - self._since >= self._tolerance(error)

    def _tolerance(self, error: Exception) -> float:
        match error:
            case InvalidConnection() | AuthenticationRefused() | PermissionRefused():
                return LASTING_REFUSAL
            case ProviderError():
                return 0.0 if self._of_one_export and error.permanent else LASTING_FAILURE
        return 0.0


def as_provider_error(error: Exception) -> ProviderError:
    """Return the error for a waiting task; after a defect of this package, a retry may help."""
    if isinstance(error, ProviderError):
        return error
    return ProviderError(
        f"Waiting for exports crashed in the provider ({type(error).__name__}); the triggerer's log has the details. "
        "Retry the task; if it fails again, report this with that log."
    )


@dataclass(eq=False, kw_only=True)
class ExportWaiter:
    """One trigger's wait. Times are those of the monotonic clock.

    :param known_since: when the task first had the export's id, timezone-aware.
    """

    export_id: str
    poll_interval: float
    deadline: float
    known_since: datetime
    on_warning: Callable[[str], None]
    # An error is a result: asyncio reports an exception as never retrieved if the waiter has left.
    outcome: asyncio.Future[Export | ProviderError]
    since: float = field(default_factory=time.monotonic)
    # Log lines written in this context reach the log of the waiting task.
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    last_seen: str = "not seen yet"
    due: float = field(init=False)
    _failed: FailedPolls = field(init=False, default_factory=lambda: FailedPolls(of_one_export=True))

    def __post_init__(self) -> None:
        self.reschedule(self.since)

    def reschedule(self, now: float) -> None:
        """Schedule the next poll."""
        interval = interval_after(now - self.since, poll_interval=self.poll_interval)
        # The last poll is at the deadline.
        self.due = min(now + interval, self.deadline)

    def on_export(self, export: Export) -> None:
        """Process a record of the export: the wait ends or continues."""
        moment = datetime.now(UTC)
        try:
            ready = is_ready_or_raise(export, now=moment)
        except ExportError as error:
            self.end(error)
            return
        self._failed.clear()
        if ready:
            self.end(export)
            return
        self.last_seen = f"last seen {export.status} at {moment:%H:%M:%S} UTC"
        self.continue_waiting()

    def failed(self, error: Exception) -> None:
        """Process a failed poll of this export: the wait ends or continues."""
        if isinstance(error, NotFound) and may_appear(known_since=self.known_since, now=datetime.now(UTC)):
            self.on_error(error)
        elif self._failed.add(error):
            self.end(as_provider_error(error))
        else:
            self.on_error(as_provider_error(error))

    def on_error(self, error: ProviderError) -> None:
        """Process a failed poll that says nothing about this export."""
        self.last_seen = f"the last poll failed: {error}"
        self.continue_waiting()

    def continue_waiting(self) -> None:
        """Continue, unless the deadline has passed."""
        now = time.monotonic()
        if now >= self.deadline:
            self.end(self.timeout_error())
        else:
            self.reschedule(now)

    def log(self, text: str) -> None:
        """Write to the log of the waiting task."""
        self.context.run(self.on_warning, text)

    def timeout_error(self) -> ExportTimeout:
        """Build the error for a passed deadline, with the export's last state."""
        waited = (datetime.now(UTC) - self.known_since).total_seconds()
        return ExportTimeout(
            f"Export {self.export_id} did not complete within {waited:.0f} s; {self.last_seen}. It may still complete: "
            "clear the task to continue waiting, with a longer timeout if exports take that long.",
            export_id=self.export_id,
        )

    def end(self, outcome: Export | ProviderError) -> None:
        """End the wait, once."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)


@dataclass(eq=False, kw_only=True)
class ListSubscriber:
    """Receives each list of exports. Times are those of the monotonic clock."""

    poll_interval: float
    due: float = field(init=False)
    over: bool = False
    _next: asyncio.Future[list[Export] | ProviderError] = field(init=False)

    def __post_init__(self) -> None:
        self._next = asyncio.get_running_loop().create_future()
        self.reschedule()

    def reschedule(self) -> None:
        """Schedule the next list."""
        self.due = time.monotonic() + self.poll_interval

    async def next(self) -> list[Export]:
        """Return the next list.

        :raises ProviderError: if there will be no more.
        """
        outcome = await self._next
        if isinstance(outcome, ProviderError):
            raise outcome.with_traceback(None)
        self._next = asyncio.get_running_loop().create_future()
        return outcome

    def take(self, exports: list[Export]) -> None:
        """Pass on a list, unless the previous one has not been taken yet."""
        self.reschedule()
        if not self._next.done():
            self._next.set_result(exports)

    def end(self, error: ProviderError) -> None:
        """End the subscription with an error."""
        self.over = True
        if not self._next.done():
            self._next.set_result(error)
