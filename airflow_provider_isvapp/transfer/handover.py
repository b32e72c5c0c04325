# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A short queue between two threads."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class Handover(Generic[T]):
    """A queue that holds a few items and no more.

    ``queue.Queue`` can do this as well, but is written in Python, and at thousands of pieces a second its locks are a
    load of their own. ``SimpleQueue`` is not, so the room that is left is one of those, too.

    :param depth: how many items it holds.
    """

    def __init__(self, depth: int) -> None:
        self._items: SimpleQueue[T] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(depth):
            self._room.put(None)

    def put(self, item: T, *, timeout: float | None = None) -> bool:
        """Add an item, or return False if there was no room for so many seconds."""
        try:
            self._room.get(timeout=timeout)
        except Empty:
            return False
        self._items.put(item)
        return True

    def get(self, *, timeout: float | None = None) -> T:
        """Take the oldest item.

        :raises queue.Empty: if none came for so many seconds.
        """
        item = self._items.get(timeout=timeout)
        self._room.put(None)
        return item
