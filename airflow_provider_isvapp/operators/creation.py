# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Obtains a ready export in a task: created once, when its month is complete, and waited for."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from airflow_provider_isvapp.api.isvapp.models import Export, ExportRequest
from airflow_provider_isvapp.api.schema.isvapp import Aggregation, ExportType, TimeframeKeyword
from airflow_provider_isvapp.errors import ExportTimeout, InvalidArgument, NotFound, RequestRefused
from airflow_provider_isvapp.events import ExportReattached
from airflow_provider_isvapp.hooks.base import raise_airflow_errors
from airflow_provider_isvapp.hooks.isvapp import IsvappHook, retry_until_known
from airflow_provider_isvapp.links.isvapp import EXPORT_LINKS, persist_export_link
from airflow_provider_isvapp.log_messages import Log, StatusLogger, log_ready, log_request
from airflow_provider_isvapp.metrics import record, record_if_lost
from airflow_provider_isvapp.operators.checkpoint import (
    ExportCheckpoint,
    hash_of,
    reason_to_discard,
    reason_to_replace,
)
from airflow_provider_isvapp.triggers.isvapp import EARLIEST_EVENT
from airflow_provider_isvapp.triggers.waiters import interval_after
from airflow_provider_isvapp.version_compat import (
    BaseOperator,
    BaseOperatorLink,
    BaseTrigger,
    Context,
    conf,
    date_time_trigger,
    partition_key_of,
)

if TYPE_CHECKING:
    from airflow_provider_isvapp.api.isvapp.client import IsvappClient

# The text that the template renders if the run has no month.
NO_DATA_INTERVAL = "no data interval"
# The run's partition key or, for a run without one, the month in which its data interval begins, in the DAG's time
# zone. Airflow before 3.2 has no partitions. Some runs have no interval; a timetable such as Airflow 3's plain cron
# gives one that ends when it begins.
MONTH_OF_RUN = (
    "{{ dag_run.partition_key if dag_run.partition_key is defined and dag_run.partition_key is not none"
    " else dag_run.data_interval_start.astimezone(dag.timezone).strftime('%Y-%m')"
    " if dag_run.data_interval_start and dag_run.data_interval_start != dag_run.data_interval_end"
    f" else '{NO_DATA_INTERVAL}' }}}}"
)
_PARTITION_TIMETABLE = 'CronPartitionTimetable("0 6 6 * *", timezone="UTC", run_offset=-1, key_format="%Y-%m")'

REQUEST_INTERVAL = timedelta(hours=1)

# Airflow times out a deferral this long after its due time, if no triggerer has resumed the task.
_TRIGGERER_GRACE = timedelta(hours=1)
# 200 is a refusal, too: the vendor documents the JSON of a failure, but not its status.
_REFUSED_AS_IT_IS = (200, 400, 422)
# A month that ended longer ago is refused for another reason than that it is not complete yet.
_MAY_BE_INCOMPLETE = timedelta(days=31)
_COUNTS: dict[str, int] = {
    TimeframeKeyword.LATEST_COMPLETED_MONTH: 1,
    TimeframeKeyword.LATEST_12_COMPLETED_MONTHS: 12,
}
_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")


def checked_timeframe(timeframe: str, *, partition_key: str | None) -> str:
    """Return a timeframe, unless :data:`MONTH_OF_RUN` rendered it in a run that has no month.

    :param partition_key: the run's partition key; None if it has none.
    """
    if timeframe == NO_DATA_INTERVAL:
        raise InvalidArgument(
            "timeframe: this run has no partition key and no data interval to take the month from. Pass timeframe, for "
            "example timeframe=\"{{ params.month }}\" or 'LATEST_COMPLETED_MONTH', or schedule the DAG with "
            f"CronDataIntervalTimetable or, for partitions, {_PARTITION_TIMETABLE}; trigger a run of partitions with "
            "its key."
        )
    if timeframe == partition_key and not _MONTH.fullmatch(timeframe):
        raise InvalidArgument(
            f"timeframe: the partition key of this run, {partition_key!r:.100}, is not a month (YYYY-MM). Set the "
            f"timetable's key_format, which writes timestamps by default: {_PARTITION_TIMETABLE}. Or pass timeframe."
        )
    return timeframe


