# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The part of an operator that brings an export to storage."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.errors import InvalidArgument
from airflow_provider_isvapp.hooks.export_look import when_known
from airflow_provider_isvapp.lineage.documented_fields import Fields, usage_fields
from airflow_provider_isvapp.lineage.source import Source
from airflow_provider_isvapp.links.isvapp import EXPORT_LINKS
from airflow_provider_isvapp.metrics import record
from airflow_provider_isvapp.operators.destination_path import PathArgument, destination_of
from airflow_provider_isvapp.operators.published_export import as_xcom, log_written, published_objects
from airflow_provider_isvapp.operators.writes_objects import WritesObjects
from airflow_provider_isvapp.version_compat import BaseOperatorLink, Context

if TYPE_CHECKING:
    from airflow_provider_isvapp.api.isvapp.download import DownloadBody
    from airflow_provider_isvapp.transfer.destination import Destination
    from airflow_provider_isvapp.transfer.shape import IfExists, OutputFormat, Validate


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
        from airflow_provider_isvapp.transfer.download import check_places  # codecs are not needed to parse a DAG
        from airflow_provider_isvapp.transfer.shape import IfExists, Shape

        destination = destination_of(self.path)
        shape = Shape(
            output_format=self.output_format,
            compression=self.compression,
            partition_by=self.partition_by,
            validate=self.validate,
        )
        shape.check(destination.uri)
        if self.if_exists not in get_args(IfExists):
            raise InvalidArgument(f"if_exists must be one of {', '.join(get_args(IfExists))}, not {self.if_exists!r}.")
        if self.require_months and not expected_months:
            raise InvalidArgument(
                "require_months needs expected_months, since an export's record does not show which months it was "
                "asked for."
            )
        check_places(destination, shape, expected_months=expected_months, manifest=self.manifest)
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
        from airflow_provider_isvapp.transfer.shape import PLACEHOLDER

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
