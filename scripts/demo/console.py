# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The output of a long run: one line per event, with the seconds since the start. Only one run at a time."""

from __future__ import annotations

import contextlib
import fcntl
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path


class DemoFailed(Exception):
    """The demo cannot continue; the message says why and what to check."""


class Console:
    """Prints to a terminal or a log; no line is ever rewritten."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._started

    def step(self, text: str) -> None:
        """Print a step that has happened or begins."""
        print(f"{self.elapsed:5.0f} s  {text}", flush=True)

    def detail(self, text: str) -> None:
        """Add a line that belongs to the step before."""
        print(f"         {text}", flush=True)


def exit_on_signals() -> None:
    """End the program, and with it its processes, when the terminal is closed or it is killed; accept Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    # A shell starts background jobs with this signal ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def only_run(lock: Path, failure: type[Exception]) -> Iterator[None]:
    """Refuse to start beside another run of this checkout: it would remove that run's files and processes.

    :param lock: a file that the kernel unlocks when the process dies.
    :param failure: raised if there is another one.
    """
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise failure("Another one is running in this checkout; end it first, with Ctrl-C.") from None
        yield
