# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The bound on how often a body is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from logging import Logger

from airflow_provider_isvapp.errors import TransferError

_FIRST_WAIT = 1.0
_LONGEST_WAIT = 30.0


class Attempts:
    """Counts the answers that a download has used, and waits before the next one.

    :param limit: answers in all, whole ones and continued ones.
    :param sleep: how to wait.
    """

    def __init__(self, limit: int, *, log: Logger, sleep: Callable[[float], None] = time.sleep) -> None:
        self.used = 0
        self._limit = limit
        self._log = log
        self._sleep = sleep

    def begin(self) -> None:
        """Count one answer."""
        self.used += 1

    def again_after(self, error: TransferError) -> None:
        """Wait for the next answer, or raise the error when there are no more."""
        if self.used >= self._limit:
            times = f" This was attempt {self.used} of {self._limit}." if self._limit > 1 else ""
            error.args = (f"{error}{times} Try again later; if it lasts, ask the vendor.",)
            raise error
        wait = min(_FIRST_WAIT * 2 ** (self.used - 1), _LONGEST_WAIT)
        self._log.warning("%s Trying again in %.0f s (attempt %d of %d).", error, wait, self.used + 1, self._limit)
        self._sleep(wait)
