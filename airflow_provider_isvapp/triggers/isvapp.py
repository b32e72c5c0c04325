# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Trigger that waits for an ISVapp export."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.errors import ProviderError
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.triggers.export_event import failure_event, ready_event
from airflow_provider_isvapp.triggers.export_poller import shared_poller
from airflow_provider_isvapp.triggers.export_wait import as_provider_error, checked_moment, checked_seconds
from airflow_provider_isvapp.version_compat import BaseTrigger, TriggerEvent

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
    :param poll_interval: the longest time in seconds between two looks at the export.
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
        """Wait, then yield one event (see :mod:`airflow_provider_isvapp.triggers.export_event`)."""
        started = time.monotonic()
        try:
            export = await shared_poller(self.isvapp_conn_id, self._connect).wait(
                self.export_id,
                deadline=checked_moment("deadline", self.deadline),
                poll_interval=checked_seconds("poll_interval", self.poll_interval),
                known_since=checked_moment("known_since", self.known_since),
                on_trouble=self.log.warning,
            )
            event = ready_event(export)
        except Exception as error:
            if not isinstance(error, ProviderError):
                self.log.exception("Waiting for export %s broke", self.export_id)
            event = failure_event(self.export_id, as_provider_error(error))
        await asyncio.sleep(max(started + EARLIEST_EVENT - time.monotonic(), 0.0))
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def _connect(self) -> IsvappClient:
        return await IsvappHook(isvapp_conn_id=self.isvapp_conn_id).aget_client()
