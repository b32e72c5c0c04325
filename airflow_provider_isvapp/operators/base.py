# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The base of the operators that write: asset events, links, lineage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_isvapp.errors import InvalidArgument
from airflow_provider_isvapp.lineage import Fields, PublishedObject, Source, name_of, operator_lineage
from airflow_provider_isvapp.links.isvapp import WITHOUT_CONSOLE, WrittenObjectLink, console_url
from airflow_provider_isvapp.log_messages import Log, log_folded
from airflow_provider_isvapp.operators.storage_clients import PathArgument
from airflow_provider_isvapp.transfer.options import MONTH_PLACEHOLDER
from airflow_provider_isvapp.version_compat import (
    AirflowSkipException,
    Asset,
    AssetAlias,
    BaseOperator,
    BaseOperatorLink,
    Context,
    add_partitions,
    alias_extra,
)

if TYPE_CHECKING:
    from airflow_provider_isvapp.transfer.destination import Destination
    from airflow_provider_isvapp.transfer.options import Check
    from airflow_provider_isvapp.transfer.restatements import MonthChange
    from airflow_provider_isvapp.transfer.results import WriteResult, WrittenObject


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """The objects at a destination after a task has written there.

    :param destination: the location, with ``{reference_date}`` in it if each month has a separate object.
    :param fields: the documented fields of the rows.
    """

    destination: Destination
    result: WriteResult
    fields: Fields

    @property
    def placeholder(self) -> str | None:
        """The part of the path that differs by object; None if there is a single object."""
        return MONTH_PLACEHOLDER if MONTH_PLACEHOLDER in self.destination.key else None

    @property
    def xcom(self) -> dict[str, Any]:
        """The result as JSON values."""
        result = self.result
        changes = result.changes
        return {
            "path": result.path,
            "outcome": str(result.outcome),
            "rows": result.rows,
            "bytes": result.bytes,
            "compressed_bytes": result.compressed_bytes,
            "crc32": result.crc32,
            "sizes_verified": result.sizes_verified,
            "checks": [asdict(item) for item in result.checks],
            "baseline": result.baseline,
            "export_id": result.export_id,
            "months": result.months,
            "snapshot_date": result.snapshot_date,
            "drift": None if result.drift is None else [found.as_json() for found in result.drift],
            "objects": [asdict(item) for item in result.objects],
            "manifests": list(result.manifests),
            "changes": changes and {month: change.as_json() for month, change in changes.items()},
        }

    @property
    def objects(self) -> tuple[PublishedObject, ...]:
        """The objects at the destination; empty if another object stays there.

        The object of one month has separate metadata, whose ``bytes`` and ``crc32`` are those of the stored object.
        """
        result = self.result
        if self.placeholder is None:
            # For an existing object, only the rows are known.
            size = result.objects[0].bytes if result.objects else None
            written = result.outcome == "written"
            whole = self._object(self.destination, result.rows, size, written=written, metadata=self.xcom)
            return () if result.outcome == "skipped" else (whole,)
        stored = {item.reference_date or "": item for item in result.objects}
        if result.changes is not None:
            # An earlier try may have published some and died before it reported them to Airflow.
            months = [month for month, change in result.changes.items() if change.is_published]
        else:
            months = list(result.months if result.outcome == "unchanged" else stored)
        return tuple(self._month(month, stored=stored.get(month)) for month in months)

    @property
    def path_by_month(self) -> dict[str, Any]:
        """The path to the rows of each month."""
        return {month: item.metadata["path"] for item in self.objects for month in sorted(item.metadata["months"])}

    def _month(self, month: str, *, stored: WrittenObject | None) -> PublishedObject:
        rows = self.result.months[month] if stored is None else stored.rows
        changes = self.xcom["changes"]
        destination = self.destination.with_value(MONTH_PLACEHOLDER, month)
        metadata = {
            "path": destination.uri,
            "export_id": self.result.export_id,
            "outcome": str(self.result.outcome),
            "rows": rows,
            "months": {month: rows},
            "reference_date": month,
            "drift": self.xcom["drift"],
            "changes": changes and {month: changes[month]},
        }
        if stored is None:
            return self._object(destination, rows, None, written=False, metadata=metadata)
        metadata |= {"bytes": stored.bytes, "crc32": stored.crc32}
        return self._object(destination, rows, stored.bytes, written=True, metadata=metadata)

    def _object(
        self, destination: Destination, rows: int | None, size: int | None, *, written: bool, metadata: dict[str, Any]
    ) -> PublishedObject:
        return PublishedObject(
            name=name_of(destination),
            rows=rows,
            size=size,
            written=written,
            fields=self.fields,
            metadata=metadata,
        )

    def log(self, log: Log) -> None:
        """Log what was written and where; the objects of several months go into a folded group."""
        result = self.result
        for found in result.drift or ():
            log.warning("The rows differ from their documentation: %s", found)
        if result.changes is not None:
            _log_changes(log, result.changes)
        if result.outcome != "written":
            return
        objects, months = result.objects, sorted(result.months)
        is_part = self.placeholder is not None and len(objects) < len(months)
        if is_part:
            months = sorted(item.reference_date or "" for item in objects)
        span = months[0] if len(months) == 1 else f"{months[0]} to {months[-1]}" if months else "no month"
        if result.snapshot_date is not None:
            what = f"as of {result.snapshot_date}"
        elif is_part:
            what = f"{len(months)} of {len(result.months)} months: {span}"
        elif len(objects) != 1:
            what = f"{len(objects)} objects, one per month: {span}"
        else:
            what = f"rows of {span}"
        received = "" if result.compressed_bytes is None else f" ({result.compressed_bytes:,} bytes received)"
        log.info(
            "Wrote %s: %s rows, %s bytes%s in %.1f s; %s",
            objects[0].path if len(objects) == 1 else result.path,
            f"{sum(item.rows for item in objects):,}",
            f"{sum(item.bytes for item in objects):,}",
            received,
            result.seconds,
            what,
        )
        if len(objects) > 1:
            lines = [f"{item.path}: {item.rows:,} rows, {item.bytes:,} bytes" for item in objects]
            log_folded(log, f"The {len(lines)} objects", lines)
        if len(result.manifests) > 1:
            log_folded(log, f"Their {len(result.manifests)} manifests", result.manifests)
        elif result.manifests:
            log.info("Wrote its manifest, %s", result.manifests[0])


