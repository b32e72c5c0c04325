# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The metrics of this package: their names, and the events that each one counts. The only module that calls Stats.

Airflow sends them with its own metrics. Plain statsd has no tags: like Airflow's own, these metrics have a second,
longer name that contains the values of the tags, unless ``[metrics] legacy_names_on`` is off.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_isvapp.errors import ExportExpired, ExportFailed
from airflow_provider_isvapp.events import (
    ChecksFailed,
    DownloadFinished,
    DownloadInterrupted,
    Event,
    ExportCreated,
    ExportEnded,
    ExportReattached,
    MonthLate,
    PermitAcquired,
    RequestSent,
)
from airflow_provider_isvapp.version_compat import Stats, conf

if TYPE_CHECKING:
    from airflow_provider_isvapp.api.isvapp.models import Export

log = logging.getLogger(__name__)

TOO_MANY_REQUESTS = 429
# The status of a request without a response.
NO_RESPONSE = "no_response"


class Kind(StrEnum):
    """The statsd types: a sum, a distribution of durations, or the last value."""

    COUNTER = "counter"
    TIMER = "timer"
    GAUGE = "gauge"


class Metric(msgspec.Struct, frozen=True):
    """One metric.

    :param tags: the names of its tags, in the order of their values in the longer name.
    """

    name: str
    kind: Kind
    tags: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Its name and, if it has tags, the pattern of its longer name."""
        return (self.name, ".".join((self.name, *(f"<{tag}>" for tag in self.tags)))) if self.tags else (self.name,)


EXPORTS_CREATED = Metric("isvapp.exports.created", Kind.COUNTER)
EXPORTS_REATTACHED = Metric("isvapp.exports.reattached", Kind.COUNTER)
EXPORTS_COMPLETED = Metric("isvapp.exports.completed", Kind.COUNTER)
EXPORTS_ERRORED = Metric("isvapp.exports.errored", Kind.COUNTER)
EXPORTS_EXPIRED = Metric("isvapp.exports.expired", Kind.COUNTER)
EXPORTS_WAIT = Metric("isvapp.exports.wait", Kind.TIMER)
LATE_MONTHS = Metric("isvapp.late_months", Kind.COUNTER)
REQUESTS = Metric("isvapp.requests", Kind.COUNTER, ("endpoint", "status"))
RATE_LIMITED = Metric("isvapp.rate_limited", Kind.COUNTER)
LIMITER_WAIT = Metric("isvapp.limiter.wait", Kind.TIMER)
DOWNLOADS_ROWS = Metric("isvapp.downloads.rows", Kind.COUNTER)
DOWNLOADS_BYTES = Metric("isvapp.downloads.bytes", Kind.COUNTER)
DOWNLOADS_COMPRESSED_BYTES = Metric("isvapp.downloads.compressed_bytes", Kind.COUNTER)
DOWNLOADS_DURATION = Metric("isvapp.downloads.duration", Kind.TIMER)
DOWNLOADS_RATE = Metric("isvapp.downloads.rate", Kind.GAUGE)
DOWNLOADS_RETRIED = Metric("isvapp.downloads.retried", Kind.COUNTER)
DOWNLOADS_RESUMED = Metric("isvapp.downloads.resumed", Kind.COUNTER)
DOWNLOADS_RESTARTED = Metric("isvapp.downloads.restarted", Kind.COUNTER)
DRIFTED_FIELDS = Metric("isvapp.drifted_fields", Kind.COUNTER)
RESTATED_MONTHS = Metric("isvapp.restated_months", Kind.COUNTER)
CHECKS_FAILED = Metric("isvapp.checks.failed", Kind.COUNTER)

METRICS: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))

# Sent as zero with each export: Prometheus sees an increase only after a first value, so an alert would miss the first
# error.
_ZERO_SAMPLES = tuple(
    metric for metric in METRICS if metric.kind is Kind.COUNTER and not metric.tags and metric is not EXPORTS_CREATED
)

_OUTCOMES = {"completed": EXPORTS_COMPLETED, "errored": EXPORTS_ERRORED, "expired": EXPORTS_EXPIRED}
_INTERRUPTIONS = {
    "retried": DOWNLOADS_RETRIED,
    "resumed": DOWNLOADS_RESUMED,
    "restarted": DOWNLOADS_RESTARTED,
}


def record(event: Event) -> None:
    """Count an event; an :data:`~airflow_provider_isvapp.events.Observer`.

    Never raises: a task must not fail because of a metric.
    """
    try:
        _record(event)
    except Exception as error:  # noqa: BLE001 (the configured client may raise anything)
        _warn_once(f"{type(error).__name__}: {error}")


def _record(event: Event) -> None:
    match event:
        case RequestSent(endpoint=endpoint, status=status):
            _count(REQUESTS, endpoint=endpoint, status=NO_RESPONSE if status is None else str(status))
            if status == TOO_MANY_REQUESTS:
                _count(RATE_LIMITED)
        case PermitAcquired(seconds=seconds):
            _time(LIMITER_WAIT, seconds)
        case ExportCreated():
            _count(EXPORTS_CREATED)
            for metric in _ZERO_SAMPLES:
                _count(metric, 0)
        case ExportReattached():
            _count(EXPORTS_REATTACHED)
        case ExportEnded(outcome=outcome, waited=waited):
            _count(_OUTCOMES[outcome])
            if waited is not None:
                _time(EXPORTS_WAIT, waited)
        case MonthLate():
            _count(LATE_MONTHS)
        case ChecksFailed(checks=checks):
            _count(CHECKS_FAILED, checks)
        case DownloadInterrupted(then=then):
            _count(_INTERRUPTIONS[then])
        case DownloadFinished(
            rows=rows,
            bytes=size,
            compressed_bytes=compressed,
            seconds=seconds,
            drifted_fields=drifted,
            restated_months=restated,
        ):
            _count(DOWNLOADS_ROWS, rows)
            _count(DOWNLOADS_BYTES, size)
            _count(DRIFTED_FIELDS, drifted)
            _count(RESTATED_MONTHS, restated)
            _time(DOWNLOADS_DURATION, seconds)
            if compressed is not None:
                _count(DOWNLOADS_COMPRESSED_BYTES, compressed)
                # A list is one request, whose duration does not measure a transfer rate.
                if seconds > 0:
                    Stats.gauge(DOWNLOADS_RATE.name, round(size / seconds))


def _count(metric: Metric, number: int = 1, **tags: str) -> None:
    if not metric.tags:
        Stats.incr(metric.name, number)
        return
    Stats.incr(metric.name, number, tags=tags)
    if _long_names():
        Stats.incr(".".join((metric.name, *(tags[tag] for tag in metric.tags))), number)


def _time(metric: Metric, seconds: float) -> None:
    # A timedelta, as Airflow's unit for a plain number depends on its version and options.
    Stats.timing(metric.name, timedelta(seconds=seconds))


@cache
def _long_names() -> bool:
    # The option is new in Airflow 3.3; earlier versions always send the longer names.
    return bool(conf.getboolean("metrics", "legacy_names_on", fallback=True))


@cache
def _warn_once(problem: str) -> None:
    """Log a problem once per process, as there may be hundreds of events."""
    log.warning("Metrics are not sent (%s). Check Airflow's section [metrics].", problem)


def record_ready(details: Mapping[str, Any], *, seen_at: datetime, poll_interval: float) -> None:
    """Record a ready export with its waiting time.

    Called by tasks, never by triggers, several of which may wait for one export.

    If the export was ready more than a poll interval before it was seen, no task waited for it, and the vendor's
    completion time counts.

    :param details: the export's, as in an XCom.
    :param seen_at: when it was found ready, timezone-aware.
    :param poll_interval: the longest time in seconds between two polls.
    """
    created_at, completed_at = (_parse_time(details.get(name)) for name in ("created_at", "completed_at"))
    ready_at = seen_at
    if completed_at is not None and seen_at - completed_at > timedelta(seconds=poll_interval):
        ready_at = completed_at
    waited = None if created_at is None else max((ready_at - created_at).total_seconds(), 0.0)
    record(ExportEnded(outcome="completed", waited=waited))


@contextmanager
def record_failures() -> Iterator[None]:
    """Record an export that is found errored or expired within the block."""
    try:
        yield
    except ExportFailed:
        record(ExportEnded(outcome="errored"))
        raise
    except ExportExpired:
        record(ExportEnded(outcome="expired"))
        raise


def record_if_lost(export: Export) -> None:
    """Record an export of an earlier attempt that has errored or expired since."""
    from airflow_provider_isvapp.api.isvapp.export_state import ExportState, classify  # Productiv's operator needs none

    match classify(export, now=datetime.now(UTC)):
        case ExportState.FAILED:
            record(ExportEnded(outcome="errored"))
        case ExportState.EXPIRED:
            record(ExportEnded(outcome="expired"))


async def report_late_month(context: Mapping[str, Any]) -> None:
    """Count and log a month that has not landed: the callback of a ``DeadlineAlert``, run by the triggerer.

    :param context: what Airflow passes to the callback: the run and its deadline.
    """
    run, deadline = context["dag_run"], context["deadline"]
    log.warning(
        "%s has not succeeded by %s: the month of run %s is late",
        run["dag_id"],
        deadline["deadline_time"],
        run["dag_run_id"],
    )
    record(MonthLate())


def _parse_time(text: Any) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None
