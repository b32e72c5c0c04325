# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Downloads an export in a task: checks the options, finds the export's file, and starts the transfer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.hooks.isvapp import when_known
from airflow_provider_isvapp.lineage.datasets import usage_fields
from airflow_provider_isvapp.log_messages import Log
from airflow_provider_isvapp.metrics import record
from airflow_provider_isvapp.operators.base import Publication
from airflow_provider_isvapp.operators.destinations import PathArgument, resolve_destination
from airflow_provider_isvapp.transfer.options import WriteOptions

if TYPE_CHECKING:
    from airflow_provider_isvapp.api.isvapp.download import DownloadResponse


class ExportDownload:
    """Downloads one export to one destination.

    The arguments are checked here, before anything is asked of the vendor.

    :param path: where to write, as the operators take it.
    :param options: how it is written.
    :param expected_months: the months that the export was asked for; how many, if only the vendor knows which.
    :param require_months: whether each of them must have a row.
    :param log: of the task.
    :raises InvalidArgument: naming the argument that is wrong.
    """

    def __init__(
        self,
        path: PathArgument,
        options: WriteOptions,
        *,
        expected_months: Collection[str] | int | None,
        require_months: bool,
        log: Log,
    ) -> None:
        from airflow_provider_isvapp.transfer.download import check_download  # codecs are not needed to parse a DAG

        self._destination = resolve_destination(path)
        self._options = options
        self._expected_months = expected_months
        self._require_months = require_months
        self._log = log
        check_download(self._destination, options, expected_months=expected_months, require_months=require_months)

    def run(
        self,
        client: IsvappClient,
        export_id: str,
        *,
        cancelled: Callable[[], bool],
        request: Mapping[str, Any] | None = None,
    ) -> Publication:
        """Download, verify and publish an export.

        :param cancelled: asked several times a second; when it returns true, the transfer stops.
        :param request: the export's request, for the manifest.
        """
        from airflow_provider_isvapp.transfer.download import download_export  # codecs are not needed to parse a DAG

        known_since = datetime.now(UTC)

        def open_body(**where: Any) -> DownloadResponse:
            return when_known(lambda: client.open_download(export_id, **where), known_since=known_since, log=self._log)

        self._log.info("Downloading export %s to %s", export_id, self._destination.uri)
        result = download_export(
            open_body,
            self._destination,
            export_id=export_id,
            options=self._options,
            expected_months=self._expected_months,
            require_months=self._require_months,
            request=request,
            cancelled=cancelled,
            observe=record,
        )
        fields = usage_fields(self._options.output_format)
        kept = tuple(item for item in fields if item[0] not in self._options.exclude_fields)
        return Publication(destination=self._destination, result=result, fields=kept)