def next_request_time(
    timeframe: str, refusal: RequestRefused, *, wait_for_month: timedelta | None, now: datetime
) -> datetime:
    """Return when to request a refused month again.

    Only a month that ended less than ``wait_for_month`` ago can be "not complete yet".

    :param wait_for_month: None makes every refusal final.
    :param now: the current time, timezone-aware.
    :return: a time no later than the deadline, ``wait_for_month`` after the month's end in UTC.
    :raises RequestRefused: if the refusal is final.
    """
    month = _MONTH.fullmatch(timeframe)
    # A subclass of RequestRefused has another reason: credentials, permission, unknown id.
    if month is None or type(refusal) is not RequestRefused or refusal.status not in _REFUSED_AS_IT_IS:
        raise refusal
    end = _end_of_month(int(month[1]), int(month[2]))
    if wait_for_month is None and now < end + _MAY_BE_INCOMPLETE:
        raise RequestRefused(
            f"{refusal} If ISVapp has not completed {timeframe} yet, set wait_for_month, or clear this task later.",
            status=refusal.status,
            vendor_message=refusal.vendor_message,
        )
    if wait_for_month is None or now < end:
        raise refusal
    deadline = end + wait_for_month
    if now >= deadline:
        raise RequestRefused(
            f"{refusal} The month ended at {end:%Y-%m-%d %H:%M} UTC, and wait_for_month ended at "
            f"{deadline:%Y-%m-%d %H:%M} UTC.",
            status=refusal.status,
        )
    return min(now + REQUEST_INTERVAL, deadline)


def _end_of_month(year: int, month: int) -> datetime:
    return datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)


def requested_months(request: ExportRequest) -> tuple[str, ...] | int | None:
    """Return the requested months, or their number if only the vendor knows which; None for undocumented rows."""
    return _COUNTS.get(request.timeframe, (request.timeframe,)) if request.is_documented else None


class CreatingOperator(Protocol):
    """The interface of an operator that creates an export; the operators describe each argument."""

    timeframe: str
    taxonomy_ids: Sequence[str] | None
    taxonomy_level_ids: Sequence[str] | None
    taxonomy_item_ids: Sequence[str] | None
    salesforce_account_ids: Sequence[str] | None
    export_type: str
    aggregation: str
    extra_request: Mapping[str, Any] | None
    wait_for_month: timedelta | None
    deferrable: bool

    @property
    def log(self) -> Any:
        """The logger of the task."""

    def defer(self, *, trigger: BaseTrigger, method_name: str, timeout: timedelta | None = None) -> NoReturn:
        """Wait in the triggerer, and continue in a method."""


def checked_request(operator: CreatingOperator, context: Context) -> ExportRequest:
    """Build the request of a running task from its rendered templates.

    :raises InvalidArgument: naming the argument that is wrong.
    """
    if operator.wait_for_month is not None and not isinstance(operator.wait_for_month, timedelta):
        raise InvalidArgument(f"wait_for_month: must be a timedelta, not {operator.wait_for_month!r}.")
    return ExportRequest.checked(
        timeframe=checked_timeframe(operator.timeframe, partition_key=partition_key_of(context)),
        taxonomy_ids=operator.taxonomy_ids,
        taxonomy_level_ids=operator.taxonomy_level_ids,
        taxonomy_item_ids=operator.taxonomy_item_ids,
        salesforce_account_ids=operator.salesforce_account_ids,
        export_type=operator.export_type,
        aggregation=operator.aggregation,
        extra_request=operator.extra_request,
    )


