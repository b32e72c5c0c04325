# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What a task tells of an export that it brought to storage: as XCom, and object by object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_provider_isvapp.lineage.documented_fields import Fields, usage_fields
from airflow_provider_isvapp.lineage.object_name import name_of
from airflow_provider_isvapp.lineage.published_object import PublishedObject
from airflow_provider_isvapp.task_log import Log, log_folded

if TYPE_CHECKING:
    from airflow_provider_isvapp.transfer.destination import Destination
    from airflow_provider_isvapp.transfer.result import DownloadResult, WrittenObject


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
    from airflow_provider_isvapp.transfer.shape import PLACEHOLDER  # codecs are not needed to parse a DAG

    fields = usage_fields(output_format)
    if result.outcome == "unchanged":
        return tuple(_found(result, destination, fields, placeholder=PLACEHOLDER))
    published = []
    for item in result.objects:
        month = item.reference_date
        place = destination if month is None else destination.filled(PLACEHOLDER, month)
        metadata = as_xcom(result) if month is None else _of_month(month, item, result)
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
        place = destination.filled(placeholder, month)
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


def _of_month(month: str, item: WrittenObject, result: DownloadResult) -> dict[str, Any]:
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


def log_written(log: Log, result: DownloadResult) -> None:
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
