# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What a connection's list of exports was a moment ago, so that any number of viewers costs one request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from airflow_provider_isvapp.api.isvapp.export import Export
from airflow_provider_isvapp.errors import ProviderError

# Longer than a nervous finger, shorter than the fastest export.
KEEP_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The answer of one moment.

    :param read_at: when it arrived, aware.
    :param error: what went wrong and the next step; then there are no exports.
    """

    exports: tuple[Export, ...]
    read_at: datetime
    error: str | None = None


class RecentExports:
    """Reads each connection at most once in a few seconds, whether that works or not. For one event loop.

    Viewers who come while a reading is under way wait for that one, without a thread of their own: a vendor that does
    not answer costs one thread for each connection, however many pages are open.

    :param read: asks for the exports of a connection; blocks, so it runs in a thread, and never twice at once for the
        same connection.
    :param clock: seconds that never go back; tests inject it.
    """

    def __init__(
        self,
        read: Callable[[str], list[Export]],
        *,
        keep_seconds: float = KEEP_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._keep_seconds = keep_seconds
        self._clock = clock
        self._kept: dict[str, tuple[float, Reading]] = {}
        self._under_way: dict[str, asyncio.Task[Reading]] = {}

    async def of(self, conn_id: str) -> Reading:
        """Return the latest reading if it is fresh, else a new one.

        :raises Exception: what ``read`` raises, unless it is one of our own errors: those are part of the reading.
        """
        self._drop_old()
        if conn_id in self._kept:
            return self._kept[conn_id][1]
        if conn_id not in self._under_way:
            task = asyncio.create_task(self._read_now(conn_id))
            self._under_way[conn_id] = task
            task.add_done_callback(lambda _: self._under_way.pop(conn_id))
        # A viewer who goes away must not take the reading from the others.
        return await asyncio.shield(self._under_way[conn_id])

    async def _read_now(self, conn_id: str) -> Reading:
        try:
            exports = await asyncio.to_thread(self._read, conn_id)
        except ProviderError as error:
            reading = Reading(exports=(), read_at=datetime.now(UTC), error=str(error))
        else:
            reading = Reading(exports=tuple(exports), read_at=datetime.now(UTC))
        self._kept[conn_id] = (self._clock(), reading)
        return reading

    def _drop_old(self) -> None:
        oldest = self._clock() - self._keep_seconds
        self._kept = {conn_id: kept for conn_id, kept in self._kept.items() if kept[0] > oldest}
