# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The operator that does all of an export in one task."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_isvapp.airflow_errors import airflow_errors
from airflow_provider_isvapp.api.isvapp.export import Export
from airflow_provider_isvapp.api.isvapp.export_request import ExportRequest
from airflow_provider_isvapp.api.isvapp.export_state import require_ready
from airflow_provider_isvapp.errors import DamagedDownload, ExportError, ExportExpired, ExportFailed, ExportTimeout
from airflow_provider_isvapp.hooks.export_look import look_at_export
from airflow_provider_isvapp.hooks.export_outcome import count_ready, failures_counted
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.operators.destination_path import PathArgument
from airflow_provider_isvapp.operators.export_creation import CreatesExport
from airflow_provider_isvapp.operators.export_download import DownloadsExport
from airflow_provider_isvapp.operators.month import requested_months
from airflow_provider_isvapp.operators.remembered_export import ExportMemory
from airflow_provider_isvapp.task_log import WaitLog, log_deferral, log_ready
from airflow_provider_isvapp.triggers.export_event import read_event, seen_at
from airflow_provider_isvapp.triggers.export_wait import checked_seconds, interval_after, seconds_of
from airflow_provider_isvapp.triggers.isvapp import IsvappExportTrigger
from airflow_provider_isvapp.version_compat import BaseOperatorLink, Context

# Airflow ends a deferral by itself this many seconds after the deadline, if no triggerer could.
_TRIGGERER_GRACE = 300.0


