# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What the demo says while it works: one line for each event, with the seconds since the start."""

from __future__ import annotations

import time


class DemoFailed(Exception):
    """The demo cannot continue; the message says why and what to check."""


class Console:
    """Print to a terminal or a log alike: no line is ever rewritten."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._started

    def step(self, text: str) -> None:
        """Say what happened or begins."""
        print(f"{self.elapsed:5.0f} s  {text}", flush=True)

    def detail(self, text: str) -> None:
        """Add a line that belongs to the step before."""
        print(f"         {text}", flush=True)
