# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Who waits for which exports, until when, and when the next poll is due."""

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

# Seconds between the first polls of an export; then a quarter of the time waited so far, up to the poll interval. So a
# short export is seen soon, and no export is seen later than by a quarter of its own duration.
FIRST_INTERVAL = 2.0
INTERVAL_GROWTH = 0.25

# For how many seconds polls may fail before the waits fail. A shorter outage fails no task.
LASTING_FAILURE = 900.0
# The same while the connection is refused. Each poll reads it anew: it may be about to get its new credentials.
LASTING_REFUSAL = 120.0

# No wait and no pause is longer: what Airflow adds to it must stay a date.
LONGEST_WAIT = 366 * 24 * 3600.0
_YEAR_10000 = 253_402_300_800.0


def seconds_of(value: timedelta | float) -> float:
    """Return a duration in seconds, unchecked."""
    return value.total_seconds() if isinstance(value, timedelta) else value


def checked_seconds(name: str, value: object) -> float:
    """Check how long to wait, in all or between two polls.

    :param name: the argument's, for the message.
    :param value: a timedelta or a number of seconds.
    :raises InvalidArgument: if it is no such thing, or not a while.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST_WAIT:
        raise InvalidArgument(
            f"{name}: must be a timedelta or a number of seconds, more than 0 and at most {LONGEST_WAIT:.0f}, "
            f"not {value!r:.100}."
        )
    return float(seconds)


def checked_moment(name: str, value: object) -> float:
    """Check a moment in seconds since the epoch; it may be past.

    :param name: the argument's, for the message.
    :raises InvalidArgument: if it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _YEAR_10000:
        raise InvalidArgument(f"{name}: must be a number of seconds since the epoch, not {value!r:.100}.")
    return float(value)


def interval_after(waited: float, *, poll_interval: float) -> float:
    """Return how many seconds after this poll the next one is due.

    :param waited: for how long the export has been waited for.
    :param poll_interval: the longest interval.
    """
    return min(max(waited * INTERVAL_GROWTH, FIRST_INTERVAL), poll_interval)


class FailedPolls:
    """Polls that failed in a row: the one decision on when they end a wait.

    One failed poll never does: it may be the one bad response of a gateway, or a defect that the next round does not
    meet.

    :param of_one_export: whether the polls are for a single export, so that a refusal is about that export.
    """

    def __init__(self, *, of_one_export: bool) -> None:
        self._of_one_export = of_one_export
        self._since: float | None = None

    def __bool__(self) -> bool:
        """Say whether the latest poll failed."""
        return self._since is not None

    def clear(self) -> None:
        """Take note of a poll that worked."""
        self._since = None

    def add(self, error: Exception) -> bool:
        """Take note of a poll that failed, and say whether waiting on makes no sense.

        :param error: why it failed; a defect of this package, if it is no ``ProviderError``.
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
    """Return the error that a waiting task gets; a retry may help against a defect of this package."""
    if isinstance(error, ProviderError):
        return error
    return ProviderError(
        f"Waiting for exports broke inside the provider ({type(error).__name__}); the triggerer's log has the details. "
        "Retry the task; if it fails again, report this with that log."
    )


@dataclass(eq=False, kw_only=True)
class ExportWaiter:
    """One trigger's wait. Times are those of the monotonic clock.

    :param known_since: when the task first had the export's id, aware.
    """

    export_id: str
    poll_interval: float
    deadline: float
    known_since: datetime
    on_warning: Callable[[str], None]
    # An error is a result here: an exception of a future whose waiter has left would be reported as never retrieved.
    answer: asyncio.Future[Export | ProviderError]
    since: float = field(default_factory=time.monotonic)
    # Logs written in here reach the log of the waiting task.
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    last_seen: str = "not seen yet"
    due: float = field(init=False)
    _failed: FailedPolls = field(init=False, default_factory=lambda: FailedPolls(of_one_export=True))

    def __post_init__(self) -> None:
        self.reschedule(self.since)

    def reschedule(self, now: float) -> None:
        """Set when the next poll is due."""
        interval = interval_after(now - self.since, poll_interval=self.poll_interval)
        # The last poll is at the deadline, however long the interval.
        self.due = min(now + interval, self.deadline)

    def on_export(self, export: Export) -> None:
        """Take a record of the export: the wait ends or continues."""
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
        """Take a failed poll of this export alone: the wait ends or continues."""
        if isinstance(error, NotFound) and may_appear(known_since=self.known_since, now=datetime.now(UTC)):
            self.on_error(error)
        elif self._failed.add(error):
            self.end(as_provider_error(error))
        else:
            self.on_error(as_provider_error(error))

    def on_error(self, error: ProviderError) -> None:
        """Take a failed poll, which says nothing about the export."""
        self.last_seen = f"the last poll failed: {error}"
        self.continue_waiting()

    def continue_waiting(self) -> None:
        """Wait on, unless the deadline has passed."""
        now = time.monotonic()
        if now >= self.deadline:
            self.end(self.timeout_error())
        else:
            self.reschedule(now)

    def log(self, text: str) -> None:
        """Write to the log of the waiting task."""
        self.context.run(self.on_warning, text)

    def timeout_error(self) -> ExportTimeout:
        """Build the error for a deadline that has passed, with what was last seen."""
        return ExportTimeout(
            f"Export {self.export_id} was not finished in time; {self.last_seen}. It may still finish: clear the task "
            "to wait on, with a longer timeout if such exports take that long.",
            export_id=self.export_id,
        )

    def end(self, outcome: Export | ProviderError) -> None:
        """Deliver the result, once."""
        if not self.answer.done():
            self.answer.set_result(outcome)


@dataclass(eq=False, kw_only=True)
class ListSubscriber:
    """A subscriber to all lists of exports. Times are those of the monotonic clock."""

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
