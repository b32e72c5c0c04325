# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Operators for ISVapp: create an export, download it, do both in one task, fetch the Salesforce accounts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_isvapp.api.isvapp.export_state import is_ready_or_raise
from airflow_provider_isvapp.api.isvapp.models import Export, ExportRequest, parse_list
from airflow_provider_isvapp.api.schema.isvapp import Aggregation, ExportType
from airflow_provider_isvapp.hooks.base import raise_airflow_errors
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.links.isvapp import persist_export_link
from airflow_provider_isvapp.log_messages import log_ready
from airflow_provider_isvapp.metrics import record_failures, record_ready
from airflow_provider_isvapp.operators.checkpoint import ExportCheckpoint
from airflow_provider_isvapp.operators.creation import (
    MONTH_OF_RUN,
    ExportCreator,
    IsvappCreateExportOperator,
    checked_request,
    requested_months,
    wait_in_worker,
)
from airflow_provider_isvapp.operators.download import ExportDownload, ExportWriteOperator
from airflow_provider_isvapp.operators.salesforce_accounts import IsvappFetchSalesforceAccountsOperator
from airflow_provider_isvapp.operators.storage_clients import PathArgument
from airflow_provider_isvapp.transfer.options import DEFAULT_MAX_ROW_BYTES
from airflow_provider_isvapp.triggers.isvapp import defer_until_ready, export_id_of, read_event, seen_at
from airflow_provider_isvapp.triggers.waiters import checked_seconds, seconds_of
from airflow_provider_isvapp.version_compat import Context, conf

if TYPE_CHECKING:
    from airflow_provider_isvapp.transfer.options import Check, IfExists, OnDrift, OutputFormat, Validate

__all__ = [
    "IsvappCreateExportOperator",
    "IsvappDownloadExportOperator",
    "IsvappExportOperator",
    "IsvappFetchSalesforceAccountsOperator",
]


