# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Worker threads with bounded queues, which the caller can poll and leave behind."""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Generic, ParamSpec, TypeVar

from airflow_provider_isvapp.errors import StorageFailed

_TICK_SECONDS = 0.2
_JOIN_SECONDS = 1.0


class WorkerThread:
    """Runs a function in a separate thread.

    :param work: the function.
    :param name: the thread's name.
    """

    def __init__(self, work: Callable[[], None], *, name: str) -> None:
        self._work = work
        self._name = name
        self._error: BaseException | None = None
        self._is_complete = False
        # Task logs of Airflow are bound to the context.
        run = contextvars.copy_context().run
        # A daemon thread: a stopping process does not wait for a silent server.
        self._thread = threading.Thread(target=run, args=(self._run,), name=name, daemon=True)
        self._thread.start()

    def poll(self) -> bool:
        """Wait a moment, and return whether the thread has ended.

        :raises BaseException: any exception that the function raised.
        :raises RuntimeError: if the thread died before the function returned.
        """
        self._thread.join(timeout=_TICK_SECONDS)
        return self.has_ended()

    def has_ended(self) -> bool:
        """Return whether the thread has ended; raises as :meth:`poll`."""
        # The order matters: a thread that fails in between must not pass for one that succeeded.
        is_over = not self._thread.is_alive()
        if self._error is not None:
            raise self._error
        if is_over and not self._is_complete:
            # Python ends a thread that fails before its function, such as in a trace function, without an error here.
            raise RuntimeError(f"The thread {self._name} died before it had done its work.")
        return is_over

    def join_briefly(self) -> None:
        """Wait a moment for the thread to end, ignoring its exception. The caller has already stopped the function."""
        self._thread.join(timeout=_JOIN_SECONDS)

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - raised again by poll
            self._error = error
        else:
            self._is_complete = True


T = TypeVar("T")

_AHEAD = 2


class Stopped(Exception):
    """The items are no longer wanted."""


@dataclass(frozen=True)
class _End:
    """Marks the end of the items.

    :param error: the exception that the generator raised; None if it was exhausted.
    """

    error: BaseException | None


class Prefetch(Generic[T]):
    """Reads ahead a few items of a generator in a thread.

    Receiving, decompressing and writing release the interpreter's lock, so they overlap with checking.

    :param items: the generator, consumed and closed in the thread: closing a socket from another thread is not safe
        during a blocked read.
    :param name: the thread's name.
    """

    def __init__(self, items: Generator[T], *, name: str) -> None:
        self._items = items
        self._queue: Queue[T | _End] = Queue(_AHEAD)
        self._stopped = threading.Event()
        self._thread = WorkerThread(self._run, name=name)

    def __iter__(self) -> Iterator[T]:
        """Yield the items.

        :raises BaseException: what the generator raised.
        :raises Stopped: after :meth:`stop`.
        """
        while not self._stopped.is_set():
            try:
                item = self._queue.get(timeout=_TICK_SECONDS)
            except Empty:
                self._thread.has_ended()
                continue
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
        raise Stopped

    def stop(self) -> None:
        """Let the thread end after its current item, and wait a moment for that."""
        self._stopped.set()
        self._thread.join_briefly()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._items:
                if not self._put(item):
                    return
        except BaseException as raised:  # noqa: BLE001 - raised again in the consumer
            error = raised
        finally:
            self._items.close()
        self._put(_End(error))

    def _put(self, item: T | _End) -> bool:
        while not self._stopped.is_set():
            with contextlib.suppress(Full):
                self._queue.put(item, timeout=_TICK_SECONDS)
                return True
        return False


STALL_SECONDS = 120.0
"""The longest time in seconds without a sent byte or a response while a request is in progress."""

P = ParamSpec("P")

_running: contextvars.ContextVar[Watchdog] = contextvars.ContextVar("isvapp_watchdog")


class Watchdog:
    """Runs calls to a storage, and fails after too long without progress, regardless of the client's retries.

    Calls run in daemon threads: one that hangs is abandoned and does not keep the process alive. It must not continue
    after the task has failed, so a store calls :func:`raise_if_cancelled` before each request, including the client's
    retries.

    :param uri: the object's URI, for the message.
    :param seconds: the longest time without progress. Counts only while a call is in progress.
    :param clock: returns monotonic time in seconds.
    """

    def __init__(
        self, uri: str, *, seconds: float = STALL_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._uri = uri
        self._seconds = seconds
        self._clock = clock
        self._in_progress = 0
        self._lock = threading.Lock()
        self._last = clock()
        self._cancelled = threading.Event()

    def acknowledge(self) -> None:
        """Record progress: a response arrived, or new bytes were sent."""
        self._last = self._clock()

    def cancel(self) -> None:
        """Prevent further requests by the calls in progress."""
        self._cancelled.set()

    def sleep(self, seconds: float) -> None:
        """Wait between two attempts of a call, or until the call is cancelled.

        :raises StorageFailed: if it is cancelled.
        """
        self._cancelled.wait(seconds)
        self.check()

    def start(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Start a function in a separate thread."""
        future: Future[T] = Future()
        with self._lock:
            if not self._in_progress:
                self.acknowledge()
            self._in_progress += 1

        def run() -> None:
            _running.set(self)
            try:
                result = call(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
                self._end()
                future.set_exception(error)
            else:
                self.acknowledge()
                self._end()
                future.set_result(result)

        # Task logs of Airflow are bound to the context.
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(run,), name="isvapp-storage", daemon=True).start()
        return future

    def wait(self, future: Future[T]) -> T:
        """Return the result of a call. The call is cancelled if this raises before it has ended.

        :raises StorageFailed: if the storage stalls.
        """
        try:
            while True:
                try:
                    return future.result(timeout=min(_TICK_SECONDS, self._seconds))
                except TimeoutError:
                    # The call may have raised this error itself, or just ended.
                    if future.done():
                        return future.result()
                    self.check()
        finally:
            if not future.done():
                self.cancel()

    def call(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function and return its result.

        :raises StorageFailed: if the storage stalls.
        """
        return self.wait(self.start(call, *args, **kwargs))

    def check(self) -> None:
        """Check that the storage makes progress.

        :raises StorageFailed: if it stalls, or if the calls were cancelled.
        """
        silent = self._clock() - self._last
        if self._in_progress and silent > self._seconds:
            self.cancel()
            raise StorageFailed(
                f"The write to {self._uri} made no progress for {silent:.0f} s. "
                "Check the network and the health of the storage."
            )
        if self._cancelled.is_set():
            raise StorageFailed(f"The write to {self._uri} was cancelled.")

    def _end(self) -> None:
        with self._lock:
            self._in_progress -= 1


def raise_if_cancelled() -> None:
    """Raise in a call that its :class:`Watchdog` has cancelled.

    :raises StorageFailed: if the call was cancelled.
    """
    watchdog = _running.get(None)
    if watchdog is not None:
        watchdog.check()