def _log_changes(log: Log, changes: Mapping[str, MonthChange]) -> None:
    counts = Counter(change.status for change in changes.values())
    log.info(
        "Compared with the stored months: %s",
        ", ".join(f"{number} {status}" for status, number in counts.items()) or "no month",
    )
    for month, change in changes.items():
        if change.status == "missing":
            log.warning("%s is stored, and the export has no rows for it: it stays as it is.", month)
        elif change.is_published:
            log.info("%s is %s", month, change)


def _add_asset_events(context: Context, outlets: Sequence[Any], publication: Publication) -> None:
    """Add the result to the events of the task's outlets.

    The event of an asset has the task's result in its ``extra``. An alias gets an asset for each published object, with
    the metadata of that object.
    """
    for outlet in outlets:
        if isinstance(outlet, Asset):
            event = context["outlet_events"][outlet]
            event.extra = {**event.extra, **publication.xcom}
        elif isinstance(outlet, AssetAlias):
            for item in publication.objects:
                context["outlet_events"][outlet].add(Asset(uri=item.name.uri), extra=alias_extra(item.metadata))


class WriteOperator(BaseOperator):
    """Base of the operators that write: asset events, the link to the storage's console, lineage.

    :param path: where to write.
    :param storage_options: further arguments for the storage's client; docs/storage/ lists those of each storage.
    :param checks: the checks that a result must pass before it is published.
    :param baseline: the path of the object that they compare with; by default the one at ``path``.
    :param skip_checks: the checks to skip in this run.
    :param rejected_path: where a refused result is kept.
    """

    operator_extra_links: Sequence[BaseOperatorLink] = (WrittenObjectLink(),)

    def __init__(
        self,
        *,
        path: PathArgument,
        storage_options: Mapping[str, Any] | None,
        checks: Sequence[Check],
        baseline: PathArgument | None,
        skip_checks: bool | str | Sequence[str] | None,
        rejected_path: PathArgument | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        if str(path).startswith(WITHOUT_CONSOLE):
            # Airflow 3 shows the heading of a task's links even if none of them has a URL.
            links = self.operator_extra_links
            self.operator_extra_links = tuple(link for link in links if not isinstance(link, WrittenObjectLink))
        self.storage_options = storage_options
        self.checks = checks
        self.baseline = baseline
        self.skip_checks = skip_checks
        self.rejected_path = rejected_path
        self._published: tuple[PublishedObject, ...] = ()
        self._read_export: str | None = None

    def get_openlineage_facets_on_start(self) -> Any:
        """Return the task's input. Nothing is written yet."""
        return self._lineage()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Return the task's input and outputs."""
        return self._lineage()

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> Any:
        """Return the task's input, and the objects that it published before the failure."""
        return self._lineage()

    def _lineage(self) -> Any:
        return operator_lineage(self._source(), self._published, export_id=self._read_export)

    def _source(self) -> Source:
        """Return the data that the task reads."""
        raise NotImplementedError

    def _check_partition_events(self, partition_events: bool) -> None:
        """Refuse ``partition_events`` without an outlet that is an asset."""
        if partition_events and not any(isinstance(outlet, Asset) for outlet in self.outlets):
            raise InvalidArgument(
                "partition_events=True needs an Asset among the task's outlets: an alias has no partitions."
            )

    def _add_partitions(self, context: Context, paths: dict[str, Any]) -> None:
        """Send the event of each asset once per month. The events share one extra, which has the path of each month."""
        for outlet in self.outlets:
            if isinstance(outlet, Asset):
                event = context["outlet_events"][outlet]
                if not add_partitions(event, list(paths)):
                    self.log.warning("partition_events=True has no effect before Airflow 3.3: events have no keys.")
                    return
                event.extra = {**event.extra, "paths": paths}

    def _publish_events(
        self, context: Context, publication: Publication, *, partition_events: bool = False
    ) -> dict[str, Any]:
        """Log and announce the objects at the destination, and return the task's XCom.

        :raises AirflowSkipException: if no month has changed: a successful task would send the events of its assets.
        """
        publication.log(self.log)
        self._published = publication.objects
        _add_asset_events(context, self.outlets, publication)
        if partition_events:
            self._add_partitions(context, publication.path_by_month)
        url = None
        if publication.objects:
            url = console_url(publication.destination, placeholder=publication.placeholder)
        if url is not None:
            WrittenObjectLink.persist(context, url)
        if publication.result.changes is not None and not publication.objects:
            if self.do_xcom_push:
                context["ti"].xcom_push(key="return_value", value=publication.xcom)
            raise AirflowSkipException(f"No month at {publication.destination.uri} has changed.")
        return publication.xcom
