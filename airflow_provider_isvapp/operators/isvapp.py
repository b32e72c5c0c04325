# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Operators for ISVapp: create an export, download it, do both in one task, fetch the Salesforce accounts."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.api.isvapp.export_state import require_ready
from airflow_provider_isvapp.api.isvapp.models import Export, ExportRequest
from airflow_provider_isvapp.errors import (
    DamagedDownload,
    ExportError,
    ExportExpired,
    ExportFailed,
    ExportTimeout,
    InvalidArgument,
)
from airflow_provider_isvapp.hooks.base import airflow_errors
from airflow_provider_isvapp.hooks.export_look import look_at_export, when_known
from airflow_provider_isvapp.hooks.export_outcome import count_ready, failures_counted
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.lineage.datasets import Fields, Source, account_fields, usage_fields
from airflow_provider_isvapp.links.isvapp import EXPORT_LINKS, link_to_export
from airflow_provider_isvapp.log_messages import WaitLog, log_deferral, log_ready
from airflow_provider_isvapp.metrics import record
from airflow_provider_isvapp.operators.base import (
    PathArgument,
    WritesObjects,
    as_xcom,
    destination_of,
    log_written,
    published_objects,
)
from airflow_provider_isvapp.operators.creation import CreatesExport, ExportMemory, requested_months
from airflow_provider_isvapp.triggers.events import read_event, seen_at
from airflow_provider_isvapp.triggers.isvapp import IsvappExportTrigger
from airflow_provider_isvapp.triggers.waiters import checked_seconds, interval_after, seconds_of
from airflow_provider_isvapp.version_compat import BaseOperatorLink, Context

if TYPE_CHECKING:
    from airflow_provider_isvapp.api.isvapp.download import DownloadBody
    from airflow_provider_isvapp.transfer.destination import Destination
    from airflow_provider_isvapp.transfer.format import IfExists, OutputFormat, Validate


