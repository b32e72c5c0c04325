# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Operators for ISVapp: create an export, download it, fetch the Salesforce accounts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from airflow_provider_isvapp.airflow_compat import BaseOperator, Context
from airflow_provider_isvapp.airflow_errors import airflow_errors
from airflow_provider_isvapp.api.isvapp.export_request import Aggregation, ExportRequest, ExportType
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.operators.destination_path import PathArgument, destination_of
from airflow_provider_isvapp.operators.outlet_metadata import describe_outlets


class IsvappCreateExportOperator(BaseOperator):
    """Request an export of feature usage from ISVapp.

    The request is sent once in each try of the task. If no answer comes, the try fails, although the export may have
    been created: the next try requests another one, and the unseen one expires unused. XCom: the export's id.

    :param timeframe: a completed month as ``YYYY-MM``, ``LATEST_COMPLETED_MONTH`` or ``LATEST_12_COMPLETED_MONTHS``
        (templated).
    :param taxonomy_ids: export all items of these taxonomies (templated). Exactly one of the three id lists is needed.
    :param taxonomy_level_ids: export all items of these taxonomy levels (templated).
    :param taxonomy_item_ids: export these items (templated).
    :param salesforce_account_ids: limit the rows to these accounts, by ids of 15 or 18 characters (templated).
    :param export_type: the type of data.
    :param aggregation: the period that a row stands for.
    :param isvapp_conn_id: an Airflow connection of type ``isvapp`` (templated).
    """

    template_fields: Sequence[str] = (
        "timeframe",
        "taxonomy_ids",
        "taxonomy_level_ids",
        "taxonomy_item_ids",
        "salesforce_account_ids",
        "isvapp_conn_id",
    )

    def __init__(
        self,
        *,
        timeframe: str,
        taxonomy_ids: Sequence[str] | None = None,
        taxonomy_level_ids: Sequence[str] | None = None,
        taxonomy_item_ids: Sequence[str] | None = None,
        salesforce_account_ids: Sequence[str] | None = None,
        export_type: str = ExportType.TAXONOMY_ITEM.value,
        aggregation: str = Aggregation.MONTHLY.value,
        isvapp_conn_id: str = IsvappHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.timeframe = timeframe
        self.taxonomy_ids = taxonomy_ids
        self.taxonomy_level_ids = taxonomy_level_ids
        self.taxonomy_item_ids = taxonomy_item_ids
        self.salesforce_account_ids = salesforce_account_ids
        self.export_type = export_type
        self.aggregation = aggregation
        self.isvapp_conn_id = isvapp_conn_id

    @airflow_errors()
    def execute(self, context: Context) -> str:
        """Check the request, send it and return the export's id."""
        request = ExportRequest.checked(
            timeframe=self.timeframe,
            taxonomy_ids=self.taxonomy_ids,
            taxonomy_level_ids=self.taxonomy_level_ids,
            taxonomy_item_ids=self.taxonomy_item_ids,
            salesforce_account_ids=self.salesforce_account_ids,
            export_type=self.export_type,
            aggregation=self.aggregation,
        )
        self.log.info(
            "Requesting an export of %s, %s, timeframe %s: %d %s, %s",
            request.export_type,
            request.aggregation,
            request.timeframe,
            len(request.selected_ids),
            request.selection,
            f"{len(request.salesforce_account_ids)} accounts" if request.salesforce_account_ids else "all accounts",
        )
        with IsvappHook(isvapp_conn_id=self.isvapp_conn_id) as hook:
            export = hook.get_client().create_export(request)
        self.log.info("Export %s is created and %s", export.id, export.status)
        return export.id


class IsvappDownloadExportOperator(BaseOperator):
    """Download a completed export as newline-delimited JSON to object storage or a local file.

    The file is streamed, decompressed and verified on its way, and becomes visible only when all of it is there and
    sound; until then, and after any failure, an existing object keeps its old content. XCom: a dict with ``path``,
    ``export_id``, ``rows``, ``bytes`` (of the ndjson), ``compressed_bytes`` (received), ``crc32`` (of the ndjson) and
    ``months`` (rows by month).

    :param export_id: the export, which must be ready: wait for it with ``IsvappExportSensor`` (templated).
    :param path: where to write: an ``ObjectStoragePath``, a URI such as ``s3://conn_id@bucket/key``, or an absolute
        local path (templated).
    :param isvapp_conn_id: an Airflow connection of type ``isvapp`` (templated).
    """

    template_fields: Sequence[str] = ("export_id", "path", "isvapp_conn_id")

    def __init__(
        self,
        *,
        export_id: str,
        path: PathArgument,
        isvapp_conn_id: str = IsvappHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.export_id = export_id
        self.path = path
        self.isvapp_conn_id = isvapp_conn_id
        self._killed = False

    @airflow_errors()
    def execute(self, context: Context) -> dict[str, Any]:
        """Download, verify, publish, and return what was written."""
        from airflow_provider_isvapp.transfer.download import download_export  # codecs are not needed to parse a DAG

        destination = destination_of(self.path)
        with IsvappHook(isvapp_conn_id=self.isvapp_conn_id) as hook:
            self.log.info("Downloading export %s to %s", self.export_id, destination.uri)
            result = download_export(
                partial(hook.get_client().open_download, self.export_id),
                destination,
                cancelled=lambda: self._killed,
            )
        self.log.info(
            "Wrote %s: %s rows, %s bytes (%s bytes received) in %.1f s",
            result.path,
            f"{result.rows:,}",
            f"{result.bytes:,}",
            f"{result.compressed_bytes:,}",
            result.seconds,
        )
        written = {
            "path": result.path,
            "export_id": result.export_id,
            "rows": result.rows,
            "bytes": result.bytes,
            "compressed_bytes": result.compressed_bytes,
            "crc32": result.crc32,
            "months": result.months,
        }
        describe_outlets(context, self.outlets, written)
        return written

    def on_kill(self) -> None:
        """Let the transfer stop by itself: Airflow kills the process a few seconds later, whatever it is writing."""
        self._killed = True


class IsvappFetchSalesforceAccountsOperator(BaseOperator):
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
        describe_outlets(context, self.outlets, written)
        return written
