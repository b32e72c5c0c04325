# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Writes a list from memory: Salesforce accounts or apps."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from airflow_provider_isvapp.api.schema.fields import Object
from airflow_provider_isvapp.errors import AuditRefused, CheckFailed, DamagedDownload, MalformedRows, ProviderError
from airflow_provider_isvapp.events import ChecksFailed, DownloadFinished, Observer, no_op_observer
from airflow_provider_isvapp.transfer.audit import (
    Candidate,
    MinRows,
    Rule,
    as_documented,
    check_rejected,
    find_problem,
    refusal,
    run_checks,
)
from airflow_provider_isvapp.transfer.destination import Destination
from airflow_provider_isvapp.transfer.drift import DriftReport, RowChecker
from airflow_provider_isvapp.transfer.exclude_fields import FieldFilter
from airflow_provider_isvapp.transfer.existing import has_rows, must_keep_existing
from airflow_provider_isvapp.transfer.gzip import Crc32
from airflow_provider_isvapp.transfer.manifest import Description, check_targets, find_manifests, publish_with_manifests
from airflow_provider_isvapp.transfer.options import SNAPSHOT_PLACEHOLDER, WriteOptions
from airflow_provider_isvapp.transfer.results import Outcome, WriteResult
from airflow_provider_isvapp.transfer.rows import ListRow, RowBatch, RowInspector
from airflow_provider_isvapp.transfer.staging.base import Provenance
from airflow_provider_isvapp.transfer.writers import Chunk, SingleObjectWriter

_LOG = logging.getLogger(__name__)

_BATCH_BYTES = 256 * 1024


def check_list(destination: Destination, options: WriteOptions) -> None:
    """Check the options, and that the objects can be written, before anything is requested.

    :raises InvalidArgument: if an argument is wrong, or the path cannot be written.
    :raises StorageFailed: if the storage refuses.
    """
    options.check_for_list(destination.uri)
    # The date is not known yet: a placeholder date is checked.
    check_targets([destination.with_value(SNAPSHOT_PLACEHOLDER, "0000-00-00")], options)