class DownloadsExport(WritesObjects):
    """Base of the operators that download an export; the fields are described there."""

    template_fields: Sequence[str] = ("path",)
    operator_extra_links: Sequence[BaseOperatorLink] = (*EXPORT_LINKS, *WritesObjects.operator_extra_links)

    isvapp_conn_id: str

    def __init__(
        self,
        *,
        path: PathArgument,
        if_exists: IfExists = "overwrite",
        output_format: OutputFormat = "ndjson",
        compression: Literal["gzip"] | None = None,
        partition_by: Literal["reference_date"] | None = None,
        validate: Validate = "structure",
        require_months: bool = False,
        manifest: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.if_exists = if_exists
        self.output_format = output_format
        self.compression = compression
        self.partition_by = partition_by
        self.validate = validate
        self.require_months = require_months
        self.manifest = manifest
        self._killed = False

    def _checked_destination(self, expected_months: Collection[str] | int | None) -> Destination:
        """Check the arguments of the download, which come before anything is asked of the vendor."""
        from airflow_provider_isvapp.transfer.download import check_targets  # codecs are not needed to parse a DAG
        from airflow_provider_isvapp.transfer.format import IfExists, StorageFormat

        destination = destination_of(self.path)
        storage_format = StorageFormat(
            output_format=self.output_format,
            compression=self.compression,
            partition_by=self.partition_by,
            validate=self.validate,
        )
        storage_format.check(destination.uri)
        if self.if_exists not in get_args(IfExists):
            raise InvalidArgument(f"if_exists must be one of {', '.join(get_args(IfExists))}, not {self.if_exists!r}.")
        if self.require_months and not expected_months:
            raise InvalidArgument(
                "require_months needs expected_months, since an export's record does not show which months it was "
                "asked for."
            )
        check_targets(destination, storage_format, expected_months=expected_months, manifest=self.manifest)
        return destination

    def on_kill(self) -> None:
        """Let the transfer stop by itself: Airflow kills the process a few seconds later, whatever it is writing."""
        self._killed = True

    def _download(
        self,
        context: Context,
        client: IsvappClient,
        export_id: str,
        destination: Destination,
        *,
        expected_months: Collection[str] | int | None,
        request: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Download, verify, publish, and return what is there now."""
        from airflow_provider_isvapp.transfer.download import download_export  # codecs are not needed to parse a DAG
        from airflow_provider_isvapp.transfer.format import PLACEHOLDER

        known_since = datetime.now(UTC)

        def open_body(**where: Any) -> DownloadBody:
            return when_known(lambda: client.open_download(export_id, **where), known_since=known_since, log=self.log)

        self._read_export = export_id
        self.log.info("Downloading export %s to %s", export_id, destination.uri)
        result = download_export(
            open_body,
            destination,
            export_id=export_id,
            if_exists=self.if_exists,
            output_format=self.output_format,
            compression=self.compression,
            partition_by=self.partition_by,
            validate=self.validate,
            expected_months=expected_months,
            require_months=self.require_months,
            manifest=self.manifest,
            request=request,
            cancelled=lambda: self._killed,
            observe=record,
        )
        if result.outcome == "written":
            log_written(self.log, result)
        written = as_xcom(result)
        self._tell(
            context,
            destination,
            published_objects(result, destination, output_format=self.output_format),
            written,
            placeholder=None if self.partition_by is None else PLACEHOLDER,
        )
        return written

    def _source(self) -> Source:
        return Source.in_isvapp(self.isvapp_conn_id, "exports/feature_usage", self._fields())

    def _fields(self) -> Fields:
        return usage_fields()


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

        :param event: see :mod:`airflow_provider_isvapp.triggers.events`; anything else fails the task.
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


__all__ = [
    "IsvappCreateExportOperator",
    "IsvappDownloadExportOperator",
    "IsvappExportOperator",
    "IsvappFetchSalesforceAccountsOperator",
]


class IsvappCreateExportOperator(CreatesExport):
    """Request an export of feature usage from ISVapp. XCom: the export's id.

    In each try the request is sent once. On Airflow 3.3 the export is remembered over the tries of the task: a retry
    takes it over while it is pending or can be downloaded, and creates another one only if it errored, expired or is
    gone, or if the request has changed. A clear creates a new export (but not while the task's process runs: Airflow
    makes a retry of that). Two crashes can leave an export behind that nobody downloads and that expires by itself: one
    between ISVapp's answer and Airflow's storing of it, and one that keeps the answer from arriving. On Airflow 2.11 to
    3.2 each try creates an export; keep the download in a task of its own there, so that only this short task is
    repeated.

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
    :param deferrable: wait for the month in the triggerer; the default is Airflow's option ``default_deferrable``.
    :param isvapp_conn_id: an Airflow connection of type ``isvapp`` (templated).
    """

    def _start(self, context: Context) -> str:
        request = self._checked_request()
        with IsvappHook(isvapp_conn_id=self.isvapp_conn_id) as hook:
            return self._obtain_export(context, request, hook.get_client(), ExportMemory(context)).id


class IsvappDownloadExportOperator(DownloadsExport):
    """Download a completed export as newline-delimited JSON or Parquet to object storage or a local file.

    The file is streamed, decompressed and verified on its way, and becomes visible only when all of it is there and
    sound; until then, and after any failure, an existing object keeps its old content. XCom: a dict with ``path``,
    ``export_id``, ``outcome`` (``written``, ``unchanged`` or ``skipped``), ``rows``, ``bytes`` (of the ndjson),
    ``compressed_bytes`` (received), ``crc32`` (of the ndjson), ``months`` (rows by month), ``objects`` (a dict for each
    that was written) and ``manifests`` (their addresses).

    :param export_id: the export, which must be ready: wait for it with ``IsvappExportSensor`` (templated).
    :param path: where to write: an ``ObjectStoragePath``, a URI such as ``s3://conn_id@bucket/key``, or an absolute
        local path (templated).
    :param if_exists: what to do about an object that is there: ``overwrite`` it, ``skip`` the download, or ``fail``. An
        object that holds this export already is recognised and not downloaded again.
    :param output_format: ``ndjson``, the vendor's own bytes, or ``parquet`` (needs the extra ``parquet``).
    :param compression: ``gzip`` to store ndjson compressed.
    :param partition_by: ``reference_date`` for one object a month; ``path`` then contains ``{reference_date}``.
    :param validate: ``structure``: each line is one JSON object; ``full``: each row has the documented fields.
    :param expected_months: the month or the months that were asked for, as ``YYYY-MM`` (templated). A row of another
        month is an error; nothing is published then.
    :param require_months: whether each of ``expected_months`` must have a row; if not, nothing is published. A
        recalculation can make a month vanish for hours.
    :param manifest: write a manifest beside each object, last.
    :param isvapp_conn_id: an Airflow connection of type ``isvapp`` (templated).
    """

    template_fields: Sequence[str] = ("export_id", "path", "expected_months", "isvapp_conn_id")

    def __init__(
        self,
        *,
        export_id: str,
        path: PathArgument,
        expected_months: Sequence[str] | str | None = None,
        isvapp_conn_id: str = IsvappHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(path=path, **kwargs)
        self.export_id = export_id
        self.expected_months = expected_months
        self.isvapp_conn_id = isvapp_conn_id

    @airflow_errors()
    def execute(self, context: Context) -> dict[str, Any]:
        """Download, verify, publish, and return what was written."""
        # A template renders to a string, which is a collection, too: of characters.
        months = (self.expected_months,) if isinstance(self.expected_months, str) else self.expected_months
        destination = self._checked_destination(months)
        link_to_export(context, conn_id=self.isvapp_conn_id, export_id=self.export_id)
        with IsvappHook(isvapp_conn_id=self.isvapp_conn_id) as hook, failures_counted():
            return self._download(context, hook.get_client(), self.export_id, destination, expected_months=months)


class IsvappFetchSalesforceAccountsOperator(WritesObjects):
    """Write the active Salesforce accounts that ISVapp knows as newline-delimited JSON, as the vendor sent them.

    XCom: a dict with ``path``, ``rows`` and ``bytes``.

    :param path: where to write: an ``ObjectStoragePath``, a URI such as ``s3://conn_id@bucket/key``, or an absolute
        local path (templated). An existing object is replaced when the new one is complete.
    :param include_health_scores: add ``health_scores`` to each account.
    :param include_subscriber_orgs: add ``subscriber_orgs`` to each account.
    :param isvapp_conn_id: an Airflow connection of type ``isvapp`` (templated).
    """

    template_fields: Sequence[str] = ("path", "isvapp_conn_id")

    def __init__(
        self,
        *,
        path: PathArgument,
        include_health_scores: bool = False,
        include_subscriber_orgs: bool = False,
        isvapp_conn_id: str = IsvappHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.include_health_scores = include_health_scores
        self.include_subscriber_orgs = include_subscriber_orgs
        self.isvapp_conn_id = isvapp_conn_id

    @airflow_errors()
    def execute(self, context: Context) -> dict[str, Any]:
        """Fetch, publish, and return what was written."""
        from airflow_provider_isvapp.transfer.lists import write_lines  # not needed to parse a DAG

        destination = destination_of(self.path)
        destination.target().check()
        with IsvappHook(isvapp_conn_id=self.isvapp_conn_id) as hook:
            self.log.info(
                "Fetching Salesforce accounts %s health scores and %s subscriber organizations",
                "with" if self.include_health_scores else "without",
                "with" if self.include_subscriber_orgs else "without",
            )
            lines = hook.get_client().salesforce_account_lines(
                include_health_scores=self.include_health_scores,
                include_subscriber_orgs=self.include_subscriber_orgs,
            )
        result = write_lines(lines, destination)
        self.log.info("Wrote %s: %s accounts, %s bytes", result.path, f"{result.rows:,}", f"{result.bytes:,}")
        written = {"path": result.path, "rows": result.rows, "bytes": result.bytes}
        self._tell_of_list(context, destination, result, written)
        return written

    def _source(self) -> Source:
        return Source.in_isvapp(self.isvapp_conn_id, "salesforce_accounts", self._fields())

    def _fields(self) -> Fields:
        return account_fields(health_scores=self.include_health_scores, subscriber_orgs=self.include_subscriber_orgs)
