# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Downloads one export, verifies it, and publishes each object as a whole or not at all."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any

from airflow_provider_isvapp.errors import (
    DamagedDownload,
    ExportCheckFailed,
    ExportRefused,
    InvalidArgument,
    ProviderError,
    TransferCancelled,
)
from airflow_provider_isvapp.events import (
    ChecksFailed,
    DownloadFinished,
    DownloadInterrupted,
    Observer,
    no_op_observer,
)
from airflow_provider_isvapp.transfer.audit import (
    Candidate,
    ExpectedMonths,
    MinRows,
    Rule,
    as_documented,
    check_rejected,
    find_month_mismatch,
    find_problem,
    refusal,
    run_checks,
)
from airflow_provider_isvapp.transfer.destination import Destination
from airflow_provider_isvapp.transfer.existing import (
    compare_with_existing,
    find_existing_export,
    has_rows,
    must_keep_existing,
)
from airflow_provider_isvapp.transfer.manifest import Description, check_targets, find_manifests, publish_with_manifests
from airflow_provider_isvapp.transfer.options import MONTH_PLACEHOLDER, WriteOptions
from airflow_provider_isvapp.transfer.pipeline import TransferPipeline
from airflow_provider_isvapp.transfer.restatements import MonthChange, MonthStatus
from airflow_provider_isvapp.transfer.results import Outcome, WriteResult
from airflow_provider_isvapp.transfer.resume import ExportSource, RestartRequired, ResumableDownload, RetryBudget
from airflow_provider_isvapp.transfer.staging.base import Provenance
from airflow_provider_isvapp.transfer.writers import PartitionedWriter, RowWriter, SingleObjectWriter

_LOG = logging.getLogger(__name__)


