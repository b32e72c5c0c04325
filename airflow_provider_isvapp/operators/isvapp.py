# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Operators for ISVapp: create an export, download it, do both in one task, fetch the Salesforce accounts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_isvapp.airflow_errors import airflow_errors
from airflow_provider_isvapp.hooks.export_outcome import failures_counted
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.lineage.documented_fields import Fields, account_fields
from airflow_provider_isvapp.lineage.source import Source
from airflow_provider_isvapp.links.isvapp import link_to_export
from airflow_provider_isvapp.operators.destination_path import PathArgument, destination_of
from airflow_provider_isvapp.operators.export import IsvappExportOperator
from airflow_provider_isvapp.operators.export_creation import CreatesExport
from airflow_provider_isvapp.operators.export_download import DownloadsExport
from airflow_provider_isvapp.operators.remembered_export import ExportMemory
from airflow_provider_isvapp.operators.writes_objects import WritesObjects
from airflow_provider_isvapp.version_compat import Context

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
        from airflow_provider_isvapp.transfer.lines import write_lines  # not needed to parse a DAG

        destination = destination_of(self.path)
        destination.place().check()
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
