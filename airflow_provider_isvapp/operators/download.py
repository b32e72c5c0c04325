# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Downloads an export in a task: its options, the transfer, and how the task reports what it wrote."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.errors import InvalidArgument
from airflow_provider_isvapp.hooks.isvapp import when_known
from airflow_provider_isvapp.lineage.datasets import Fields, PublishedObject, name_of, usage_fields
from airflow_provider_isvapp.log_messages import Log, log_folded
from airflow_provider_isvapp.metrics import record
from airflow_provider_isvapp.operators.base import PathArgument, Publication, resolve_destination
from airflow_provider_isvapp.version_compat import BaseOperator

if TYPE_CHECKING:
    from airflow_provider_isvapp.api.isvapp.download import DownloadBody
    from airflow_provider_isvapp.transfer.destination import Destination
    from airflow_provider_isvapp.transfer.format import IfExists, OutputFormat, Validate
    from airflow_provider_isvapp.transfer.results import DownloadResult, WrittenObject


@dataclass(frozen=True, kw_only=True)
class DownloadOptions:
    """How a task stores an export; the operators describe each option."""

    path: PathArgument
    if_exists: IfExists
    output_format: OutputFormat
    compression: Literal["gzip"] | None
    partition_by: Literal["reference_date"] | None
    validate: Validate
    require_months: bool
    manifest: bool

    @classmethod
    def of(cls, operator: BaseOperator) -> DownloadOptions:
        """Take the options from the operator's attributes of the same names, whose templates are rendered by now."""
        return cls(**{option.name: getattr(operator, option.name) for option in fields(cls)})

    @property
    def placeholder(self) -> str | None:
        """The part of the path that differs by object; None if there is a single object."""
        from airflow_provider_isvapp.transfer.format import PLACEHOLDER  # codecs are not needed to parse a DAG

        return None if self.partition_by is None else PLACEHOLDER


class ExportDownload:
    """Downloads one export to one destination.

    :param options: checked here, before anything is asked of the vendor.
    :param expected_months: the months that the export was asked for; how many, if only the vendor knows which.
    :param log: of the task.
    :raises InvalidArgument: naming the option that is wrong.
    """

    def __init__(self, options: DownloadOptions, *, expected_months: Collection[str] | int | None, log: Log) -> None:
        from airflow_provider_isvapp.transfer.download import check_targets  # codecs are not needed to parse a DAG
        from airflow_provider_isvapp.transfer.format import IfExists, StorageFormat

        self.options = options
        self.destination = resolve_destination(options.path)
        self._expected_months = expected_months
        self._log = log
        storage_format = StorageFormat(
            output_format=options.output_format,
            compression=options.compression,
            partition_by=options.partition_by,
            validate=options.validate,
        )
        storage_format.check(self.destination.uri)
        if options.if_exists not in get_args(IfExists):
            raise InvalidArgument(
                f"if_exists must be one of {', '.join(get_args(IfExists))}, not {options.if_exists!r}."
            )
        if options.require_months and not expected_months:
            raise InvalidArgument(
                "require_months needs expected_months, since an export's record does not show which months it was "
                "asked for."
            )
        check_targets(self.destination, storage_format, expected_months=expected_months, manifest=options.manifest)

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

        def open_body(**where: Any) -> DownloadBody:
            return when_known(lambda: client.open_download(export_id, **where), known_since=known_since, log=self._log)

        options = self.options
        self._log.info("Downloading export %s to %s", export_id, self.destination.uri)
        result = download_export(
            open_body,
            self.destination,
            export_id=export_id,
            if_exists=options.if_exists,
            output_format=options.output_format,
            compression=options.compression,
            partition_by=options.partition_by,
            validate=options.validate,
            expected_months=self._expected_months,
            require_months=options.require_months,
            manifest=options.manifest,
            request=request,
            cancelled=cancelled,
            observe=record,
        )
        if result.outcome == "written":
            _log_written(self._log, result)
        return Publication(
            destination=self.destination,
            objects=published_objects(result, self.destination, output_format=options.output_format),
            xcom=as_xcom(result),
            placeholder=options.placeholder,
        )


