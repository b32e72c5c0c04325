# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Triggers that wait for exports: one export, or any new one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.api.isvapp.export_state import ExportState, classify
from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.errors import ProviderError
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.log_messages import log_deferral
from airflow_provider_isvapp.triggers.events import failure_event, ready_event
from airflow_provider_isvapp.triggers.poller import shared_poller
from airflow_provider_isvapp.triggers.waiters import as_provider_error, checked_moment, checked_seconds
from airflow_provider_isvapp.version_compat import BaseEventTrigger, BaseOperator, BaseTrigger, TriggerEvent

# An event soon after the deferral can find the task not yet stored as deferred, and the scheduler then fails it (seen
# on Airflow 3.3.2 after 2 s, 3 of 200, and after 3 s on a busy machine; apache/airflow 66374, 67287).
EARLIEST_EVENT = 5.0


class IsvappExportTrigger(BaseTrigger):
    """Wait in the triggerer until an export is ready, failed or expired, or the deadline has passed.

    All triggers of a connection share one poll. Nothing is done to the export when the task is killed or the triggerer
    stops: it belongs to the account, and a retry or another task may be waiting for it.

    :param export_id: the export.
    :param isvapp_conn_id: an Airflow connection of type ``isvapp``.
    :param deadline: seconds since the epoch; absolute, so that a restarted triggerer does not begin anew.
    :param poll_interval: the longest time in seconds between two polls.
    :param known_since: seconds since the epoch, when the task first had the export's id: ISVapp may not know an export
        that it has only just created.
    """

    def __init__(
        self, *, export_id: str, isvapp_conn_id: str, deadline: float, poll_interval: float, known_since: float
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.export_id = export_id
        self.isvapp_conn_id = isvapp_conn_id
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.known_since = known_since

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what is stored of the trigger: JSON values, and no secret."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "export_id": self.export_id,
                "isvapp_conn_id": self.isvapp_conn_id,
                "deadline": self.deadline,
                "poll_interval": self.poll_interval,
                "known_since": self.known_since,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then yield one event (see :mod:`airflow_provider_isvapp.triggers.events`)."""
        started = time.monotonic()
        try:
            export = await shared_poller(self.isvapp_conn_id, self._connect).wait(
                self.export_id,
                deadline=checked_moment("deadline", self.deadline),
                poll_interval=checked_seconds("poll_interval", self.poll_interval),
                known_since=checked_moment("known_since", self.known_since),
                on_warning=self.log.warning,
            )
            event = ready_event(export)
        except Exception as error:
            if not isinstance(error, ProviderError):
                self.log.exception("Waiting for export %s broke", self.export_id)
            event = failure_event(self.export_id, as_provider_error(error))
        await asyncio.sleep(max(started + EARLIEST_EVENT - time.monotonic(), 0.0))
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def _connect(self) -> IsvappClient:
        return await IsvappHook(isvapp_conn_id=self.isvapp_conn_id).aget_conn()


# Airflow ends a deferral by itself this many seconds after the deadline: only if no triggerer could do it, with a
# message that does not name the last state.
_TRIGGERER_GRACE = 300.0


def defer_until_ready(
    operator: BaseOperator,
    *,
    export_id: str,
    isvapp_conn_id: str,
    timeout: float,
    poll_interval: float,
    known_since: datetime,
    method_name: str,
) -> NoReturn:
    """Defer a task until an export is ready, failed or expired, or the timeout has passed.

    :param timeout: seconds to wait from now on.
    :param poll_interval: the longest time in seconds between two polls.
    :param known_since: when the task first had the export's id, timezone-aware.
    :param method_name: of the operator, which takes the event.
    """
    deadline = time.time() + timeout
    log_deferral(operator.log, deadline=deadline, poll_interval=poll_interval)
    operator.defer(
        trigger=IsvappExportTrigger(
            export_id=export_id,
            isvapp_conn_id=isvapp_conn_id,
            deadline=deadline,
            poll_interval=poll_interval,
            known_since=known_since.timestamp(),
        ),
        method_name=method_name,
        timeout=timedelta(seconds=timeout + _TRIGGERER_GRACE),
    )


STORE_KEY = "isvapp_announced_exports"
# Seconds after which a watch continues past an error that does not pass by itself: an operator may mend it.
RETRY_DELAY = 300.0


def to_announce(
    exports: Sequence[Export], announced: frozenset[str] | None, *, now: datetime
) -> tuple[list[Export], frozenset[str]]:
    """Choose the exports that are news.

    :param announced: ids that are no news any more; None at the first poll of all, whose exports were there before.
    :return: the exports to announce, oldest first, and the ids to remember: no more than there are in the list.
    """
    ready = [export for export in exports if classify(export, now=now) is ExportState.READY]
    known = frozenset(export.id for export in ready) if announced is None else announced
    news = [export for export in ready if export.id not in known]
    news.sort(key=lambda export: (export.completed_at or now, export.id))
    listed = {export.id for export in exports}
    return news, frozenset(known & listed) | {export.id for export in news}


class IsvappExportCompletedTrigger(BaseEventTrigger):
    """Fire for each export of an account that becomes ready, also of those that other programs created.

    For ``AssetWatcher``. The consuming DAG finds the export's record, without its download URL, in the asset
    event's ``extra["payload"]["export"]``. Nothing is announced that was ready before the watch began. On Airflow 3.3
    what was announced is kept in the asset's state store: a triggerer that starts again catches up on what completed
    meanwhile; one that dies right after an event may announce that one again. Before 3.3, a start begins a new watch.

    All watches and waits of a connection share one poll.

    :param isvapp_conn_id: an Airflow connection of type ``isvapp``.
    :param poll_interval: the most seconds between two polls.
    """

    def __init__(self, *, isvapp_conn_id: str = IsvappHook.default_conn_name, poll_interval: float = 60.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.isvapp_conn_id = isvapp_conn_id
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what is stored of the trigger: JSON values, and no secret."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {"isvapp_conn_id": self.isvapp_conn_id, "poll_interval": self.poll_interval},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch until the triggerer ends; a poll that fails does not end it.

        :raises InvalidArgument: if the poll interval is none.
        """
        checked_seconds("poll_interval", self.poll_interval)
        announced = await self._recall()
        async for exports in self._lists():
            before = announced
            news, announced = to_announce(exports, announced, now=datetime.now(UTC))
            for export in news:
                self.log.info("Export %s is ready", export.id)
                yield TriggerEvent(ready_event(export))  # type: ignore[no-untyped-call]
            if announced != before:
                await self._keep(announced)

    async def _lists(self) -> AsyncIterator[list[Export]]:
        while True:
            poller = shared_poller(self.isvapp_conn_id, self._connect)
            try:
                async with aclosing(poller.lists(poll_interval=self.poll_interval)) as lists:
                    async for exports in lists:
                        yield exports
            except ProviderError as error:
                self.log.error("Exports cannot be watched, trying again in %.0f s: %s", RETRY_DELAY, error)
                await asyncio.sleep(RETRY_DELAY)

    async def _recall(self) -> frozenset[str] | None:
        # Set by Airflow 3.3 before run().
        store: Any = getattr(self, "asset_state_store", None)
        if store is None:
            return None
        while True:
            try:
                kept = await store.aget(STORE_KEY)
                break
            except ValueError:
                self.log.warning("Several assets share this watch: what it has announced is not kept over a restart")
                return None
            except Exception:
                # Without it, a watch would take what completed meanwhile for old.
                self.log.exception("What was announced cannot be read, trying again in %.0f s", RETRY_DELAY)
                await asyncio.sleep(RETRY_DELAY)
        return frozenset(map(str, kept)) if isinstance(kept, list) else None

    async def _keep(self, announced: frozenset[str]) -> None:
        store: Any = getattr(self, "asset_state_store", None)
        if store is None:
            return
        try:
            with suppress(ValueError):
                await store.aset(STORE_KEY, sorted(announced))
        except Exception:
            self.log.exception("What was announced cannot be kept; a restart may announce it again")

    async def _connect(self) -> IsvappClient:
        return await IsvappHook(isvapp_conn_id=self.isvapp_conn_id).aget_conn()
