# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""One poll loop per connection for all triggers of a process.

ISVapp allows two requests per second: with one request for each of 200 waiting tasks, a poll would take 100 seconds.
Here one request lists the 1000 most recent exports for all of them. All triggers of a triggerer run in one event loop,
so the first one that waits on a connection starts its poller, and the last one ends it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol, TypeVar
from weakref import WeakKeyDictionary

from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.errors import ApiError, ProviderError
from airflow_provider_isvapp.triggers.waiters import ExportWaiter, FailedPolls, ListSubscriber, as_provider_error

T = TypeVar("T")


async def run_in_daemon_thread(call: Callable[[], T], *, name: str) -> T:
    """Run a blocking call in a new thread and wait for its result without blocking the loop.

    If the waiter is cancelled, the thread finishes and its result is dropped.

    :param name: the thread's name in stack dumps.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def deliver(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, error = None, None
        try:
            result = call()
        except BaseException as problem:  # noqa: BLE001 (raised in the waiter)
            error = problem
        # Raised if the loop is closed by now; then there is no waiter.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(deliver, result, error)

    threading.Thread(target=work, name=name, daemon=True).start()
    return await future


log = logging.getLogger(__name__)

# Exports that are missing from the list cost one request each. After this many, the list is requested again.
LOOKUPS_PER_ROUND = 10
# How many waits are resolved before other coroutines may run.
WAITERS_PER_BATCH = 25
# Seconds that a wait may exceed its deadline for a request in flight.
DEADLINE_GRACE = 60.0


class ExportReader(Protocol):
    """The part of :class:`~airflow_provider_isvapp.api.isvapp.client.IsvappClient` that a poller needs."""

    def list_exports(self, *, on_unreadable: Callable[[ApiError], object] | None = None) -> list[Export]:
        """List the most recent exports."""

    def get_export(self, export_id: str) -> Export:
        """Show one export."""

    def close(self) -> None:
        """Close the connections."""


Connect = Callable[[], Awaitable[ExportReader]]
Result = TypeVar("Result")


class ExportPoller:
    """Polls for all waiters of one connection in one event loop, until none is left.

    :param name: the connection's id, for logs.
    :param connect: creates the client with the stored credentials: once, and again after each permanent error; raises
        :class:`~airflow_provider_isvapp.errors.ProviderError`.
    """

    def __init__(self, name: str, connect: Connect) -> None:
        self._name = name
        self._connect = connect
        self._waiters: set[ExportWaiter] = set()
        self._subscribers: set[ListSubscriber] = set()
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._wakes_at = 0.0
        self._reader: ExportReader | None = None
        self._failed = FailedPolls(of_one_export=False)
        self._stopped = False

    @property
    def ended(self) -> bool:
        """Whether the loop has ended or is about to; such a poller accepts no more waiters."""
        return self._stopped or (self._task is not None and not self._wanted)

    @property
    def _wanted(self) -> list[ExportWaiter | ListSubscriber]:
        return [*self._waiters, *self._subscribers]

    async def wait(
        self,
        export_id: str,
        *,
        deadline: float,
        poll_interval: float,
        known_since: float,
        on_warning: Callable[[str], None],
    ) -> Export:
        """Wait until an export is ready.

        The first poll is after ``FIRST_INTERVAL`` seconds, or sooner if another wait is due.

        :param deadline: seconds since the epoch. The export is polled at least once, even after the deadline.
        :param poll_interval: the longest time in seconds between two polls.
        :param known_since: when the task first had the export's id, in seconds since the epoch.
        :param on_warning: called in the caller's context when polls begin to fail.
        :raises ExportFailed: if the vendor reports that it errored.
        :raises ExportExpired: if its file has expired.
        :raises ExportTimeout: if it is not ready at the deadline; the message names its last state.
        :raises ProviderError: if polls keep failing, with the last error.
        """
        waiter = ExportWaiter(
            export_id=export_id,
            poll_interval=poll_interval,
            deadline=time.monotonic() + deadline - time.time(),
            known_since=datetime.fromtimestamp(known_since, UTC),
            on_warning=on_warning,
            outcome=asyncio.get_running_loop().create_future(),
        )
        self._waiters.add(waiter)
        self._run_until(waiter.due)
        outcome: Export | ProviderError
        try:
            async with asyncio.timeout(max(waiter.deadline - waiter.since, 0.0) + DEADLINE_GRACE):
                outcome = await waiter.outcome
        except TimeoutError:
            outcome = waiter.timeout_error()
        finally:
            self._waiters.discard(waiter)
            if not self._wanted:
                self._wake.set()
        if isinstance(outcome, ProviderError):
            # Several waiters may raise the same error, and its traceback would grow with each.
            raise outcome.with_traceback(None)
        return outcome

    async def lists(self, *, poll_interval: float) -> AsyncGenerator[list[Export]]:
        """Yield the list of exports of each round, with at most ``poll_interval`` seconds between two.

        The poller keeps running between two lists, as a new one would need a new token. A list that is not taken in
        time is dropped; the next one has the same exports and more.

        :raises ProviderError: if polls keep failing, with the last error.
        """
        subscriber = ListSubscriber(poll_interval=poll_interval)
        self._subscribers.add(subscriber)
        try:
            while True:
                self._run_until(subscriber.due)
                yield await subscriber.next()
        finally:
            self._subscribers.discard(subscriber)
            if not self._wanted:
                self._wake.set()

    def _run_until(self, due: float) -> None:
        """Make sure that a round begins by the time a waiter is due."""
        if self._task is None:
            # In an empty context, or the poller would write to the log of the first task.
            self._task = asyncio.get_running_loop().create_task(
                self._run(), name=f"isvapp-export-poller-{self._name}", context=contextvars.Context()
            )
        if due < self._wakes_at:
            self._wake.set()

    async def _run(self) -> None:
        log.info("Started polling for exports of connection %s", self._name)
        rounds = 0
        try:
            while self._wanted:
                await self._pause()
                if self._wanted:
                    await self._round()
                    rounds += 1
                self._waiters -= {waiter for waiter in self._waiters if waiter.outcome.done()}
                self._subscribers -= {subscriber for subscriber in self._subscribers if subscriber.over}
        except Exception as defect:
            # No waiter may wait forever, whatever the error.
            log.exception("Polling for exports of connection %s crashed", self._name)
            self._fail_all(defect)
        finally:
            self._stopped = True
        log.info("Stopped polling for exports of connection %s after %d rounds", self._name, rounds)
        await self._disconnect()

    async def _pause(self) -> None:
        """Sleep until the first waiter is due, a new one is due sooner, or the last one has left."""
        self._wakes_at = min(waiter.due for waiter in self._wanted)
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(self._wakes_at - time.monotonic(), 0.0)):
                await self._wake.wait()

    async def _round(self) -> None:
        try:
            if self._reader is None:
                self._reader = await self._connect()
            await self._poll(self._reader)
        except Exception as error:  # noqa: BLE001 (one defect must not fail all waits)
            await self._poll_failed(error)
        else:
            if self._failed:
                log.info("Polling for exports of connection %s works again", self._name)
                self._failed.clear()

    async def _poll(self, reader: ExportReader) -> None:
        """Request the list, and pass each export to its waiters."""
        listed = await self._listed(reader)
        exports = list(listed.values())
        for subscriber in self._subscribers:
            subscriber.take(exports)
        now = time.monotonic()
        missing: dict[str, float] = {}
        for number, waiter in enumerate(list(self._waiters), 1):
            if number % WAITERS_PER_BATCH == 0:
                # Hundreds of tasks that resume at once would block all other triggers.
                await asyncio.sleep(0)
            if waiter.export_id in listed:
                waiter.on_export(listed[waiter.export_id])
            elif waiter.due <= now:
                missing[waiter.export_id] = min(waiter.due, missing.get(waiter.export_id, waiter.due))
        for export_id in sorted(missing, key=missing.__getitem__)[:LOOKUPS_PER_ROUND]:
            await self._look_up(reader, export_id)

    async def _listed(self, reader: ExportReader) -> dict[str, Export]:
        def skip(problem: ApiError) -> None:
            # It must not fail the waits for others; its own waiters request it individually.
            log.warning(
                "The list of exports of connection %s has an unreadable record, which is skipped: %s",
                self._name,
                problem,
            )

        return await self._call(lambda: {export.id: export for export in reader.list_exports(on_unreadable=skip)})

    async def _look_up(self, reader: ExportReader, export_id: str) -> None:
        """Request one export that is not in the list, for all its waiters."""
        result: Export | Exception
        try:
            result = await self._call(lambda: reader.get_export(export_id))
        except Exception as error:  # a defect that one record causes must not fail other waits
            log.warning("Polling export %s failed: %s", export_id, error, exc_info=_if_defect(error))
            result = error
        for waiter in [waiter for waiter in self._waiters if waiter.export_id == export_id]:
            if isinstance(result, Export):
                waiter.on_export(result)
            else:
                waiter.failed(result)

    async def _poll_failed(self, error: Exception) -> None:
        """Handle a failed poll: retry, or fail all waits if failures last."""
        first = not self._failed
        log.warning("Polling for exports of connection %s failed: %s", self._name, error, exc_info=_if_defect(error))
        if not isinstance(error, ProviderError) or error.permanent:
            # The same client cannot succeed: the next poll reads the connection again.
            await self._disconnect()
        if self._failed.add(error):
            self._fail_all(error)
            return
        problem = as_provider_error(error)
        for subscriber in self._subscribers:
            subscriber.reschedule()
        for waiter in list(self._waiters):
            waiter.on_error(problem)
            if first:
                waiter.log(f"A poll failed; will retry: {problem}")
                # A thousand log lines at once would block other triggers.
                await asyncio.sleep(0)

    def _fail_all(self, error: Exception) -> None:
        problem = as_provider_error(error)
        for waiter in self._wanted:
            waiter.end(problem)

    async def _disconnect(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            await self._call(reader.close)

    async def _call(self, call: Callable[[], Result]) -> Result:
        return await run_in_daemon_thread(call, name=f"isvapp-export-poller-{self._name}")


def _if_defect(error: Exception) -> Exception | None:
    """Return an error that is logged with its traceback."""
    return None if isinstance(error, ProviderError) else error


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, ExportPoller]] = WeakKeyDictionary()


def shared_poller(name: str, connect: Connect) -> ExportPoller:
    """Return this event loop's poller for a connection; start a new one if none is running.

    :param name: the connection's id.
    :param connect: used by a new poller.
    """
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    poller = pollers.get(name)
    if poller is None or poller.ended:
        poller = pollers[name] = ExportPoller(name, connect)
    return poller