class IsvappDownloadExportOperator(ExportWriteOperator):
    """Download a completed export as newline-delimited JSON or Parquet to object storage or a local file.

    The file is downloaded, decompressed and verified as a stream, and becomes visible only when it is complete and
    intact. Until then, an existing object keeps its content. After a failure in the last step, some months or manifests
    may be new and the others old, each whole.

    The XCom is a dict with:

    - ``path``, ``export_id``, and ``outcome``: ``written``; ``unchanged`` if this export is there already; ``skipped``
      if another object is there and ``if_exists`` is ``skip``. The task succeeds with all three.
    - ``rows``, ``months`` (rows by month), ``bytes`` and ``crc32`` (of the plain ndjson, whatever is stored): those of
      the whole export, even if only some months are written. They are empty if ``skipped``.
    - ``compressed_bytes`` (received), and ``sizes_verified``: whether the export's record stated a size to compare.
    - ``objects``: a dict for each object that this task wrote; empty if ``unchanged`` or ``skipped``.
    - ``manifests`` (their URIs), ``checks`` (the result of each) and ``baseline`` (the URI that they compared with).
    - ``drift``: how the rows differ from their documentation; None if they were not compared.
    - ``changes``: with ``if_changed``, how each month differs from the stored one; otherwise None.
    - ``snapshot_date``: None for an export, the date of a list.

    The options of writing (``if_exists``, ``output_format``, ``compression``, ``exclude_fields``, ``on_drift``,
    ``manifest``, ``min_rows``, ``checks``, ``baseline``, ``skip_checks``, ``rejected_path``, ``storage_options``) mean
    the same on every operator that writes; for details see
    :class:`~airflow_provider_isvapp.transfer.options.WriteOptions`.

    :param export_id: the id of the export, which must be ready: wait for it with ``IsvappExportSensor`` (templated).
    :param path: where to write: an ``ObjectStoragePath``, a URI such as ``s3://conn_id@bucket/key``, or an absolute
        local path (templated).
    :param if_exists: what to do about an existing object: ``overwrite`` it, ``skip`` the write, or ``fail``. An object
        that already holds this export in this format is ``unchanged`` in any case, even with ``fail``.
    :param output_format: ``ndjson``, the vendor's own bytes, or ``parquet`` (needs the extra ``parquet``).
    :param compression: ``gzip`` to store ndjson compressed.
    :param partition_by: ``reference_date`` for one object per month; ``path`` then contains ``{reference_date}``.
    :param if_changed: ``publish`` to write, and to send events for, only months whose rows have changed; the order and
        the JSON formatting of rows do not count. Needs ``partition_by`` and ``if_exists='overwrite'``. The task is
        skipped if no month has changed.
    :param validate: ``structure``: each line is one JSON object; ``full``: each row is compared with its documentation.
    :param expected_months: the requested month or months as ``YYYY-MM`` (templated). A row of another month is an
        error, and nothing is published.
    :param require_months: fail if one of ``expected_months`` has no rows; otherwise, the log warns. While ISVapp
        recalculates history, a month can be missing for hours.
    :param exclude_fields: fields to leave out: a name at every depth, or a path such as ``Instances[].AppContacts``.
    :param on_drift: what to do about rows that differ from their documentation: ``report`` them, or ``fail``, which
        needs ``validate='full'`` or Parquet.
    :param manifest: after publishing, write ``_<name>.manifest.json`` beside each object, which describes it.
    :param min_rows: refuse a result with fewer rows. By default, an empty export never replaces an object that has
        rows; 0 accepts it.
    :param checks: checks that a result must pass before it is published: some of :mod:`airflow_provider_isvapp.checks`,
        or your own functions. They parse each row, and a manifest is written.
    :param baseline: the path of the object that the checks compare with, instead of the one at ``path`` (templated).
    :param skip_checks: names of checks to skip in this run, or True for all (templated).
    :param rejected_path: where a refused result is kept for inspection (templated).
    :param storage_options: further arguments for the storage's client when it creates an object (templated), such as
        ``{"ServerSideEncryption": "aws:kms"}``.
    :param max_row_bytes: the longest accepted row in bytes; a longer one fails the download.
    :param require_sizes: refuse an export whose record states no size that the file can be compared with.
    :param partition_events: send the events of the task's outlet assets once per published month, with the month as
        partition key (Airflow 3.3; no effect in earlier versions). Consumers must then be scheduled on partitions: an
        event with a key does not start a DAG that is scheduled on the plain asset.
    :param isvapp_conn_id: an Airflow connection of type ``isvapp`` (templated).
    """

    template_fields: Sequence[str] = (
        "export_id",
        "path",
        "expected_months",
        "baseline",
        "skip_checks",
        "rejected_path",
        "storage_options",
        "isvapp_conn_id",
    )

    def __init__(
        self,
        *,
        export_id: str,
        path: PathArgument,
        if_exists: IfExists = "overwrite",
        output_format: OutputFormat = "ndjson",
        compression: Literal["gzip"] | None = None,
        partition_by: Literal["reference_date"] | None = None,
        if_changed: Literal["publish"] | None = None,
        validate: Validate = "structure",
        expected_months: Sequence[str] | str | None = None,
        require_months: bool = False,
        exclude_fields: Sequence[str] = (),
        on_drift: OnDrift = "report",
        manifest: bool = False,
        min_rows: int | None = None,
        checks: Sequence[Check] = (),
        baseline: PathArgument | None = None,
        skip_checks: bool | str | Sequence[str] | None = False,
        rejected_path: PathArgument | None = None,
        storage_options: Mapping[str, Any] | None = None,
        max_row_bytes: int = DEFAULT_MAX_ROW_BYTES,
        require_sizes: bool = False,
        partition_events: bool = False,
        isvapp_conn_id: str = IsvappHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            path=path,
            storage_options=storage_options,
            checks=checks,
            baseline=baseline,
            skip_checks=skip_checks,
            rejected_path=rejected_path,
            **kwargs,
        )
        self.export_id = export_id
        self.if_exists = if_exists
        self.output_format = output_format
        self.compression = compression
        self.partition_by = partition_by
        self.if_changed = if_changed
        self.validate = validate
        self.expected_months = expected_months
        self.require_months = require_months
        self.exclude_fields = exclude_fields
        self.on_drift = on_drift
        self.manifest = manifest
        self.min_rows = min_rows
        self.max_row_bytes = max_row_bytes
        self.require_sizes = require_sizes
        self.partition_events = partition_events
        self.isvapp_conn_id = isvapp_conn_id

    @raise_airflow_errors()
    def execute(self, context: Context) -> dict[str, Any]:
        """Download, verify, publish, and return what was written."""
        self._check_partition_events(self.partition_events)
        # A template renders to a string, which is itself a collection, of characters.
        months = parse_list("expected_months", self.expected_months)
        months = (months,) if isinstance(months, str) else months
        download = ExportDownload(self, expected_months=months, require_months=self.require_months)
        persist_export_link(context, conn_id=self.isvapp_conn_id, export_id=self.export_id)
        self._read_export = self.export_id
        with IsvappHook(isvapp_conn_id=self.isvapp_conn_id) as hook, record_failures():
            return self._download(context, hook, self.export_id, download)


