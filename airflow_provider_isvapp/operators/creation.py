# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Has an export created: once, when its month is complete, and not again after a crash."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.api.isvapp.export_state import ExportState, decide
from airflow_provider_isvapp.api.isvapp.models import Aggregation, Export, ExportRequest, ExportType, TimeframeKeyword
from airflow_provider_isvapp.errors import InvalidArgument, NotFound, RequestRefused
from airflow_provider_isvapp.events import ExportReattached
from airflow_provider_isvapp.hooks.base import airflow_errors
from airflow_provider_isvapp.hooks.export_look import when_known
from airflow_provider_isvapp.hooks.export_outcome import count_if_lost
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.links.isvapp import EXPORT_LINKS, link_to_export
from airflow_provider_isvapp.log_messages import log_request
from airflow_provider_isvapp.metrics import record
from airflow_provider_isvapp.triggers.moment import MomentTrigger
from airflow_provider_isvapp.version_compat import BaseOperator, BaseOperatorLink, Context, conf

# What the template says where there is no month to take.
NO_DATA_INTERVAL = "no data interval"
# The month in which the run's data interval begins, as the DAG's time zone sees it. A run without an interval has none
# or, from a timetable such as Airflow 3's plain cron, one that ends as it begins.
MONTH_OF_RUN = (
    "{{ dag_run.data_interval_start.astimezone(dag.timezone).strftime('%Y-%m')"
    " if dag_run.data_interval_start and dag_run.data_interval_start != dag_run.data_interval_end"
    f" else '{NO_DATA_INTERVAL}' }}}}"
)

ASK_AGAIN_AFTER = timedelta(hours=1)

# 200 is a refusal, too: the vendor documents the failure's JSON, and not its status.
_REFUSED_AS_IT_IS = (200, 400, 422)
_COUNTS: dict[str, int] = {
    TimeframeKeyword.LATEST_COMPLETED_MONTH: 1,
    TimeframeKeyword.LATEST_12_COMPLETED_MONTHS: 12,
}
_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")


def checked_timeframe(timeframe: str) -> str:
    """Refuse what :data:`MONTH_OF_RUN` says about a run without a data interval."""
    if timeframe == NO_DATA_INTERVAL:
        raise InvalidArgument(
            "timeframe: this run has no data interval to take the month from. Pass timeframe, for example "
            "timeframe=\"{{ params.month }}\" or 'LATEST_COMPLETED_MONTH', or schedule the DAG with "
            "CronDataIntervalTimetable."
        )
    return timeframe


def ask_again_at(timeframe: str, refusal: RequestRefused, *, wait_for_month: timedelta, now: datetime) -> datetime:
    """Say when to ask again for a month that was refused.

    Only a month that has ended, less than ``wait_for_month`` ago, can be "not complete yet".

    :param now: the present time, aware.
    :return: a moment that is not after the deadline, which is ``wait_for_month`` after the month's end in UTC.
    :raises RequestRefused: if the refusal is final.
    """
    month = _MONTH.fullmatch(timeframe)
    # An error below RequestRefused has a reason of its own: credentials, permission, unknown id.
    if month is None or type(refusal) is not RequestRefused or refusal.status not in _REFUSED_AS_IT_IS:
        raise refusal
    end = _end_of_month(int(month[1]), int(month[2]))
    if now < end:
        raise refusal
    deadline = end + wait_for_month
    if now >= deadline:
        raise RequestRefused(
            f"{refusal} The month ended at {end:%Y-%m-%d %H:%M} UTC, and wait_for_month was over at "
            f"{deadline:%Y-%m-%d %H:%M} UTC.",
            status=refusal.status,
        )
    return min(now + ASK_AGAIN_AFTER, deadline)


def _end_of_month(year: int, month: int) -> datetime:
    return datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)


def requested_months(timeframe: str) -> tuple[str, ...] | int:
    """Return the months that a timeframe stands for; how many, if only the vendor knows which."""
    return _COUNTS.get(timeframe, (timeframe,))


STORE_KEY = "isvapp_export"


