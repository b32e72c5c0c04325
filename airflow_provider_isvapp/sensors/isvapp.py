# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Sensor that waits for an ISVapp export."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.hooks.base import raise_airflow_errors
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.links.isvapp import EXPORT_LINKS, persist_export_link
from airflow_provider_isvapp.log_messages import StatusLogger, log_ready
from airflow_provider_isvapp.metrics import record_failures, record_ready
from airflow_provider_isvapp.triggers.isvapp import defer_until_ready, read_event, seen_at
from airflow_provider_isvapp.triggers.waiters import checked_seconds, seconds_of
from airflow_provider_isvapp.version_compat import (
    AirflowSensorTimeout,
    BaseOperatorLink,
    BaseSensorOperator,
    Context,
    PokeReturnValue,
    conf,
    execute_base_sensor,
    first_reschedule_of,
)


class IsvappExportSensor(BaseSensorOperator):
    """Wait until an export can be downloaded.

    Exports typically take 30 seconds to 10 minutes, as ISVapp's API documentation says. In all modes the task succeeds
    with the export's details as XCom (the record's fields, times as ISO 8601 strings, no download URL). It fails
    without a retry:

    - if the export errored; the error has ISVapp's message;
    - if the export's file expired;
    - at the timeout.

    After a transient polling error the sensor continues to wait. If ISVapp does not know the export, which may be new,
    it does so for half a minute.

    Deferrable sensors poll once before they defer, and then share one poll for all exports of a connection. Use this
    mode where a triggerer runs.

    :param export_id: the export (templated).
    :param isvapp_conn_id: an Airflow connection of type ``isvapp`` (templated).
    :param deferrable: wait in the triggerer; the default is Airflow's option ``default_deferrable``.
    :param poke_interval: seconds between two polls; in deferrable mode the longest interval.
    :param timeout: the total wait in seconds, counted from the start of a try.
    """

    template_fields: Sequence[str] = ("export_id", "isvapp_conn_id")
    ui_color = "#e6f1f2"
    operator_extra_links: Sequence[BaseOperatorLink] = EXPORT_LINKS

    def __init__(
        self,
        *,
        export_id: str,
        isvapp_conn_id: str = IsvappHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: timedelta | float = 30.0,
        timeout: timedelta | float = 3600.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Not passed to Airflow, whose check of NaN and infinity raises errors that do not name the argument.
        self.poke_interval = seconds_of(poke_interval)
        self.timeout = seconds_of(timeout)
        self.export_id = export_id
        self.isvapp_conn_id = isvapp_conn_id
        self.deferrable = deferrable
        self._last_seen = "not seen yet"
        self._known_since = datetime.now(UTC)

    @cached_property
    def hook(self) -> IsvappHook:
        """The hook of one run, whose token serves all polls of a poking sensor."""
        return IsvappHook(isvapp_conn_id=self.isvapp_conn_id)

    @cached_property
    def _status_logger(self) -> StatusLogger:
        return StatusLogger(self.export_id, self.log)

    def execute(self, context: Context) -> Any:
        """Poll until the export is ready, or once and then defer."""
        with raise_airflow_errors():
            self._check_times()
        persist_export_link(context, conn_id=self.isvapp_conn_id, export_id=self.export_id)
        rescheduled = first_reschedule_of(self, context) if self.reschedule else None
        self._known_since = rescheduled or datetime.now(UTC)
        try:
            return execute_base_sensor(self, context)
        except AirflowSensorTimeout:
            raise AirflowSensorTimeout(
                f"Export {self.export_id} did not complete within {self.timeout:.0f} s; {self._last_seen}. It may "
                "still complete: clear the task to continue waiting, with a longer timeout if exports take that long."
            ) from None
        finally:
            self.hook.close()

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once. In deferrable mode this is the first poll, and the wait continues in the triggerer.

        In all modes, Airflow applies ``soft_fail``, ``never_fail`` and ``silent_fail`` around this method.
        """
        export = self._poll()
        if export is not None:
            details = export.details()
            log_ready(self.log, details)
            record_ready(details, seen_at=datetime.now(UTC), poll_interval=self.poke_interval)
            return PokeReturnValue(is_done=True, xcom_value=details)
        if self.deferrable:
            defer_until_ready(
                self,
                export_id=self.export_id,
                isvapp_conn_id=self.isvapp_conn_id,
                timeout=self.timeout,
                poll_interval=self.poke_interval,
                known_since=self._known_since,
                method_name="execute_complete",
            )
        return PokeReturnValue(is_done=False)

    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Continue after the trigger's event.

        :param event: see :mod:`airflow_provider_isvapp.triggers.isvapp`; any other fails the task.
        """
        persist_export_link(context, conn_id=self.isvapp_conn_id, export_id=self.export_id)
        with raise_airflow_errors(), record_failures():
            self._check_times()
            details = read_event(event, export_id=self.export_id)
        record_ready(details, seen_at=seen_at(event), poll_interval=self.poke_interval)
        log_ready(self.log, details)
        return details

    def _check_times(self) -> None:
        checked_seconds("poke_interval", self.poke_interval)
        checked_seconds("timeout", self.timeout)

    def _poll(self) -> Export | None:
        """Poll the export; return None while it is processed, raise an Airflow exception if it failed."""
        with raise_airflow_errors(), record_failures():
            poll = self.hook.poll_export(self.export_id, known_since=self._known_since)
        self._last_seen = poll.seen
        if poll.waiting is not None:
            self._status_logger.update(poll.waiting)
        return poll.ready