class IsvappExportOperator(CreatesExport, DownloadsExport):
    """Create an export of feature usage, wait for it and download it, in one task.

    The same as ``IsvappCreateExportOperator``, ``IsvappExportSensor`` and ``IsvappDownloadExportOperator`` in a row,
    with the download's result, in one line of a DAG and with fewer starts of a worker process.

    On Airflow 3.3 a crash at any point costs no second export: the export is remembered over the tries of the task, and
    a retry takes it over while it is pending or can be downloaded. One that errored, expired, is gone or has a damaged
    file is replaced by a retry, which creates a new one. So does a changed request, and so does a clear (but not while
    the task's process runs: Airflow makes a retry of that). Two crashes can leave an export behind that nobody
    downloads and that expires by itself: one between ISVapp's answer and Airflow's storing of it, and one that keeps
    the answer from arriving. On Airflow 2.11 to 3.2 nothing survives a try, and each try creates an export: use the
    three separate tasks there, of which finished ones are not repeated.

    :param timeframe: a completed month as ``YYYY-MM``, ``LATEST_COMPLETED_MONTH`` or ``LATEST_12_COMPLETED_MONTHS``
        (templated). By default the month in which the run's data interval begins, in the DAG's time zone.
    :param taxonomy_ids: export all items of these taxonomies (templated). Exactly one of the three id lists is needed.
    :param taxonomy_level_ids: export all items of these taxonomy levels (templated).
    :param taxonomy_item_ids: export these items (templated).
    :param salesforce_account_ids: limit the rows to these accounts, by ids of 15 or 18 characters (templated).
    :param export_type: the type of data.
    :param aggregation: the period that a row stands for.
    :param wait_for_month: for how long after its end a month may be "not complete yet": a refusal with status 200, 400
        or 422 for a month (``YYYY-MM``) that ended less than this ago is no failure, and ISVapp is asked again every
        hour. Any other refusal fails the task at once.
    :param path: where to write: an ``ObjectStoragePath``, a URI such as ``s3://conn_id@bucket/key``, or an absolute
        local path (templated).
    :param if_exists: what to do about an object that is there: ``overwrite`` it, ``skip`` the download, or ``fail``.
    :param output_format: ``ndjson``, the vendor's own bytes, or ``parquet`` (needs the extra ``parquet``).
    :param compression: ``gzip`` to store ndjson compressed.
    :param partition_by: ``reference_date`` for one object a month; ``path`` then contains ``{reference_date}``.
    :param validate: ``structure``: each line is one JSON object; ``full``: each row has the documented fields.
    :param require_months: whether each month that was asked for must have a row; if not, nothing is published. A
        recalculation can make a month vanish for hours: let the retries be some hours apart.
    :param manifest: write a manifest beside each object, last.
    :param deferrable: wait in the triggerer; the default is Airflow's option ``default_deferrable``.
    :param poll_interval: the most seconds between two looks at the export.
    :param timeout: seconds to wait for the export in all, counted from its creation or from the start of a retry.
    :param isvapp_conn_id: an Airflow connection of type ``isvapp`` (templated).
    """

    template_fields: Sequence[str] = (*CreatesExport.template_fields, *DownloadsExport.template_fields)
    ui_color = "#e6f1f2"
    operator_extra_links: Sequence[BaseOperatorLink] = DownloadsExport.operator_extra_links

    def __init__(
        self,
        *,
        path: PathArgument,
        poll_interval: timedelta | float = 30.0,
        timeout: timedelta | float = 3600.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(path=path, **kwargs)
        self.poll_interval = seconds_of(poll_interval)
        self.timeout = seconds_of(timeout)

    @airflow_errors()
    def resume(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Take over from the trigger.

        :param event: see :mod:`airflow_provider_isvapp.triggers.export_event`; anything else fails the task.
        """
        request = self._checked_request()
        memory = ExportMemory(context)
        remembered = memory.recall()
        export_id = _export_id_of(event) if remembered is None else remembered.export_id
        with _replaceable(memory, export_id), IsvappHook(isvapp_conn_id=self.isvapp_conn_id) as hook:
            self._read_export = export_id
            details = read_event(event, export_id=export_id)
            log_ready(self.log, details)
            self._count_ready(details, memory, seen_at(event))
            return self._fetch(context, hook, export_id, request)

    def _checked_request(self) -> ExportRequest:
        checked_seconds("poll_interval", self.poll_interval)
        checked_seconds("timeout", self.timeout)
        return super()._checked_request()

    def _start(self, context: Context) -> dict[str, Any]:
        request = self._checked_request()
        self._checked_destination(requested_months(request.timeframe))
        memory = ExportMemory(context)
        with IsvappHook(isvapp_conn_id=self.isvapp_conn_id) as hook:
            export = self._obtain_export(context, request, hook.get_client(), memory)
            self._read_export = export.id
            with _replaceable(memory, export.id):
                # The record that came with the creation, or with the look at an export of an earlier try, is the look
                # before a deferral.
                if not require_ready(export, now=datetime.now(UTC)):
                    export = self._wait(export, hook)
                self._count_ready(export.details(), memory, datetime.now(UTC))
                return self._fetch(context, hook, export.id, request)

    def _fetch(self, context: Context, hook: IsvappHook, export_id: str, request: ExportRequest) -> dict[str, Any]:
        months = requested_months(request.timeframe)
        return self._download(
            context,
            hook.get_client(),
            export_id,
            self._checked_destination(months),
            expected_months=months,
            request=request.payload(),
        )

    def _count_ready(self, details: dict[str, Any], memory: ExportMemory, moment: datetime) -> None:
        """Count the export, unless an earlier try has done so."""
        if memory.is_first_sight():
            count_ready(details, seen_at=moment, poll_interval=self.poll_interval)

    def _wait(self, export: Export, hook: IsvappHook) -> Export:
        """Return the export when it is ready, or defer."""
        timeout, poll_interval = self.timeout, self.poll_interval
        known_since = datetime.now(UTC)
        if self.deferrable:
            deadline = time.time() + timeout
            log_deferral(self.log, deadline=deadline, poll_interval=poll_interval)
            self.defer(
                trigger=IsvappExportTrigger(
                    export_id=export.id,
                    isvapp_conn_id=self.isvapp_conn_id,
                    deadline=deadline,
                    poll_interval=poll_interval,
                    known_since=known_since.timestamp(),
                ),
                method_name="resume",
                timeout=timedelta(seconds=timeout + _TRIGGERER_GRACE),
            )
        wait_log = WaitLog(export.id, self.log)
        started = time.monotonic()
        while True:
            waited = time.monotonic() - started
            time.sleep(min(interval_after(waited, poll_interval=poll_interval), max(timeout - waited, 0.0)))
            look = look_at_export(hook, export.id, known_since=known_since, log=self.log)
            if look.ready is not None:
                log_ready(self.log, look.ready.details())
                return look.ready
            if look.waiting is not None:
                wait_log.saw(look.waiting)
            if time.monotonic() - started >= timeout:
                raise ExportTimeout(
                    f"Export {export.id} was not finished within {timeout:.0f} s; {look.seen}. If such exports take "
                    "that long, give the task a longer timeout; clearing it requests a new export.",
                    export_id=export.id,
                )


@contextmanager
def _replaceable(memory: ExportMemory, export_id: str) -> Iterator[None]:
    """Turn the end of an export into a failure that a retry mends: it creates a new one."""
    try:
        with failures_counted():
            yield
    except DamagedDownload:
        memory.forget()
        raise
    except (ExportFailed, ExportExpired) as error:
        memory.forget()
        raise ExportError(f"{error} A retry of this task creates one.", export_id=export_id) from error


def _export_id_of(event: Any) -> str:
    """Take the export's id from an event.

    It is not among the deferral's arguments, because ``dag.test()`` of Airflow 3.3 loses those.
    """
    match event:
        case {"export_id": str(export_id)}:
            return export_id
    return "unknown"