def write_list(
    rows: Sequence[bytes],
    destination: Destination,
    *,
    dataset: str,
    row_type: type[Object],
    options: WriteOptions = WriteOptions(),  # noqa: B008 - frozen
    documented: Collection[str] = (),
    snapshot_date: str | None = None,
    baseline: Destination | None = None,
    rejected: Destination | None = None,
    request: Mapping[str, Any] | None = None,
    fetch_seconds: float = 0.0,
    observe: Observer = no_op_observer,
    log: logging.Logger = _LOG,
    clock: Callable[[], float] = time.monotonic,
) -> WriteResult:
    """Write a list to an object, one row per line, published as a whole or not at all.

    :param rows: the rows, each the vendor's own bytes of one JSON object without a newline.
    :param destination: the location of the object.
    :param dataset: the list's name, for its provenance.
    :param row_type: the documented structure of a row.
    :param options: how the list is written. By default, an empty list is refused.
    :param documented: paths of the fields that the vendor documents, for ``exclude_fields``.
    :param snapshot_date: the date that the list describes, for the manifest.
    :param baseline: the location of the object that the checks compare with; None for the destination.
    :param rejected: where a list that fails a check is kept for inspection.
    :param request: the parameters that the list was requested with, for the manifest.
    :param fetch_seconds: how long the request for the rows took; counts towards the duration.
    :param observe: called with an event at the end of a successful write.
    :param log: the logger for messages.
    :param clock: returns monotonic time in seconds.
    :raises InvalidArgument: if an argument is wrong; nothing was written.
    :raises DamagedDownload: if a row is not one JSON object on one line, or lacks a unique key.
    :raises AuditRefused: if the list has fewer than ``min_rows`` rows, or differs from its documentation and
        ``on_drift`` is ``fail``. The existing object stays.
    :raises CheckFailed: if a check finds a problem in the list.
    :raises CheckError: if a check raises.
    :raises DestinationExists: if an object with other content exists and ``if_exists`` is ``fail``.
    :raises StorageFailed: if the storage refused; the message says whether the list is published without its manifest.
    """
    check_list(destination, options)
    if rejected is not None:
        check_rejected(rejected, destination, options)
    started = clock() - fetch_seconds
    rules: list[Rule] = [MinRows(fewest=1 if options.min_rows is None else options.min_rows)]
    if options.on_drift == "fail":
        rules.append(as_documented)
    fields = FieldFilter(options.exclude_fields)
    provenance = _describe(rows, dataset, options, fields)
    fields.check(documented)
    drift = _compare(rows, row_type, dataset, options)
    candidate = Candidate(staged=provenance, drift=drift, replaces_rows=lambda: has_rows(destination))
    problem = find_problem(candidate, rules)
    existing = destination.target().info()
    if existing is not None and existing.provenance == provenance:
        manifests = find_manifests(destination, provenance, options, snapshot_date=snapshot_date)
        if (manifests or not options.writes_manifest) and problem is None:
            log.info("%s already holds this list: nothing to write", destination.uri)
            return WriteResult.from_provenance(
                destination.uri,
                provenance,
                snapshot_date=snapshot_date,
                manifests=manifests or () if options.writes_manifest else (),
                drift=tuple(drift),
                outcome=Outcome.UNCHANGED,
                seconds=clock() - started,
            )

    def skipped() -> WriteResult:
        return WriteResult(
            path=destination.uri, snapshot_date=snapshot_date, outcome=Outcome.SKIPPED, seconds=clock() - started
        )

    if must_keep_existing(destination, options):
        log.info("%s exists, and if_exists is 'skip': nothing to write", destination.uri)
        return skipped()
    if problem is not None:
        raise AuditRefused(f"The list {dataset} was refused: {problem}. Nothing was published.")
    audit = run_checks(candidate, options, baseline=baseline or destination, log=log)
    if audit.reasons:
        observe(ChecksFailed(checks=len(audit.reasons)))
        kept = ""
        if rejected is not None:
            accepted = options.without_audit()
            try:
                write_list(
                    rows,
                    rejected,
                    dataset=dataset,
                    row_type=row_type,
                    options=accepted,
                    documented=documented,
                    snapshot_date=snapshot_date,
                )
                kept = f" It is kept at {rejected.uri} for inspection."
            except ProviderError as error:
                kept = f" It could not be kept at {rejected.uri}: {error}"
        raise CheckFailed(refusal(f"The list {dataset}", audit.reasons) + kept, reasons=audit.reasons)
    writer = SingleObjectWriter(destination, options, provenance=provenance, row_type=row_type)
    try:
        for batch in _batches(rows):
            stored = fields.strip(batch)
            writer.write(Chunk(memoryview(b""), stored, [RowBatch(stored)]))
        objects, manifests = publish_with_manifests(
            writer.commit,
            writer.flush(provenance),
            destination=destination,
            options=options,
            description=Description(
                provenance=provenance,
                dates={"snapshot_date": snapshot_date},
                request=request,
                drift=drift,
                summary=candidate.summary,
                checks=audit.results,
            ),
        )
    finally:
        writer.abort()
    if not objects:
        return skipped()
    result = WriteResult.from_provenance(
        destination.uri,
        provenance,
        snapshot_date=snapshot_date,
        objects=objects,
        manifests=manifests,
        drift=tuple(drift),
        checks=audit.results,
        baseline=audit.baseline,
        seconds=clock() - started,
    )
    observe(
        DownloadFinished(
            rows=provenance.rows or 0,
            bytes=provenance.bytes or 0,
            compressed_bytes=None,
            seconds=result.seconds,
            drifted_fields=len(drift),
        )
    )
    return result


def _describe(rows: Sequence[bytes], dataset: str, options: WriteOptions, fields: FieldFilter) -> Provenance:
    """Verify the rows and return the provenance of the stored ones."""
    inspector, crc32, sha256 = RowInspector(ListRow), Crc32(), hashlib.sha256()
    size = 0
    for batch in _batches(rows):
        inspector.feed(batch)
        kept = fields.strip(batch)
        crc32.update(kept)
        sha256.update(kept)
        size += len(kept)
    inspector.finish()
    return Provenance(
        format=options.storage_format,
        dataset=dataset,
        sha256=sha256.hexdigest(),
        rows=inspector.rows,
        bytes=size,
        crc32=str(crc32),
    )


def _compare(rows: Sequence[bytes], row_type: type[Object], dataset: str, options: WriteOptions) -> DriftReport:
    """Compare the rows with their documentation.

    ndjson keeps a value of a wrong type unchanged; a Parquet column has one type.
    """
    checker = RowChecker(row_type, allow_wrong_types=options.output_format == "ndjson", unique=True)
    try:
        for number, row in enumerate(rows, start=1):
            checker.check(row, number)
    except MalformedRows as error:
        problem = DamagedDownload(
            f"The list {dataset} differs from its documentation: {error}. Nothing was published. Try again later; "
            "if it lasts, ask the vendor."
        )
    else:
        return checker.report
    raise problem


def _batches(rows: Sequence[bytes]) -> Iterator[bytes]:
    batch: list[bytes] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row) + 1
        if size >= _BATCH_BYTES:
            yield b"\n".join(batch) + b"\n"
            batch, size = [], 0
    if batch:
        yield b"\n".join(batch) + b"\n"
