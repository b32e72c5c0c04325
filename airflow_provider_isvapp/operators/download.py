# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Downloads an export or a list in a task: checks the options before anything is requested, and starts the write."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_isvapp.errors import LateSnapshot
from airflow_provider_isvapp.lineage import Source
from airflow_provider_isvapp.links.isvapp import EXPORT_LINKS
from airflow_provider_isvapp.metrics import record
from airflow_provider_isvapp.operators.base import Publication, WriteOperator
from airflow_provider_isvapp.operators.storage_clients import PathArgument, resolve_destination
from airflow_provider_isvapp.transfer.options import SNAPSHOT_PLACEHOLDER, WriteOptions
from airflow_provider_isvapp.version_compat import BaseOperatorLink, Context, next_run_after

if TYPE_CHECKING:
    from airflow_provider_isvapp.api.isvapp.client import DownloadResponse, IsvappClient
    from airflow_provider_isvapp.api.schema.fields import Object
    from airflow_provider_isvapp.hooks.isvapp import IsvappHook
    from airflow_provider_isvapp.transfer.destination import Destination


class _TaskWrite:
    """Resolves the paths of a task, and checks its arguments before any request to the vendor.

    :param operator: the task's operator, with rendered templates.
    :param check: checks the options and the destination.
    :raises InvalidArgument: naming the wrong argument.
    :raises StorageFailed: if the task may not write there.
    """

    def __init__(self, operator: WriteOperator, check: Callable[[Destination, WriteOptions], None]) -> None:
        from airflow_provider_isvapp.transfer.audit import check_rejected  # codecs are not needed to parse a DAG

        self._options = WriteOptions.from_operator(operator)
        self._destination = self._resolve(operator.path)
        check(self._destination, self._options)
        self._baseline = None if operator.baseline is None else self._resolve(operator.baseline)
        self._rejected = None if operator.rejected_path is None else self._resolve(operator.rejected_path)
        if self._rejected is not None:
            check_rejected(self._rejected, self._destination, self._options)
        self._destination.target().check_rights()

    def _resolve(self, path: PathArgument) -> Destination:
        return resolve_destination(path, storage_options=self._options.storage_options)


class ExportDownload(_TaskWrite):
    """Downloads one export to one destination.

    Create it before any request to the vendor: the constructor checks the arguments.

    :param operator: the task's operator, with rendered templates.
    :param expected_months: the requested months, or their number if only the vendor knows which.
    :param require_months: whether each of them must have a row.
    :raises InvalidArgument: naming the wrong argument.
    :raises StorageFailed: if the task may not write there.
    """

    def __init__(
        self, operator: WriteOperator, *, expected_months: Collection[str] | int | None, require_months: bool
    ) -> None:
        from airflow_provider_isvapp.transfer.download import check_download  # codecs are not needed to parse a DAG

        months: dict[str, Any] = {"expected_months": expected_months, "require_months": require_months}
        super().__init__(operator, partial(check_download, **months))
        self._months = months
        self._log = operator.log

    def run(
        self,
        context: Context,
        client: IsvappClient,
        export_id: str,
        *,
        cancelled: Callable[[], bool],
        request: Mapping[str, Any] | None = None,
    ) -> Publication:
        """Download, verify and publish an export.

        :param context: the context of the running task.
        :param cancelled: called several times per second; the transfer stops when it returns true.
        :param request: the export's request, for the manifest.
        """
        # Records and codecs are not needed to parse a DAG.
        from airflow_provider_isvapp.api.schema.fields import lineage_fields
        from airflow_provider_isvapp.api.schema.isvapp import TaxonomyItemRow
        from airflow_provider_isvapp.hooks.isvapp import retry_until_known
        from airflow_provider_isvapp.transfer.download import download_export

        known_since = datetime.now(UTC)

        def open_body(**where: Any) -> DownloadResponse:
            return retry_until_known(
                lambda: client.open_download(export_id, **where), known_since=known_since, log=self._log
            )

        self._log.info("Downloading export %s to %s", export_id, self._destination.uri)
        result = download_export(
            open_body,
            self._destination,
            export_id=export_id,
            options=self._options,
            **self._months,
            baseline=self._baseline,
            rejected=self._rejected,
            request=request,
            task_run=task_run(context),
            cancelled=cancelled,
            observe=record,
        )
        fields = lineage_fields(TaxonomyItemRow, self._options.output_format, excluded=self._options.exclude_fields)
        return Publication(destination=self._destination, result=result, fields=fields)