class ExportCreator:
    """Obtains a task's export: that of an earlier try, or a new one.

    :param operator: the task's operator; it defers or sleeps while the month is not complete yet.
    :param checkpoint: saves the export across retries.
    :param method_name: the operator's method that requests the month again, after a deferral.
    """

    def __init__(
        self, operator: CreatingOperator, client: IsvappClient, checkpoint: ExportCheckpoint, *, method_name: str
    ) -> None:
        self._operator = operator
        self._client = client
        self._checkpoint = checkpoint
        self._method_name = method_name
        self._log: Log = operator.log

    def obtain(self, request: ExportRequest) -> Export:
        """Return the export of an earlier try, or create and save a new one."""
        request_hash = hash_of(request)
        export = self._export_of_earlier_try(request_hash)
        if export is None:
            export = self._create(request)
            self._checkpoint.save(export.id, request_hash=request_hash)
            self._log.info("Export %s is created and %s", export.id, export.status)
        return export

    def _export_of_earlier_try(self, request_hash: str) -> Export | None:
        saved = self._checkpoint.load()
        if saved is None:
            return None
        reason = reason_to_discard(saved, request_hash=request_hash, max_tries=self._checkpoint.max_tries)
        if reason is None:
            export: Export | None
            try:
                export = retry_until_known(
                    partial(self._client.get_export, saved.export_id),
                    known_since=datetime.fromtimestamp(saved.known_since, UTC),
                    log=self._log,
                )
            except NotFound:
                export = None
            reason = reason_to_replace(export, now=datetime.now(UTC))
            if reason is None and export is not None:
                self._log.info("Resuming export %s (%s) from an earlier try", export.id, export.status)
                record(ExportReattached())
                return export
            if export is not None:
                record_if_lost(export)
        self._log.info("Export %s of an earlier try is not used: %s", saved.export_id, reason)
        self._checkpoint.clear()
        return None

    def _create(self, request: ExportRequest) -> Export:
        log_request(self._log, request)
        while True:
            try:
                return self._client.create_export(request)
            except RequestRefused as refusal:
                wait_for_month = self._operator.wait_for_month
                due = next_request_time(
                    request.timeframe, refusal, wait_for_month=wait_for_month, now=datetime.now(UTC)
                )
                said = str(refusal)
            self._log.info(
                "%s counts as not complete yet, since it ended less than %s ago; requesting it again at %s UTC. %s",
                request.timeframe,
                wait_for_month,
                f"{due:%Y-%m-%d %H:%M:%S}",
                said,
            )
            self._wait_until(due)

    def _wait_until(self, due: datetime) -> None:
        if self._operator.deferrable:
            delay = max(due - datetime.now(UTC), timedelta(seconds=EARLIEST_EVENT))
            self._operator.defer(
                trigger=date_time_trigger(datetime.now(UTC) + delay),
                method_name=self._method_name,
                timeout=delay + _TRIGGERER_GRACE,
            )
        time.sleep(max(due.timestamp() - time.time(), 0.0))


def wait_in_worker(
    hook: IsvappHook, export_id: str, *, timeout: float, poll_interval: float, known_since: datetime, log: Log
) -> Export:
    """Poll until an export is ready.

    :param timeout: seconds to wait.
    :param poll_interval: the maximum number of seconds between two polls.
    :param known_since: when the task first had the export's id, timezone-aware.
    :raises ExportTimeout: if it is not ready in time; the message names its last known state.
    :raises ProviderError: if the export errored or expired, or a request failed permanently.
    """
    status_logger = StatusLogger(export_id, log)
    started = time.monotonic()
    while True:
        waited = time.monotonic() - started
        time.sleep(min(interval_after(waited, poll_interval=poll_interval), max(timeout - waited, 0.0)))
        poll = hook.poll_export(export_id, known_since=known_since)
        if poll.ready is not None:
            log_ready(log, poll.ready.details())
            return poll.ready
        if poll.waiting is not None:
            status_logger.update(poll.waiting)
        if time.monotonic() - started >= timeout:
            raise ExportTimeout(
                f"Export {export_id} did not complete within {timeout:.0f} s; {poll.seen}. If such exports take "
                "that long, give the task a longer timeout; clearing it requests a new export.",
                export_id=export_id,
            )


