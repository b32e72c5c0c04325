# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Downloads one export: bytes in, verified, published whole or not at all."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

from airflow_provider_isvapp.errors import DamagedDownload, DestinationExists, InvalidArgument
from airflow_provider_isvapp.events import DownloadFinished, DownloadInterrupted, Observer, no_op_observer
from airflow_provider_isvapp.transfer.audit import find_month_mismatch
from airflow_provider_isvapp.transfer.destination import Destination
from airflow_provider_isvapp.transfer.existing import find_existing_export
from airflow_provider_isvapp.transfer.format import PLACEHOLDER, IfExists, OutputFormat, StorageFormat, Validate
from airflow_provider_isvapp.transfer.manifest import find_manifests, manifest_of, staged_manifests
from airflow_provider_isvapp.transfer.pipeline import TransferPipeline
from airflow_provider_isvapp.transfer.results import DownloadResult, Outcome
from airflow_provider_isvapp.transfer.resume import ExportSource, RestartRequired, ResumableDownload, RetryBudget
from airflow_provider_isvapp.transfer.staging.base import Provenance
from airflow_provider_isvapp.transfer.writers import PartitionedWriter, RowWriter, SingleObjectWriter

_LOG = logging.getLogger(__name__)


def download_export(
    source: ExportSource,
    destination: Destination,
    *,
    export_id: str | None = None,
    if_exists: IfExists = "overwrite",
    output_format: OutputFormat = "ndjson",
    compression: Literal["gzip"] | None = None,
    partition_by: Literal["reference_date"] | None = None,
    validate: Validate = "structure",
    expected_months: Collection[str] | int | None = None,
    require_months: bool = False,
    manifest: bool = False,
    request: Mapping[str, Any] | None = None,
    attempts: int = 5,
    cancelled: Callable[[], bool] = lambda: False,
    log: logging.Logger = _LOG,
    observe: Observer = no_op_observer,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> DownloadResult:
    """Bring the rows of an export to storage.

    One pass in bounded memory: received, decompressed, checked, counted and staged. Only when the last check has passed
    is anything published; on any error what was there before stays and nothing new is left.

    :param source: opens the export's file.
    :param destination: where the object shall be; with ``{reference_date}`` in it for ``partition_by``.
    :param export_id: the export's id. With it, an object that already holds this export in this form is recognised, and
        nothing is downloaded, whatever ``if_exists`` says.
    :param if_exists: what to do about an object that is there: ``overwrite`` it, ``skip`` the download, or ``fail``.
    :param output_format: ``ndjson``, the vendor's own bytes, or ``parquet`` (needs the extra ``parquet``).
    :param compression: ``gzip`` to store ndjson compressed: the vendor's own gzip file, or a new one of each month.
    :param partition_by: ``reference_date`` for one object a month.
    :param validate: ``structure``: each line is one JSON object; ``full``: each row has the documented fields.
    :param expected_months: the months that were asked for (``YYYY-MM``), where a row of another one is an error; or how
        many consecutive ones, where only the vendor knows which.
    :param require_months: whether each of ``expected_months`` must have a row.
    :param manifest: write a manifest beside each object, last.
    :param request: the export's request, for the manifest.
    :param attempts: how many answers may be used up by connections that break and bodies that are damaged.
    :param cancelled: asked several times a second; when it says yes, the transfer stops.
    :param log: where progress goes.
    :param observe: told of each new attempt, and of the end of a download that succeeds.
    :param clock: seconds that only grow.
    :param sleep: how to wait between attempts.
    :raises InvalidArgument: if an argument is wrong; nothing was requested.
    :raises DamagedDownload: if the file is not whole and sound, after the last attempt, or lacks a month.
    :raises BrokenTransfer: if the connection broke, after the last attempt.
    :raises DestinationExists: if there is an object and ``if_exists`` is ``fail``.
    :raises StorageFailed: if the storage refused.
    :raises TransferCancelled: if ``cancelled`` said yes.
    """
    storage_format = StorageFormat(
        output_format=output_format, compression=compression, partition_by=partition_by, validate=validate
    )
    storage_format.check(destination.uri)
    if if_exists not in ("overwrite", "skip", "fail"):
        raise InvalidArgument(f"if_exists must be 'overwrite', 'skip' or 'fail', not {if_exists!r}.")
    if require_months and not expected_months:
        raise InvalidArgument("require_months needs expected_months: the months that the export was asked for.")
    check_targets(destination, storage_format, expected_months=expected_months, manifest=manifest)
    started = clock()
    if export_id is not None:
        found = find_existing_export(destination, export_id, storage_format, expected_months=expected_months)
        if (
            found is not None
            and find_month_mismatch(found.months or {}, expected_months, required=require_months) is None
        ):
            there = find_manifests(destination, found, storage_format) if manifest else ()
            if there is not None:
                log.info("%s already holds export %s: nothing to download", destination.uri, export_id)
                return _result(
                    destination, found, manifests=there, outcome=Outcome.UNCHANGED, seconds=clock() - started
                )
    if partition_by is None and if_exists != "overwrite" and destination.target().exists():
        if if_exists == "fail":
            raise DestinationExists(f"{destination.uri} exists, and if_exists is 'fail'.")
        log.info("%s exists, and if_exists is 'skip': nothing to download", destination.uri)
        return _result(destination, None, outcome=Outcome.SKIPPED, seconds=clock() - started)

    def open_writer(provenance: Provenance) -> RowWriter:
        kind = SingleObjectWriter if partition_by is None else PartitionedWriter
        return kind(destination, storage_format, if_exists=if_exists, provenance=provenance, sha256=manifest)

    manifests: tuple[str, ...] = ()
    budget = RetryBudget(attempts, log=log, sleep=sleep)
    while True:
        resumable = ResumableDownload(source, budget, observe=observe)
        run = TransferPipeline(
            resumable, storage_format, open_writer=open_writer, cancelled=cancelled, log=log, clock=clock
        )
        try:
            with run.verified() as provenance:
                problem = find_month_mismatch(provenance.months or {}, expected_months, required=require_months)
                if problem is not None:
                    # The file is sound, so it would be the same another time.
                    raise _WrongMonths(
                        f"Export {provenance.export_id} is not what was asked for: {problem}. Nothing was published. "
                        "The vendor recalculates months at times: request a new export later."
                    )
                if not manifest:
                    run.publish()
                else:
                    with staged_manifests(
                        destination,
                        run.objects,
                        export=resumable.export,
                        provenance=provenance,
                        storage_format=storage_format,
                        request=request,
                    ) as manifests:
                        run.publish()
        except RestartRequired:
            log.warning(
                "The rest of export %s cannot be had: reading it from its beginning again.", resumable.export.id
            )
            observe(DownloadInterrupted(then="restarted"))
            continue
        except _WrongMonths:
            raise
        except DamagedDownload as damage:
            budget.backoff_or_raise(
                DamagedDownload(
                    f"The download of export {resumable.export.id} is damaged: {damage}. Nothing was published."
                )
            )
            observe(DownloadInterrupted(then="retried"))
            continue
        result = _result(
            destination,
            provenance,
            objects=tuple(run.objects),
            manifests=manifests,
            attempts=budget.used,
            seconds=clock() - started,
            # All its months were there, and were to stay.
            outcome=Outcome.SKIPPED if provenance.rows and not run.objects else Outcome.WRITTEN,
        )
        observe(
            DownloadFinished(
                rows=result.rows or 0,
                bytes=result.bytes or 0,
                compressed_bytes=result.compressed_bytes or 0,
                seconds=result.seconds,
            )
        )
        return result


def check_targets(
    destination: Destination,
    storage_format: StorageFormat,
    *,
    expected_months: Collection[str] | int | None,
    manifest: bool,
) -> None:
    """See that the objects of a download can be written, as far as that can be known before anything is requested.

    :param expected_months: as for :func:`download_export`. Where the months are not known, the name of any is tried.
    :raises InvalidArgument: if a name or a thing of another kind is in the way.
    :raises StorageFailed: if the storage refuses.
    """
    objects = [destination]
    if storage_format.partition_by is not None:
        months = ("0000-00",) if expected_months is None or isinstance(expected_months, int) else expected_months
        objects = [destination.with_value(PLACEHOLDER, month) for month in months]
    for item in objects:
        item.target().check()
        if manifest:
            manifest_of(item).target().check()


class _WrongMonths(DamagedDownload):
    """The file is whole, but of other months."""


def _result(destination: Destination, provenance: Provenance | None, **more: Any) -> DownloadResult:
    if provenance is None:
        return DownloadResult(
            path=destination.uri, export_id=None, rows=None, bytes=None, compressed_bytes=None, crc32=None, **more
        )
    return DownloadResult(
        path=destination.uri,
        export_id=provenance.export_id,
        rows=provenance.rows,
        bytes=provenance.bytes,
        compressed_bytes=provenance.compressed_bytes,
        crc32=provenance.crc32,
        months=provenance.months or {},
        **more,
    )