def as_xcom(result: DownloadResult) -> dict[str, Any]:
    """Return a result as JSON values."""
    return {
        "path": result.path,
        "export_id": result.export_id,
        "outcome": str(result.outcome),
        "rows": result.rows,
        "bytes": result.bytes,
        "compressed_bytes": result.compressed_bytes,
        "crc32": result.crc32,
        "months": result.months,
        "objects": [asdict(item) for item in result.objects],
        "manifests": list(result.manifests),
    }


def published_objects(
    result: DownloadResult, destination: Destination, *, output_format: str
) -> tuple[PublishedObject, ...]:
    """Return the objects that hold the export now; none if something else was left in place.

    An object of one month has metadata of its own, in which ``bytes`` and ``crc32`` are those of the stored object.
    """
    from airflow_provider_isvapp.transfer.format import PLACEHOLDER  # codecs are not needed to parse a DAG

    fields = usage_fields(output_format)
    if result.outcome == "unchanged":
        return tuple(_found(result, destination, fields, placeholder=PLACEHOLDER))
    published = []
    for item in result.objects:
        month = item.reference_date
        place = destination if month is None else destination.with_value(PLACEHOLDER, month)
        metadata = as_xcom(result) if month is None else _month_metadata(month, item, result)
        published.append(
            PublishedObject(name=name_of(place), rows=item.rows, size=item.bytes, fields=fields, metadata=metadata)
        )
    return tuple(published)


def _found(
    result: DownloadResult, destination: Destination, fields: Fields, *, placeholder: str
) -> Iterator[PublishedObject]:
    """Yield what an earlier try has written; the sizes of single months are not known again."""
    if placeholder not in destination.key:
        yield PublishedObject(
            name=name_of(destination),
            rows=result.rows,
            size=None,
            written=False,
            fields=fields,
            metadata=as_xcom(result),
        )
        return
    for month, rows in result.months.items():
        place = destination.with_value(placeholder, month)
        metadata = {
            "path": place.uri,
            "export_id": result.export_id,
            "outcome": str(result.outcome),
            "rows": rows,
            "months": {month: rows},
            "reference_date": month,
        }
        yield PublishedObject(
            name=name_of(place), rows=rows, size=None, written=False, fields=fields, metadata=metadata
        )


def _month_metadata(month: str, item: WrittenObject, result: DownloadResult) -> dict[str, Any]:
    return {
        "path": item.path,
        "export_id": result.export_id,
        "outcome": str(result.outcome),
        "rows": item.rows,
        "bytes": item.bytes,
        "crc32": item.crc32,
        "months": {month: item.rows},
        "reference_date": month,
    }


def _log_written(log: Log, result: DownloadResult) -> None:
    """Say what was written and where; the objects of several months are listed apart."""
    divided = len(result.objects) != 1 or result.objects[0].reference_date is not None
    months = sorted(result.months)
    span = months[0] if len(months) == 1 else f"{months[0]} to {months[-1]}" if months else "no month"
    log.info(
        "Wrote %s: %s rows, %s bytes (%s bytes received) in %.1f s; %s",
        result.path,
        f"{result.rows:,}",
        f"{result.bytes:,}",
        f"{result.compressed_bytes:,}",
        result.seconds,
        f"{len(result.objects)} objects, one a month: {span}" if divided else f"rows of {span}",
    )
    if divided:
        lines = [f"{item.path}: {item.rows:,} rows, {item.bytes:,} bytes" for item in result.objects]
        log_folded(log, f"The {len(lines)} objects", lines)
    if len(result.manifests) > 1:
        log_folded(log, f"Their {len(result.manifests)} manifests", result.manifests)
    elif result.manifests:
        log.info("Wrote its manifest, %s", result.manifests[0])
