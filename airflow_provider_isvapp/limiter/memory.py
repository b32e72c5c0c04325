# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Shares a limit between the threads of one process: for tests and tools, not for a running Airflow."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from airflow_provider_isvapp.limiter.interfaces import Change, T


class _Cell:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.text: str | None = None


class MemoryStorage:
    """One text for each key, as long as the process lives."""

    def __init__(self, key: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._key = key
        self._clock = clock
        self.name = "memory://"

    def update(self, change: Change[T], *, patience: float) -> T:
        """See `Storage`."""
        cell = _cells.setdefault(self._key, _Cell())
        with cell.lock:
            cell.text, result = change(cell.text, self._clock())
        return result

    def rest(self) -> None:
        """Nothing is kept."""


_cells: dict[str, _Cell] = {}
# A forked child is a process of its own; a lock that another thread of the parent held would never open in it.
os.register_at_fork(after_in_child=_cells.clear)