def fingerprint_of(request: ExportRequest) -> str:
    """Return a short text that is equal for equal requests only."""
    return hashlib.sha256(json.dumps(request.payload(), sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class RememberedExport:
    """What is kept of an export.

    :param fingerprint: of the request that it was created with.
    :param max_tries: Airflow's bookkeeping at that time.
    :param known_since: when it was created, in seconds since the epoch.
    """

    export_id: str
    fingerprint: str
    max_tries: int
    known_since: float


def reason_to_start_afresh(remembered: RememberedExport, *, fingerprint: str, max_tries: int) -> str | None:
    """Say why an export is not even worth asking for; None if it is."""
    if remembered.max_tries != max_tries:
        return "the task was cleared since"
    if remembered.fingerprint != fingerprint:
        return "the request has changed since"
    return None


def reason_to_replace(export: Export | None, *, now: datetime) -> str | None:
    """Say why an export cannot be taken over; None if it can.

    :param export: as the vendor shows it now; None if the vendor does not know it.
    :param now: the present time, aware.
    """
    if export is None:
        return "ISVapp does not know it"
    match decide(export, now=now):
        case ExportState.FAILED:
            return f"it errored ({export.error_message or 'no reason given'})"
        case ExportState.EXPIRED:
            return "it has expired"
        case ExportState.WAITING | ExportState.READY:
            return None


class ExportMemory:
    """The place of one task for the export that it has created.

    :param context: of the running task. Without a store in it, nothing is kept.
    """

    def __init__(self, context: Context) -> None:
        self._store: Any = context.get("task_state_store")
        self._max_tries = 0 if self._store is None else int(context["ti"].max_tries)

    @property
    def max_tries(self) -> int:
        """Airflow's bookkeeping now."""
        return self._max_tries

    def recall(self) -> RememberedExport | None:
        """Return what was kept, if anything that this version understands."""
        match None if self._store is None else self._store.get(STORE_KEY):
            case {
                "export_id": str(export_id),
                "fingerprint": str(fingerprint),
                "max_tries": int(max_tries),
                "known_since": float(known_since),
            }:
                return RememberedExport(
                    export_id=export_id, fingerprint=fingerprint, max_tries=max_tries, known_since=known_since
                )
        return None

    def keep(self, export_id: str, *, fingerprint: str) -> None:
        """Keep an export for the next try."""
        if self._store is not None:
            kept = RememberedExport(
                export_id=export_id, fingerprint=fingerprint, max_tries=self._max_tries, known_since=time.time()
            )
            self._store.set(STORE_KEY, asdict(kept))

    def is_first_sight(self) -> bool:
        """Say whether the kept export is seen to be ready for the first time in all tries, and keep that it was."""
        kept = None if self._store is None else self._store.get(STORE_KEY)
        if not isinstance(kept, dict):
            return True
        if kept.get("seen_ready"):
            return False
        self._store.set(STORE_KEY, {**kept, "seen_ready": True})
        return True

    def forget(self) -> None:
        """Let the next try create an export of its own."""
        if self._store is not None:
            self._store.delete(STORE_KEY)


# Airflow ends a deferral by itself this many seconds after its moment, if no triggerer could.
_TRIGGERER_GRACE = 3600.0


class CreatesExport(BaseOperator):
    """Base of the operators that have an export created; the fields are described there."""

    template_fields: Sequence[str] = (
        "timeframe",
        "taxonomy_ids",
        "taxonomy_level_ids",
        "taxonomy_item_ids",
        "salesforce_account_ids",
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
        self.wait_for_month = wait_for_month
        self.deferrable = deferrable
        self.isvapp_conn_id = isvapp_conn_id

    @airflow_errors()
    def execute(self, context: Context) -> Any:
        """Check the arguments, have the export created and go on with it."""
        return self._start(context)

    @airflow_errors()
    def ask_again(self, context: Context, event: Any = None) -> Any:
        """Start once more, after a wait for the month."""
        return self._start(context)

    def _start(self, context: Context) -> Any:
        raise NotImplementedError

    def _checked_request(self) -> ExportRequest:
        if self.wait_for_month is not None and not isinstance(self.wait_for_month, timedelta):
            raise InvalidArgument(f"wait_for_month: must be a timedelta, not {self.wait_for_month!r}.")
        return ExportRequest.checked(
            timeframe=checked_timeframe(self.timeframe),
            taxonomy_ids=self.taxonomy_ids,
            taxonomy_level_ids=self.taxonomy_level_ids,
            taxonomy_item_ids=self.taxonomy_item_ids,
            salesforce_account_ids=self.salesforce_account_ids,
            export_type=self.export_type,
            aggregation=self.aggregation,
        )

    def _obtain_export(
        self, context: Context, request: ExportRequest, client: IsvappClient, memory: ExportMemory
    ) -> Export:
        """Return the export of an earlier try, or a new one; it is on record then."""
        fingerprint = fingerprint_of(request)
        export = self._export_of_earlier_try(fingerprint, client, memory)
        if export is None:
            export = self._create(request, client)
            memory.keep(export.id, fingerprint=fingerprint)
            self.log.info("Export %s is created and %s", export.id, export.status)
        link_to_export(context, conn_id=self.isvapp_conn_id, export_id=export.id)
        return export

    def _export_of_earlier_try(self, fingerprint: str, client: IsvappClient, memory: ExportMemory) -> Export | None:
        remembered = memory.recall()
        if remembered is None:
            return None
        reason = reason_to_start_afresh(remembered, fingerprint=fingerprint, max_tries=memory.max_tries)
        if reason is None:
            export: Export | None
            try:
                export = when_known(
                    partial(client.get_export, remembered.export_id),
                    known_since=datetime.fromtimestamp(remembered.known_since, UTC),
                    log=self.log,
                )
            except NotFound:
                export = None
            reason = reason_to_replace(export, now=datetime.now(UTC))
            if reason is None and export is not None:
                self.log.info("Export %s of an earlier try is %s: going on with it", export.id, export.status)
                record(ExportReattached())
                return export
            if export is not None:
                count_if_lost(export)
        self.log.info("Export %s of an earlier try is not used: %s", remembered.export_id, reason)
        memory.forget()
        return None

    def _create(self, request: ExportRequest, client: IsvappClient) -> Export:
        log_request(self.log, request)
        while True:
            try:
                return client.create_export(request)
            except RequestRefused as refusal:
                if self.wait_for_month is None:
                    raise
                moment = ask_again_at(
                    request.timeframe, refusal, wait_for_month=self.wait_for_month, now=datetime.now(UTC)
                )
                said = str(refusal)
            self.log.info(
                "%s is taken as not complete yet, since it ended less than %s ago; asking again at %s UTC. %s",
                request.timeframe,
                self.wait_for_month,
                f"{moment:%Y-%m-%d %H:%M:%S}",
                said,
            )
            self._wait_until(moment)

    def _wait_until(self, moment: datetime) -> None:
        seconds = max(moment.timestamp() - time.time(), 0.0)
        if self.deferrable:
            self.defer(
                trigger=MomentTrigger(moment=moment.timestamp()),
                method_name="ask_again",
                timeout=timedelta(seconds=seconds + _TRIGGERER_GRACE),
            )
        time.sleep(seconds)