class IsvappExportOperator(ExportWriteOperator):
    """Create an export of feature usage, wait for it and download it, in one task.

    This is ``IsvappCreateExportOperator``, ``IsvappExportSensor`` and ``IsvappDownloadExportOperator`` in one task,
    with the download's result: one line in a DAG, and fewer worker processes.

    On Airflow 3.3 a crash at any point costs no second export: the export is saved across retries, and a retry reuses
    it while it is pending or can be downloaded. A retry creates a new export if the saved one errored, expired, is gone
    or has a damaged file, or if the request has changed. Clearing the task also creates one, unless its process is
    running: Airflow then treats the clear as a retry. Two crashes can leave behind an export that no task downloads and
    that expires unused: one after ISVapp's response but before Airflow has saved it, and one that prevents the response
    from arriving. On Airflow 2.11 to 3.2 no state is kept between tries, and each try creates an export: use the three
    separate tasks there, since finished ones are not repeated.

    :param timeframe: a completed month, or a keyword, as in ``IsvappCreateExportOperator`` (templated).
    :param taxonomy_ids: export all items of these taxonomies; exactly one of the three id lists is needed (templated).
    :param taxonomy_level_ids: export all items of these taxonomy levels (templated).
    :param taxonomy_item_ids: export these items (templated).
    :param salesforce_account_ids: limit the rows to these accounts (templated).
    :param export_type: the type of data.
    :param aggregation: the period that a row covers.
    :param extra_request: further fields of the request, as in ``IsvappCreateExportOperator`` (templated).
    :param wait_for_month: how long to wait for a month that ISVapp has not completed, as in
        ``IsvappCreateExportOperator``.
    :param path: where to write, as in ``IsvappDownloadExportOperator`` (templated).
    :param if_exists: what to do about an existing object: ``overwrite`` it, ``skip`` the write, or ``fail``. An object
        that already holds this export in this format is ``unchanged`` in any case, even with ``fail``.
    :param output_format: ``ndjson``, the vendor's own bytes, or ``parquet`` (needs the extra ``parquet``).
    :param compression: ``gzip`` to store ndjson compressed.
    :param partition_by: ``reference_date`` for one object per month; ``path`` then contains ``{reference_date}``.
    :param if_changed: ``publish`` to write, and to send events for, only months whose rows have changed; the order and
        the JSON formatting of rows do not count. Needs ``partition_by`` and ``if_exists='overwrite'``. The task is
        skipped if no month has changed.
    :param validate: ``structure``: each line is one JSON object; ``full``: each row is compared with its documentation.
    :param require_months: fail if a requested month has no rows; otherwise, the log warns. Use a retry delay of hours.
    :param exclude_fields: fields to leave out: a name at every depth, or a path such as ``Instances[].AppContacts``.
    :param on_drift: as in ``IsvappDownloadExportOperator``.
    :param manifest: after publishing, write ``_<name>.manifest.json`` beside each object, which describes it.
    :param min_rows: refuse a result with fewer rows. By default, an empty export never replaces an object that has
        rows; 0 accepts it.
    :param checks: checks that a result must pass before it is published: some of :mod:`airflow_provider_isvapp.checks`,
        or your own functions. They parse each row, and a manifest is written.
    :param baseline: the path of the object that the checks compare with, instead of the one at ``path`` (templated).
    :param skip_checks: names of checks to skip in this run, or True for all (templated).
    :param rejected_path: where a refused result is kept for inspection (templated).
    :param storage_options: further arguments for the storage's client when it creates an object (templated), such as
        ``{"ServerSideEncryption": "aws:kms"}``.
    :param max_row_bytes: the longest accepted row in bytes; a longer one fails the download.
    :param require_sizes: refuse an export whose record states no size that the file can be compared with.
    :param partition_events: as in ``IsvappDownloadExportOperator``.
    :param deferrable: wait in the triggerer; the default is Airflow's option ``default_deferrable``.
    :param poll_interval: the maximum number of seconds between two polls.
    :param timeout: seconds to wait for the export, counted from its creation or from the start of a retry.
    :param isvapp_conn_id: an Airflow connection of type ``isvapp`` (templated).
    """

    template_fields: Sequence[str] = (
        "timeframe",
        "taxonomy_ids",
        "taxonomy_level_ids",
        "taxonomy_item_ids",
        "salesforce_account_ids",
        "extra_request",
        "isvapp_conn_id",
        "path",
        "baseline",
        "skip_checks",
        "rejected_path",
        "storage_options",
    )
    ui_color = "#e6f1f2"

    def __init__(
        self,
        *,
        timeframe: str = MONTH_OF_RUN,
        taxonomy_ids: Sequence[str] | None = None,
        taxonomy_level_ids: Sequence[str] | None = None,
        taxonomy_item_ids: Sequence[str] | None = None,
        salesforce_account_ids: Sequence[str] | None = None,
        export_type: str = ExportType.TAXONOMY_ITEM.value,
        aggregation: str = Aggregation.MONTHLY.value,
        extra_request: Mapping[str, Any] | None = None,
        wait_for_month: timedelta | None = None,
        path: PathArgument,
        if_exists: IfExists = "overwrite",
        output_format: OutputFormat = "ndjson",
        compression: Literal["gzip"] | None = None,
        partition_by: Literal["reference_date"] | None = None,
        if_changed: Literal["publish"] | None = None,
        validate: Validate = "structure",
        require_months: bool = False,
        exclude_fields: Sequence[str] = (),
        on_drift: OnDrift = "report",
        manifest: bool = False,
        min_rows: int | None = None,
        checks: Sequence[Check] = (),
        baseline: PathArgument | None = None,
        skip_checks: bool | str | Sequence[str] | None = False,
        rejected_path: PathArgument | None = None,
        storage_options: Mapping[str, Any] | None = None,
        max_row_bytes: int = DEFAULT_MAX_ROW_BYTES,
        require_sizes: bool = False,
        partition_events: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: timedelta | float = 30.0,
        timeout: timedelta | float = 3600.0,
        isvapp_conn_id: str = IsvappHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            path=path,
            storage_options=storage_options,
            checks=checks,
            baseline=baseline,
            skip_checks=skip_checks,
            rejected_path=rejected_path,
            **kwargs,
        )
        self.timeframe = timeframe
        self.taxonomy_ids = taxonomy_ids
        self.taxonomy_level_ids = taxonomy_level_ids
        self.taxonomy_item_ids = taxonomy_item_ids
        self.salesforce_account_ids = salesforce_account_ids
        self.export_type = export_type
        self.aggregation = aggregation
        self.extra_request = extra_request
        self.wait_for_month = wait_for_month
        self.if_exists = if_exists
        self.output_format = output_format
        self.compression = compression
        self.partition_by = partition_by
        self.if_changed = if_changed
        self.validate = validate
        self.require_months = require_months
        self.exclude_fields = exclude_fields
        self.on_drift = on_drift
        self.manifest = manifest
        self.min_rows = min_rows
        self.max_row_bytes = max_row_bytes
        self.require_sizes = require_sizes
        self.partition_events = partition_events
        self.deferrable = deferrable
        self.poll_interval = seconds_of(poll_interval)
        self.timeout = seconds_of(timeout)
        self.isvapp_conn_id = isvapp_conn_id

    @raise_airflow_errors()
    def execute(self, context: Context) -> dict[str, Any]:
        """Create the export, wait for it, download it, and return what was written."""
        return self._export(context)

    @raise_airflow_errors()
    def execute_creation(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Request the export again, after a wait for the month."""
        return self._export(context)

    @raise_airflow_errors()
    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Continue after the trigger's event, and download the export.

        :param event: see :mod:`airflow_provider_isvapp.triggers.isvapp`; anything else fails the task.
        """
        checkpoint = ExportCheckpoint(context)
        saved = checkpoint.load()
        export_id = export_id_of(event) if saved is None else saved.export_id
        persist_export_link(context, conn_id=self.isvapp_conn_id, export_id=export_id)
        request, download = self._checked_arguments(context)
        self._read_export = export_id
        with checkpoint.clear_if_lost(export_id), IsvappHook(isvapp_conn_id=self.isvapp_conn_id) as hook:
            details = read_event(event, export_id=export_id)
            log_ready(self.log, details)
            self._count_ready(details, checkpoint, seen_at(event))
            return self._download(context, hook, export_id, download, request=request.payload())

    def _export(self, context: Context) -> dict[str, Any]:
        request, download = self._checked_arguments(context)
        checkpoint = ExportCheckpoint(context)
        with IsvappHook(isvapp_conn_id=self.isvapp_conn_id) as hook:
            creator = ExportCreator(self, hook.get_conn(), checkpoint, method_name="execute_creation")
            export = creator.obtain(request)
            persist_export_link(context, conn_id=self.isvapp_conn_id, export_id=export.id)
            self._read_export = export.id
            with checkpoint.clear_if_lost(export.id):
                # The response to the creation, or the record of an earlier try's export, counts as the first poll.
                if not is_ready_or_raise(export, now=datetime.now(UTC)):
                    export = self._wait(export, hook)
                self._count_ready(export.details(), checkpoint, datetime.now(UTC))
                return self._download(context, hook, export.id, download, request=request.payload())

    def _checked_arguments(self, context: Context) -> tuple[ExportRequest, ExportDownload]:
        """Check all arguments before any request to the vendor."""
        self._check_partition_events(self.partition_events)
        checked_seconds("poll_interval", self.poll_interval)
        checked_seconds("timeout", self.timeout)
        request = checked_request(self, context)
        months = requested_months(request)
        return request, ExportDownload(self, expected_months=months, require_months=self.require_months)

    def _wait(self, export: Export, hook: IsvappHook) -> Export:
        """Return the export when it is ready, or defer."""
        known_since = datetime.now(UTC)
        if self.deferrable:
            defer_until_ready(
                self,
                export_id=export.id,
                isvapp_conn_id=self.isvapp_conn_id,
                timeout=self.timeout,
                poll_interval=self.poll_interval,
                known_since=known_since,
                method_name="execute_complete",
            )
        return wait_in_worker(
            hook,
            export.id,
            timeout=self.timeout,
            poll_interval=self.poll_interval,
            known_since=known_since,
            log=self.log,
        )

    def _count_ready(self, details: dict[str, Any], checkpoint: ExportCheckpoint, time_seen: datetime) -> None:
        """Record the export's metrics, unless an earlier try has done so."""
        if checkpoint.is_first_to_see_ready():
            record_ready(details, seen_at=time_seen, poll_interval=self.poll_interval)
