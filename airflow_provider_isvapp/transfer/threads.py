# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Worker threads with bounded queues, which the caller can poll and leave behind."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Generic, TypeVar

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

_AHEAD = 4


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
