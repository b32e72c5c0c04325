# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Says in the log how far a long transfer is."""

from __future__ import annotations

import time
from collections.abc import Callable
from logging import Logger

_INTERVAL_SECONDS = 5.0
_MB = 1_000_000


class Progress:
    """Logs a line every few seconds.

    :param total: size of the compressed file, if known.
    """

    def __init__(self, *, total: int | None, log: Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._total = total
        self._log = log
        self._clock = clock
        self._started = clock()
        self._next = self._started + _INTERVAL_SECONDS

    def report(self, *, wire: int, plain: int, rows: int) -> None:
        """Log where the transfer stands, if it is time.

        :param wire: compressed bytes so far.
        :param plain: bytes of ndjson so far.
        :param rows: rows so far.
        """
        now = self._clock()
        if now < self._next:
            return
        self._next = now + _INTERVAL_SECONDS
        share = f", {wire / self._total:.0%}" if self._total else ""
        self._log.info(
            "%.0f MB downloaded, %.0f MB of ndjson in %d rows so far, %.0f MB/s%s",
            wire / _MB,
            plain / _MB,
            rows,
            plain / _MB / (now - self._started),
            share,
        )
