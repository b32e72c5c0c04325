# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Runs an iterator ahead of its consumer."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from queue import Empty
from typing import Generic, TypeVar

from airflow_provider_isvapp.transfer.handover import Handover

T = TypeVar("T")

_DEPTH = 3
_TICK_SECONDS = 0.2


class Prefetch(Generic[T]):
    """Takes items from an iterator in a thread, a few ahead.

    Receiving and decompressing let go of the interpreter's lock, so they overlap with checking and writing. It also
    keeps the consumer free to look up while the network stands still: :meth:`take` gives None then.

    :param items: consumed in the thread. Its ``close`` is called there, too: closing a socket under a blocked read is
        not safe from another thread.
    """

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self._queue: Handover[tuple[bool, T | BaseException | None]] = Handover(_DEPTH)
        self._stopped = threading.Event()
        # Task logs of Airflow are bound to the context.
        run = contextvars.copy_context().run
        # A daemon: a process that was told to stop does not wait for a silent server.
        self._thread = threading.Thread(target=run, args=(self._run,), name="isvapp-download", daemon=True)
        self._thread.start()

    def take(self) -> tuple[bool, T | None]:
        """Return whether it goes on, and the next item or None if none came for a moment.

        :raises BaseException: what the iterator raised.
        """
        try:
            going_on, item = self._queue.get(timeout=_TICK_SECONDS)
        except Empty:
            return True, None
        if isinstance(item, BaseException):
            raise item
        return going_on, item

    def stop(self) -> None:
        """Let the thread end after the item it is at, and wait a moment for that."""
        self._stopped.set()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        last: BaseException | None = None
        try:
            for item in self._items:
                if not self._put((True, item)):
                    return
        except BaseException as error:  # noqa: BLE001 - handed over to the consumer
            last = error
        finally:
            close = getattr(self._items, "close", None)
            if close is not None:
                close()
        self._put((False, last))

    def _put(self, entry: tuple[bool, T | BaseException | None]) -> bool:
        while not self._stopped.is_set():
            if self._queue.put(entry, timeout=_TICK_SECONDS):
                return True
        return False
