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
    """One function in a thread of its own.

    :param work: what to do.
    :param name: of the thread.
    """

    def __init__(self, work: Callable[[], None], *, name: str) -> None:
        self._work = work
        self._error: BaseException | None = None
        # Task logs of Airflow are bound to the context.
        run = contextvars.copy_context().run
        # A daemon: a process that was told to stop does not wait for a silent server.
        self._thread = threading.Thread(target=run, args=(self._run,), name=name, daemon=True)
        self._thread.start()

    def poll(self) -> bool:
        """Wait a moment for the end, and return whether it has come.

        :raises BaseException: what the function raised.
        """
        self._thread.join(timeout=_TICK_SECONDS)
        # Asked in this order: a thread that ends in between must not be taken for one that ended well.
        is_over = not self._thread.is_alive()
        if self._error is not None:
            raise self._error
        return is_over

    def join_briefly(self) -> None:
        """Wait a moment for the end, whatever it is; the function was told otherwise that it must stop."""
        self._thread.join(timeout=_JOIN_SECONDS)

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - handed over to who waits
            self._error = error


T = TypeVar("T")

_AHEAD = 2


class Stopped(Exception):
    """The items are no longer wanted."""


@dataclass(frozen=True)
class _End:
    """What follows after the last item.

    :param error: what the generator raised, or None if it came to its end.
    """

    error: BaseException | None


class Prefetch(Generic[T]):
    """Takes items from a generator in a thread, a few ahead.

    Receiving, decompressing and writing let go of the interpreter's lock, so they overlap with checking.

    :param items: consumed in the thread. It is closed there, too: closing a socket under a blocked read is not safe
        from another thread.
    :param name: of the thread.
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
                continue
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
        raise Stopped

    def stop(self) -> None:
        """Let the thread end after the item it is at, and wait a moment for that."""
        self._stopped.set()
        self._thread.join_briefly()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._items:
                if not self._put(item):
                    return
        except BaseException as raised:  # noqa: BLE001 - handed over to the consumer
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
"""For how long a storage may take no byte and send no response while a request is under way."""

P = ParamSpec("P")

_running: contextvars.ContextVar[Watchdog] = contextvars.ContextVar("isvapp_watchdog")


class Watchdog:
    """Runs calls to a storage, and gives up when it makes no progress for too long, whatever its client retries.

    Calls run in daemon threads. One that hangs is left behind and does not keep the process alive. It must not continue
    after the task has failed, so a store calls :func:`refuse_if_given_up` before each request, those that its client
    retries included.

    :param uri: of the object, for the message.
    :param seconds: how long is too long. Counts only while a call is under way.
    :param clock: seconds that only grow.
    """

    def __init__(
        self, uri: str, *, seconds: float = STALL_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._uri = uri
        self._seconds = seconds
        self._clock = clock
        self._under_way = 0
        self._lock = threading.Lock()
        self._last = clock()
        self._given_up = threading.Event()

    def acknowledge(self) -> None:
        """Record progress: a response has come, or bytes have left that were not sent before."""
        self._last = self._clock()

    def give_up(self) -> None:
        """Let the calls that are under way send no further request."""
        self._given_up.set()

    def sleep(self, seconds: float) -> None:
        """Wait between two attempts of a call; less if the call is given up.

        :raises StorageFailed: if it is given up.
        """
        self._given_up.wait(seconds)
        self.check()

    def start(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call a function in a thread of its own."""
        future: Future[T] = Future()
        with self._lock:
            if not self._under_way:
                self.acknowledge()
            self._under_way += 1

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
        """Return the result of a call, which is given up if this raises before the call has ended.

        :raises StorageFailed: if the storage stalls.
        """
        try:
            while True:
                try:
                    return future.result(timeout=min(_TICK_SECONDS, self._seconds))
                except TimeoutError:
                    # The call may have raised it, or have ended just now.
                    if future.done():
                        return future.result()
                    self.check()
        finally:
            if not future.done():
                self.give_up()

    def call(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function and return its result.

        :raises StorageFailed: if the storage stalls.
        """
        return self.wait(self.start(call, *args, **kwargs))

    def check(self) -> None:
        """Check that the storage makes progress.

        :raises StorageFailed: if it stalls, or if the calls were given up.
        """
        silent = self._clock() - self._last
        if self._under_way and silent > self._seconds:
            self.give_up()
            raise StorageFailed(
                f"The storage acknowledged nothing of {self._uri} for {silent:.0f} s. "
                "Check the network to it, and its own health."
            )
        if self._given_up.is_set():
            raise StorageFailed(f"The write to {self._uri} was given up.")

    def _end(self) -> None:
        with self._lock:
            self._under_way -= 1


def refuse_if_given_up() -> None:
    """Raise in a call that its :class:`Watchdog` has given up.

    :raises StorageFailed: then.
    """
    watchdog = _running.get(None)
    if watchdog is not None:
        watchdog.check()
