# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What the operators that write share: paths, results, asset events, links, lineage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_provider_isvapp.errors import InvalidArgument
from airflow_provider_isvapp.lineage.datasets import Fields, PublishedObject, Source, name_of, usage_fields
from airflow_provider_isvapp.links.isvapp import WrittenObjectLink, console_address
from airflow_provider_isvapp.log_messages import Log, log_folded
from airflow_provider_isvapp.version_compat import (
    Asset,
    AssetAlias,
    BaseOperator,
    BaseOperatorLink,
    Context,
    ObjectStoragePath,
    alias_extra,
    has_file_system,
)

if TYPE_CHECKING:
    from airflow_provider_isvapp.transfer.destination import Destination
    from airflow_provider_isvapp.transfer.results import DownloadResult, WriteResult, WrittenObject


PathArgument: TypeAlias = ObjectStoragePath | str

# The extra of this package that brings the file system of a scheme.
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}


def destination_of(path: object) -> Destination:
    """Understand a path without touching the storage.

    :param path: an ``ObjectStoragePath``, a URI such as ``s3://conn_id@bucket/key``, or an absolute local path.
    :raises InvalidArgument: if it names no object, or is on a storage that this Airflow does not know.
    """
    from airflow_provider_isvapp.transfer.destination import open_destination  # only a running task needs it

    text = str(path) if isinstance(path, ObjectStoragePath) else _checked_text(path)
    scheme = text.partition("://")[0] if "://" in text else "file"
    problem = _no_file_system(text, scheme)
    # What an ObjectStoragePath of an unknown scheme does depends on Airflow's version, so it is made afterwards.
    if has_file_system(scheme):
        storage_path = path if isinstance(path, ObjectStoragePath) else ObjectStoragePath(text)
        try:
            storage_path.fs  # noqa: B018 (imports and opens the file system)
        except ImportError:
            pass  # a provider can be there without the library that it needs for this
        else:
            return open_destination(storage_path)
    raise problem


def _checked_text(path: object) -> str:
    if not isinstance(path, str) or not path.strip():
        raise InvalidArgument(f"path: must be a URI, an absolute local path or an ObjectStoragePath, not {path!r}.")
    scheme, separator, rest = path.partition("://")
    # Airflow would drop the slash, and write an object in the place of the folder.
    if path.endswith("/"):
        raise InvalidArgument(f"path {path!r} names a folder; add the name of the object to write.")
    local = rest if scheme in ("file", "local") else None if separator else path
    # Relative to what? Each worker has its own working directory, and Airflow 2.11 takes the root.
    if local is not None and not local.startswith("/"):
        raise InvalidArgument(f"path {path!r} is relative; give an absolute path, or a URI such as s3://bucket/key.")
    return path


def _no_file_system(path: str, scheme: str) -> InvalidArgument:
    extra = _EXTRAS.get(scheme)
    step = f"Install it with: pip install 'airflow-provider-isvapp[{extra}]'" if extra else "Use file, s3, gs or abfs."
    return InvalidArgument(f"path {path!r}: this Airflow has no file system for {scheme}://. {step}")


def announce(
    context: Context, outlets: Sequence[Any], published: Sequence[PublishedObject], metadata: dict[str, Any]
) -> None:
    """Describe what was written in the events of the task's outlets.

    :param outlets: of the task. The event of an asset gets ``metadata``. An alias gets the asset of each published
        object, with that object's own metadata.
    :param metadata: of all objects together, as JSON values; a consumer finds them in the event's ``extra``.
    """
    for outlet in outlets:
        if isinstance(outlet, Asset):
            event = context["outlet_events"][outlet]
            event.extra = {**event.extra, **metadata}
        elif isinstance(outlet, AssetAlias):
            for item in published:
                context["outlet_events"][outlet].add(Asset(uri=item.name.uri), extra=alias_extra(item.metadata))


class WritesObjects(BaseOperator):
    """Base of the operators that write: asset events, the link to the storage's console, lineage."""

    operator_extra_links: Sequence[BaseOperatorLink] = (WrittenObjectLink(),)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._published: tuple[PublishedObject, ...] = ()
        self._read_export: str | None = None

    def get_openlineage_facets_on_start(self) -> Any:
        """Say what will be read. Nothing is written yet."""
        return self._lineage()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Say what was read and written."""
        return self._lineage()

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> Any:
        """Say what was read, and what was published before the failure, if anything was."""
        return self._lineage()

    def _lineage(self) -> Any:
        from airflow_provider_isvapp.lineage.openlineage import lineage_of  # needs OpenLineage's provider

        return lineage_of(self._source(), self._published, export_id=self._read_export)

    def _source(self) -> Source:
        """Name what is read."""
        raise NotImplementedError

    def _fields(self) -> Fields:
        """Return the documented fields of the rows that are read."""
        raise NotImplementedError

    def _tell(
        self,
        context: Context,
        destination: Destination,
        published: Sequence[PublishedObject],
        metadata: dict[str, Any],
        *,
        placeholder: str | None = None,
    ) -> None:
        """Tell Airflow what is there now.

        :param metadata: of all objects together.
        :param placeholder: of the destination, if there is an object for each of several values.
        """
        self._published = tuple(published)
        announce(context, self.outlets, published, metadata)
        address = console_address(destination, placeholder=placeholder) if published else None
        # Empty if there is none: Airflow 3 asks for it when the task ends, and logs an error if nothing is stored.
        WrittenObjectLink.store(context, address or "")

    def _tell_of_list(
        self, context: Context, destination: Destination, result: WriteResult, metadata: dict[str, Any]
    ) -> None:
        """Tell Airflow of one object of lines."""
        written = PublishedObject(
            name=name_of(destination), rows=result.rows, size=result.bytes, fields=self._fields(), metadata=metadata
        )
        self._tell(context, destination, [written], metadata)


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