class ExportWriteOperator(WriteOperator):
    """Base of the operators that download an export."""

    operator_extra_links: Sequence[BaseOperatorLink] = (*EXPORT_LINKS, *WriteOperator.operator_extra_links)
    isvapp_conn_id: str
    partition_events: bool
    _killed = False

    def on_kill(self) -> None:
        """Make the transfer stop by itself: Airflow kills the process a few seconds later."""
        self._killed = True

    def _download(
        self,
        context: Context,
        hook: IsvappHook,
        export_id: str,
        download: ExportDownload,
        *,
        request: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        publication = download.run(context, hook.get_conn(), export_id, cancelled=lambda: self._killed, request=request)
        return self._publish_events(context, publication, partition_events=self.partition_events)

    def _source(self) -> Source:
        # Records are not needed to parse a DAG.
        from airflow_provider_isvapp.api.schema.fields import lineage_fields
        from airflow_provider_isvapp.api.schema.isvapp import TaxonomyItemRow

        return Source.in_isvapp(self.isvapp_conn_id, "exports/feature_usage", lineage_fields(TaxonomyItemRow))


def task_run(context: Context) -> str:
    """Return the identifier of a task instance, the same for all its tries."""
    task: Any = context["ti"]
    return f"{task.dag_id}/{task.run_id}/{task.task_id}/{task.map_index}"


def latest_snapshot(context: Context) -> datetime | None:
    """Return the latest time to fetch a list for a run, one interval after the run's own; None for any time.

    Manual and asset-triggered runs stand for the present, unless a manual run names its partition.
    """
    run: Any = context["dag_run"]
    partition_date = getattr(run, "partition_date", None)
    if run.run_type not in ("scheduled", "backfill") and (run.run_type != "manual" or partition_date is None):
        return None
    dag, start, end = context["dag"], run.data_interval_start, run.data_interval_end
    if partition_date is not None:
        # The date of a manual run is the start of the period in its key; that of other runs is a time of the schedule.
        latest = next_run_after(dag, partition_date - timedelta(microseconds=1))
        for _ in range(2):
            latest = None if latest is None else next_run_after(dag, latest)
        return latest
    if start is not None and start < end:
        return end + (end - start)  # type: ignore[no-any-return]
    # A cron schedule in Airflow 3 has zero-length intervals, and Airflow 3.2 does not expose a partition's date.
    return next_run_after(dag, run.run_after if end is None else end)


class ListSnapshot(_TaskWrite):
    """Writes one list to one destination.

    Create it before the request for the list: the constructor checks the arguments.

    :param operator: the task's operator, with rendered templates.
    :param allow_late: whether a run of the past may write today's list.
    :raises InvalidArgument: naming the wrong argument.
    :raises StorageFailed: if the task may not write there.
    """

    def __init__(self, operator: WriteOperator, *, allow_late: bool) -> None:
        from airflow_provider_isvapp.transfer.lists import check_list  # codecs are not needed to parse a DAG

        super().__init__(operator, check_list)
        self._allow_late = allow_late
        self._started = time.monotonic()

    def write(
        self,
        context: Context,
        rows: Sequence[bytes],
        *,
        dataset: str,
        row_type: type[Object],
        whole_type: type[Object],
        taken_at: datetime,
        request: Mapping[str, Any],
    ) -> Publication:
        """Verify and publish the rows.

        :param context: the context of the running task.
        :param rows: the rows, each the vendor's own bytes of one line.
        :param dataset: the list's name.
        :param row_type: the documented structure of a row.
        :param whole_type: the same with all optional fields, whose names ``exclude_fields`` accepts.
        :param taken_at: the time that the list describes, timezone-aware.
        :param request: the parameters of the list's request, for the manifest.
        :raises LateSnapshot: if the run belongs to the past, and the path does not contain the date that the list
            describes.
        """
        # Records and codecs are not needed to parse a DAG.
        from airflow_provider_isvapp.api.schema.fields import documented_paths, lineage_fields
        from airflow_provider_isvapp.transfer.lists import write_list

        self._check_time(context, taken_at)
        date = taken_at.date().isoformat()
        destination = self._destination.with_value(SNAPSHOT_PLACEHOLDER, date)
        result = write_list(
            rows,
            destination,
            dataset=dataset,
            options=self._options,
            row_type=row_type,
            documented=documented_paths(whole_type),
            snapshot_date=date,
            baseline=self._baseline,
            rejected=None if self._rejected is None else self._rejected.with_value(SNAPSHOT_PLACEHOLDER, date),
            request=request,
            fetch_seconds=time.monotonic() - self._started,
            observe=record,
        )
        fields = lineage_fields(row_type, self._options.output_format, excluded=self._options.exclude_fields)
        return Publication(destination=destination, result=result, fields=fields)

    def _check_time(self, context: Context, taken_at: datetime) -> None:
        if self._allow_late or SNAPSHOT_PLACEHOLDER in self._destination.key:
            return
        latest = latest_snapshot(context)
        if latest is not None and taken_at > latest:
            raise LateSnapshot(
                f"The list describes {taken_at:%Y-%m-%d}, and the time of this run ended at "
                f"{latest.astimezone(UTC):%Y-%m-%d %H:%M} UTC: the list would replace older data. Put the literal "
                f"{SNAPSHOT_PLACEHOLDER} into path, or set allow_late_snapshot=True. Nothing was published."
            )
