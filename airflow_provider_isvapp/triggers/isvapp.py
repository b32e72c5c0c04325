# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Triggers that wait for exports: one export, or any new one; and the events that they send to a task.

An event is JSON of a bounded size in Airflow's database. It holds the export's record without its download URL, or the
name and the message of one of our errors. A task may read an event that another version has written.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_isvapp import errors
from airflow_provider_isvapp.api.isvapp.export_state import ExportState, classify
from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.api.schema.isvapp import ExportStatus
from airflow_provider_isvapp.errors import ContractBroken, ExportError, ProviderError, RequestRefused
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.log_messages import log_deferral
from airflow_provider_isvapp.triggers.poller import shared_poller
from airflow_provider_isvapp.triggers.waiters import as_provider_error, checked_seconds, checked_time
from airflow_provider_isvapp.version_compat import BaseEventTrigger, BaseOperator, BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from airflow_provider_isvapp.api.isvapp.client import IsvappClient

# If an event arrives before the task is stored as deferred, the scheduler fails the task (seen on Airflow 3.3.2 after
# 2 s in 3 of 200 cases, and after 3 s on a busy machine; apache/airflow 66374, 67287).
EARLIEST_EVENT = 5.0

# Messages quote a vendor's words, which are cut long before this.
_LONGEST_MESSAGE = 4000
_LONGEST_DESCRIPTION = 200


def ready_event(export: Export) -> dict[str, Any]:
    """Build the event for an export that is ready."""
    return {"export_id": export.id, "export": export.details(), "seen_at": datetime.now(UTC).isoformat()}


def failure_event(export_id: str, error: ProviderError) -> dict[str, Any]:
    """Build the event for a wait that failed."""
    return {
        "export_id": export_id,
        "error": type(error).__name__,
        "message": _cut(str(error), _LONGEST_MESSAGE),
        "status": getattr(error, "status", None),
    }


def read_event(event: Any, *, export_id: str) -> dict[str, Any]:
    """Return the details of a ready export from an event.

    :raises ProviderError: the trigger's error; or an error about the event, if it is not a valid one for this export.
    """
    match event:
        case {"export_id": str(about), "export": {**record}} if about == export_id:
            with suppress(ContractBroken):
                export = Export.from_record(record)
                if export.id == export_id and export.status is ExportStatus.COMPLETED:
                    return export.details()
        case {"export_id": str(about), "error": str(name), "message": str(message)} if about == export_id:
            raise _rebuilt(name, _cut(message, _LONGEST_MESSAGE), export_id=export_id, status=event.get("status"))
    raise ProviderError(
        f"The trigger that waited for export {export_id} resumed the task with an event that this version does not "
        f"understand ({_kind(event)}). Clear the task to poll the export again; if this lasts, check that workers "
        "and triggerers have the same version of this provider."
    )


def export_id_of(event: Any) -> str:
    """Return the export's id from an event.

    It is not an argument of the deferral, because ``dag.test()`` of Airflow 3.3 loses those.
    """
    match event:
        case {"export_id": str(export_id)}:
            return export_id
    return "unknown"


def seen_at(event: Any) -> datetime:
    """Return the time at which the export was found ready from an event; now, if there is none."""
    match event:
        case {"seen_at": str(text)}:
            with suppress(ValueError):
                moment = datetime.fromisoformat(text)
                if moment.tzinfo is not None:
                    return moment
    return datetime.now(UTC)


def _rebuilt(name: str, message: str, *, export_id: str, status: object) -> ProviderError:
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, ProviderError)):
        return ProviderError(message)
    if issubclass(kind, ExportError):
        return kind(message, export_id=export_id)
    if issubclass(kind, RequestRefused):
        return kind(message, status=status if isinstance(status, int) else 0)
    return kind(message)


def _kind(event: Any) -> str:
    """Describe the structure of an unknown event, not its content."""
    if isinstance(event, dict):
        return _cut(f"fields {', '.join(sorted(map(str, event))) or 'none'}", _LONGEST_DESCRIPTION)
    return "no content" if event is None else type(event).__name__


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length] + "…"


