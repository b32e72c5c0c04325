# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Says in the log how far a long transfer is."""

from __future__ import annotations

from logging import Logger

_INTERVAL_SECONDS = 5.0
_MB = 1_000_000


class Progress:
    """Logs a line every few seconds.

    :param total: size of the compressed file, if known.
    :param started: when the transfer began, in seconds.
    """

    def __init__(self, *, total: int | None, log: Logger, started: float) -> None:
        self._total = total
        self._log = log
        self._started = started
        self._next = started + _INTERVAL_SECONDS

    def report(self, now: float, *, wire: int, plain: int, rows: int) -> None:
        """Log where the transfer stands, if it is time.

        :param now: seconds, by the clock of ``started``.
        :param wire: compressed bytes so far.
        :param plain: bytes of ndjson so far.
        :param rows: rows so far.
        """
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