class IsvappCreateExportOperator(BaseOperator):
    """Request an export of feature usage from ISVapp. The XCom is the export's id.

    Each try sends the request once. On Airflow 3.3 the export is saved across retries: a retry reuses it while it is
    pending or can be downloaded, and creates another one only if it errored, expired or is gone, or if the request has
    changed. Clearing the task also creates one, unless its process is running: Airflow then treats the clear as a
    retry. Two crashes can leave behind an export that no task downloads and that expires unused: one after ISVapp's
    response but before Airflow has saved it, and one that prevents the response from arriving. On Airflow 2.11 to 3.2
    each try creates an export; use a separate task for the download there, so that only this short task is repeated.

    :param timeframe: a completed month as ``YYYY-MM``, ``LATEST_COMPLETED_MONTH`` or ``LATEST_12_COMPLETED_MONTHS``
        (templated). The default is the run's partition key, which must be a month, or else the month in which the run's
        data interval begins, in the DAG's time zone.
    :param taxonomy_ids: export all items of these taxonomies (templated). Exactly one of the three id lists is needed.
    :param taxonomy_level_ids: export all items of these taxonomy levels (templated).
    :param taxonomy_item_ids: export these items (templated).
    :param salesforce_account_ids: limit the rows to these accounts, by ids of 15 or 18 characters (templated).
    :param export_type: the type of data.
    :param aggregation: the period that a row covers.
    :param extra_request: further fields of the request, sent unchanged (templated). If set, even to an empty mapping,
        unknown types and aggregations are accepted with a warning; their rows need only be objects.
    :param wait_for_month: how long after the end of a month to wait until ISVapp has completed it. If ISVapp refuses a
        month (``YYYY-MM``) that ended less than this ago, with status 200, 400 or 422, the task repeats the request
        every hour. Any other refusal fails the task at once.
    :param deferrable: wait for the month in the triggerer; the default is Airflow's option ``default_deferrable``.
    :param isvapp_conn_id: an Airflow connection of type ``isvapp`` (templated).
    """

    template_fields: Sequence[str] = (
        "timeframe",
        "taxonomy_ids",
        "taxonomy_level_ids",
        "taxonomy_item_ids",
        "salesforce_account_ids",
        "extra_request",
        "isvapp_conn_id",
    )
    operator_extra_links: Sequence[BaseOperatorLink] = EXPORT_LINKS

    def __init__(
        self,
        *,
        timeframe: str = MONTH_OF_RUN,
        taxonomy_ids: Sequence[str] | None = None,
        taxonomy_level_ids: Sequence[str] | None = None,
        taxonomy_item_ids: Sequence[str] | None = None,
        salesforce_account_ids: Sequence[str] | None = None,
        export_type: str = ExportType.TAXONOMY_ITEM.value,
        aggregation: str = Aggregation.MONTHLY.value,
        extra_request: Mapping[str, Any] | None = None,
        wait_for_month: timedelta | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
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
        self.extra_request = extra_request
        self.wait_for_month = wait_for_month
        self.deferrable = deferrable
        self.isvapp_conn_id = isvapp_conn_id

    @raise_airflow_errors()
    def execute(self, context: Context) -> str:
        """Create the export, and return its id."""
        return self._create(context)

    @raise_airflow_errors()
    def execute_complete(self, context: Context, event: Any = None) -> str:
        """Request the export again, after a wait for the month."""
        return self._create(context)

    def _create(self, context: Context) -> str:
        request = checked_request(self, context)
        with IsvappHook(isvapp_conn_id=self.isvapp_conn_id) as hook:
            creator = ExportCreator(self, hook.get_conn(), ExportCheckpoint(context), method_name="execute_complete")
            export = creator.obtain(request)
        persist_export_link(context, conn_id=self.isvapp_conn_id, export_id=export.id)
        return export.id