class IsvappExportTrigger(BaseTrigger):
    """Wait in the triggerer until an export is ready, failed or expired, or the deadline has passed.

    All triggers of a connection share one poll. The export is not cancelled when the task is killed or the triggerer
    stops: it belongs to the account, and a retry or another task may be waiting for it.

    :param export_id: the export.
    :param isvapp_conn_id: an Airflow connection of type ``isvapp``.
    :param deadline: seconds since the epoch; absolute, so that it stays the same when a triggerer restarts.
    :param poll_interval: the longest time in seconds between two polls.
    :param known_since: when the task first had the export's id, in seconds since the epoch: ISVapp may not know a new
        export yet.
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
        """Return what Airflow stores of the trigger: JSON values without secrets."""
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
        """Wait, then yield one event: :func:`ready_event` or :func:`failure_event`."""
        started = time.monotonic()
        try:
            export = await shared_poller(self.isvapp_conn_id, self._connect).wait(
                self.export_id,
                deadline=checked_time("deadline", self.deadline),
                poll_interval=checked_seconds("poll_interval", self.poll_interval),
                known_since=checked_time("known_since", self.known_since),
                on_warning=self.log.warning,
            )
            event = ready_event(export)
        except Exception as error:
            if not isinstance(error, ProviderError):
                self.log.exception("Waiting for export %s crashed", self.export_id)
            event = failure_event(self.export_id, as_provider_error(error))
        await asyncio.sleep(max(started + EARLIEST_EVENT - time.monotonic(), 0.0))
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def _connect(self) -> IsvappClient:
        return await IsvappHook(isvapp_conn_id=self.isvapp_conn_id).aget_conn()


# Seconds after the deadline at which Airflow itself ends a deferral, if no triggerer has. Its message lacks the last
# state of the export.
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
    :param method_name: the operator's method that takes the event.
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
# The delay in seconds before a watch continues after a lasting error, which an administrator may fix meanwhile.
RETRY_DELAY = 300.0


def exports_to_announce(
    exports: Sequence[Export], announced: frozenset[str] | None, *, now: datetime
) -> tuple[list[Export], frozenset[str]]:
    """Choose the exports to announce.

    :param announced: ids that were announced already; None for the first poll, which only remembers existing exports.
    :return: the exports to announce, oldest first, and the ids to remember, which are all in the list.
    """
    ready = [export for export in exports if classify(export, now=now) is ExportState.READY]
    known = frozenset(export.id for export in ready) if announced is None else announced
    news = [export for export in ready if export.id not in known]
    news.sort(key=lambda export: (export.completed_at or now, export.id))
    listed = {export.id for export in exports}
    return news, frozenset(known & listed) | {export.id for export in news}


class IsvappExportCompletedTrigger(BaseEventTrigger):
    """Fire for each export of an account that becomes ready, including exports that other programs created.

    For ``AssetWatcher``. The consuming DAG finds the export's record, without its download URL, in the asset
    event's ``extra["payload"]["export"]``. Exports that were ready before the watch began are not announced. On Airflow
    3.3 the announced exports are stored in the asset's state store: a restarted triggerer announces what completed
    meanwhile, and may repeat the event right before its end. Before 3.3, a restart begins a new watch.

    All watches and waits of a connection share one poll.

    :param isvapp_conn_id: an Airflow connection of type ``isvapp``.
    :param poll_interval: the longest time in seconds between two polls.
    """

    def __init__(self, *, isvapp_conn_id: str = IsvappHook.default_conn_name, poll_interval: float = 60.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.isvapp_conn_id = isvapp_conn_id
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow stores of the trigger: JSON values without secrets."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {"isvapp_conn_id": self.isvapp_conn_id, "poll_interval": self.poll_interval},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch until the triggerer ends; a failed poll does not end the watch.

        :raises InvalidArgument: if the poll interval is invalid.
        """
        checked_seconds("poll_interval", self.poll_interval)
        announced = await self._load_announced()
        async for exports in self._lists():
            before = announced
            news, announced = exports_to_announce(exports, announced, now=datetime.now(UTC))
            for export in news:
                self.log.info("Export %s is ready", export.id)
                yield TriggerEvent(ready_event(export))  # type: ignore[no-untyped-call]
            if announced != before:
                await self._store_announced(announced)

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

    async def _load_announced(self) -> frozenset[str] | None:
        # Set by Airflow 3.3 before run().
        store: Any = getattr(self, "asset_state_store", None)
        if store is None:
            return None
        while True:
            try:
                stored = await store.aget(STORE_KEY)
                break
            except ValueError:
                self.log.warning("Several assets share this watch: the announced exports are not stored over a restart")
                return None
            except Exception:
                # Without them, the watch would not announce what completed meanwhile.
                self.log.exception("The announced exports cannot be read, trying again in %.0f s", RETRY_DELAY)
                await asyncio.sleep(RETRY_DELAY)
        return frozenset(map(str, stored)) if isinstance(stored, list) else None

    async def _store_announced(self, announced: frozenset[str]) -> None:
        store: Any = getattr(self, "asset_state_store", None)
        if store is None:
            return
        try:
            with suppress(ValueError):
                await store.aset(STORE_KEY, sorted(announced))
        except Exception:
            self.log.exception("The announced exports cannot be stored; a restart may announce them again")

    async def _connect(self) -> IsvappClient:
        return await IsvappHook(isvapp_conn_id=self.isvapp_conn_id).aget_conn()
