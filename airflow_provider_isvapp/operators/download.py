# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Downloads an export in a task: its options, the transfer, and how the task reports what it wrote."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.hooks.isvapp import when_known
from airflow_provider_isvapp.lineage.datasets import Fields, PublishedObject, name_of, usage_fields
from airflow_provider_isvapp.log_messages import Log, log_folded
from airflow_provider_isvapp.metrics import record
from airflow_provider_isvapp.operators.base import PathArgument, Publication, resolve_destination
from airflow_provider_isvapp.transfer.options import PLACEHOLDER, WriteOptions

if TYPE_CHECKING:
    from airflow_provider_isvapp.api.isvapp.download import DownloadResponse
    from airflow_provider_isvapp.transfer.destination import Destination
    from airflow_provider_isvapp.transfer.results import WriteResult, WrittenObject


@dataclass(frozen=True, kw_only=True)
class DownloadOptions:
    """How a task stores an export; the operators describe each option."""

    path: PathArgument
    require_months: bool
    write: WriteOptions

    @classmethod
    def of(cls, operator: Any) -> DownloadOptions:
        """Take the options from the operator's attributes of the same names, whose templates are rendered by now."""
        write = WriteOptions(**{option.name: getattr(operator, option.name) for option in fields(WriteOptions)})
        return cls(path=operator.path, require_months=operator.require_months, write=write)

    @property
    def placeholder(self) -> str | None:
        """The part of the path that differs by object; None if there is a single object."""
        return None if self.write.partition_by is None else PLACEHOLDER


class ExportDownload:
    """Downloads one export to one destination.

    :param options: checked here, before anything is asked of the vendor.
    :param expected_months: the months that the export was asked for; how many, if only the vendor knows which.
    :param log: of the task.
    :raises InvalidArgument: naming the option that is wrong.
    """

    def __init__(self, options: DownloadOptions, *, expected_months: Collection[str] | int | None, log: Log) -> None:
        from airflow_provider_isvapp.transfer.download import check_download  # codecs are not needed to parse a DAG

        self.options = options
        self.destination = resolve_destination(options.path)
        self._expected_months = expected_months
        self._log = log
        check_download(
            self.destination,
            options.write,
            expected_months=expected_months,
            require_months=options.require_months,
        )

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

        options = self.options
        self._log.info("Downloading export %s to %s", export_id, self.destination.uri)
        result = download_export(
            open_body,
            self.destination,
            export_id=export_id,
            options=options.write,
            expected_months=self._expected_months,
            require_months=options.require_months,
            request=request,
            cancelled=cancelled,
            observe=record,
        )
        if result.outcome == "written":
            _log_written(self._log, result)
        return Publication(
            destination=self.destination,
            objects=published_objects(result, self.destination, output_format=options.write.output_format),
            xcom=as_xcom(result),
            placeholder=options.placeholder,
        )


def as_xcom(result: WriteResult) -> dict[str, Any]:
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
    result: WriteResult, destination: Destination, *, output_format: str
) -> tuple[PublishedObject, ...]:
    """Return the objects that hold the export now; none if something else was left in place.

    An object of one month has metadata of its own, in which ``bytes`` and ``crc32`` are those of the stored object.
    """
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
    result: WriteResult, destination: Destination, fields: Fields, *, placeholder: str
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


def _month_metadata(month: str, item: WrittenObject, result: WriteResult) -> dict[str, Any]:
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


def _log_written(log: Log, result: WriteResult) -> None:
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