def download_export(
    source: ExportSource,
    destination: Destination,
    *,
    export_id: str | None = None,
    options: WriteOptions = WriteOptions(),  # noqa: B008 - frozen
    expected_months: Collection[str] | int | None = None,
    require_months: bool = False,
    baseline: Destination | None = None,
    rejected: Destination | None = None,
    request: Mapping[str, Any] | None = None,
    task_run: str | None = None,
    attempts: int = 5,
    cancelled: Callable[[], bool] = lambda: False,
    log: logging.Logger = _LOG,
    observe: Observer = no_op_observer,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> WriteResult:
    """Download an export to storage.

    The file is received, decompressed, checked, counted and staged in one pass, in bounded memory. Nothing is published
    before the last check has passed: on an error before that, existing objects stay and nothing new is left behind.
    Then the objects are published one after the other, and their manifests last. On an error in between, each object is
    whole, but some objects or manifests may be new and the others old.

    :param source: opens the export's file.
    :param destination: the location of the object; with ``{reference_date}`` in it for ``partition_by``.
    :param export_id: the export's id. With it, an object that already holds this export in this form is recognised, and
        nothing is downloaded, regardless of ``if_exists``.
    :param options: how the export is written.
    :param expected_months: the requested months (``YYYY-MM``), or the number of consecutive months if only the vendor
        knows which. A row of another month is an error.
    :param require_months: whether each of ``expected_months`` must have a row; otherwise, the log warns of one without.
    :param baseline: the location of the object that the checks compare with; None for the destination.
    :param rejected: where a refused result is kept for inspection; this downloads the file again.
    :param request: the export's request, for the manifest.
    :param task_run: with ``if_changed``, identifies the task instance across its tries. For months that an earlier try
        published, the result has the change that it recorded.
    :param attempts: the most responses to use, including broken connections and damaged bodies.
    :param cancelled: called several times per second; the transfer stops when it returns true.
    :param log: the logger for progress.
    :param observe: called with an event at each new attempt, and at the end of a successful download.
    :param clock: returns monotonic time in seconds.
    :param sleep: waits for some seconds between attempts.
    :raises InvalidArgument: if an argument is wrong; nothing was requested.
    :raises DamagedDownload: if the file is truncated or corrupt, after the last attempt.
    :raises ExportRefused: if the file is intact, but has malformed rows, a missing or unexpected month or too few rows,
        or differs from its documentation and ``on_drift`` is ``fail``.
    :raises ExportCheckFailed: if a check finds a problem in its rows.
    :raises CheckError: if a check raises.
    :raises BrokenTransfer: if the connection broke, after the last attempt.
    :raises DestinationExists: if an object exists and ``if_exists`` is ``fail``.
    :raises StorageFailed: if the storage refused.
    :raises TransferCancelled: if ``cancelled`` returned true.
    """
    check_download(destination, options, expected_months=expected_months, require_months=require_months)
    if rejected is not None:
        check_rejected(rejected, destination, options)
    started = clock()
    rules: list[Rule] = [
        ExpectedMonths(expected=expected_months, required=require_months),
        MinRows(fewest=options.min_rows),
        *([as_documented] if options.on_drift == "fail" else []),
    ]

    def candidate(staged: Provenance, **more: Any) -> Candidate:
        # A partitioned export without rows writes no object, and so replaces none.
        replaces_one = options.partition_by is None
        return Candidate(staged=staged, replaces_rows=lambda: replaces_one and has_rows(destination), **more)

    def warn_of_missing_months(export: str, found: Provenance) -> None:
        if mismatch := find_month_mismatch(found.months or {}, expected_months, required=True):
            kept = "" if options.partition_by is None else " A stored object of a month without rows stays as it is."
            log.warning(
                "Export %s is incomplete: %s.%s ISVapp may be recalculating. To refuse such an export, set "
                "require_months=True.",
                export,
                mismatch,
                kept,
            )

    # With if_changed, unchanged months still belong to an earlier export.
    if export_id is not None and options.if_changed is None:
        present = find_existing_export(destination, export_id, options, expected_months=expected_months)
        if present is not None and find_problem(candidate(present), rules) is None:
            manifests = find_manifests(destination, present, options) if options.writes_manifest else ()
            if manifests is not None:
                log.info("%s already holds export %s: nothing to download", destination.uri, export_id)
                warn_of_missing_months(export_id, present)
                return WriteResult.from_provenance(
                    destination.uri, present, manifests=manifests, outcome=Outcome.UNCHANGED, seconds=clock() - started
                )
    if options.partition_by is None and must_keep_existing(destination, options):
        log.info("%s exists, and if_exists is 'skip': nothing to download", destination.uri)
        return WriteResult(path=destination.uri, outcome=Outcome.SKIPPED, seconds=clock() - started)

    def open_writer(provenance: Provenance) -> RowWriter:
        if options.partition_by is not None:
            return PartitionedWriter(destination, options, provenance=provenance)
        return SingleObjectWriter(destination, options, provenance=provenance, as_received=options.stores_vendors_file)

    def store_rejected(location: Destination) -> str:
        """Store a refused result at another location, and return a sentence about it."""
        accepting = options.without_audit()
        try:
            download_export(
                source,
                location,
                export_id=export_id,
                options=accepting,
                attempts=attempts,
                cancelled=cancelled,
                sleep=sleep,
            )
        except TransferCancelled:
            raise
        except ProviderError as error:
            return f"It could not be kept at {location.uri}: {error}"
        return f"It is kept at {location.uri} for inspection."

    budget = RetryBudget(attempts, log=log, sleep=sleep)
    while True:
        resumable = ResumableDownload(source, budget, observe=observe)
        run = TransferPipeline(resumable, options, open_writer=open_writer, cancelled=cancelled, log=log, clock=clock)
        try:
            with run.verified() as provenance:
                export = resumable.export
                found = candidate(
                    provenance,
                    drift=run.drift,
                    figures=run.summary,
                    repeated_keys=(lambda: None) if run.keys is None else run.keys.repeated,
                )
                if problem := find_problem(found, rules):
                    raise ExportRefused(f"Export {export.id} was refused: {problem}. Nothing was published.")
                audit = run_checks(found, options, baseline=baseline or destination, log=log)
                if audit.reasons:
                    raise ExportCheckFailed(refusal(f"Export {export.id}", audit.reasons), reasons=audit.reasons)
                warn_of_missing_months(export.id, provenance)
                found_objects, changes = run.objects, None
                if options.if_changed is not None and run.summary is not None:
                    changes, differing = compare_with_existing(
                        destination, run.summary, options, expected_months=expected_months, task_run=task_run
                    )
                    found_objects = [item for item in run.objects if item.reference_date in differing]
                objects, manifests = publish_with_manifests(
                    run.commit,
                    found_objects,
                    destination=destination,
                    options=options,
                    description=Description(
                        provenance=provenance,
                        dates={"created_at": _iso(export.created_at), "completed_at": _iso(export.completed_at)},
                        request=request,
                        drift=run.drift,
                        summary=run.summary,
                        changes=changes,
                        task_run=task_run,
                        checks=audit.results,
                    ),
                )
        except ExportCheckFailed as refused:
            observe(ChecksFailed(checks=len(refused.reasons)))
            if rejected is not None:
                refused.args = (f"{refused} {store_rejected(rejected)}",)
            raise
        except RestartRequired:
            log.warning("The download of export %s cannot be resumed: restarting it.", resumable.export.id)
            observe(DownloadInterrupted(then="restarted"))
            continue
        except DamagedDownload as damage:
            budget.backoff_or_raise(
                DamagedDownload(
                    f"The download of export {resumable.export.id} is damaged: {damage}. Nothing was published."
                )
            )
            observe(DownloadInterrupted(then="retried"))
            continue
        result = WriteResult.from_provenance(
            destination.uri,
            provenance,
            objects=objects,
            manifests=manifests,
            changes=changes,
            drift=None if run.drift is None else tuple(run.drift),
            checks=audit.results,
            baseline=audit.baseline,
            attempts=budget.used,
            seconds=clock() - started,
            sizes_verified=resumable.export.states_sizes,
            outcome=_outcome(changes) if not objects and (provenance.rows or run.objects) else Outcome.WRITTEN,
        )
        observe(
            DownloadFinished(
                rows=result.rows or 0,
                bytes=result.bytes or 0,
                compressed_bytes=result.compressed_bytes or 0,
                seconds=result.seconds,
                drifted_fields=len(result.drift or ()),
                restated_months=sum(
                    changes is not None and changes[item.reference_date or ""].status == MonthStatus.RESTATED
                    for item in objects
                ),
            )
        )
        return result


def check_download(
    destination: Destination,
    options: WriteOptions,
    *,
    expected_months: Collection[str] | int | None,
    require_months: bool,
) -> None:
    """Check the arguments, and that the objects can be written, before anything is requested.

    :param expected_months: as for :func:`download_export`. If the months are unknown, a placeholder month is checked.
    :param require_months: as for :func:`download_export`.
    :raises InvalidArgument: if an argument is wrong, or the path cannot be written.
    :raises StorageFailed: if the storage refuses.
    """
    options.check_for_export(destination.uri)
    if require_months and not expected_months:
        raise InvalidArgument(
            "require_months needs expected_months, since an export's record does not show the requested months."
        )
    destinations = [destination]
    if options.partition_by is not None:
        months = ("0000-00",) if expected_months is None or isinstance(expected_months, int) else expected_months
        destinations = [destination.with_value(MONTH_PLACEHOLDER, month) for month in months]
    check_targets(destinations, options)


def _outcome(changes: Mapping[str, MonthChange] | None) -> Outcome:
    """Return why nothing was written: no month has changed, or every month existed and had to stay."""
    return Outcome.SKIPPED if changes is None else Outcome.UNCHANGED


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
