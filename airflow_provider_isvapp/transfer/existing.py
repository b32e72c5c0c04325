# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Recognises an export that an earlier run wrote to the same path."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from io import BytesIO
from typing import IO, TypeGuard

import msgspec

from airflow_provider_isvapp.errors import DamagedDownload, DestinationExists
from airflow_provider_isvapp.transfer.audit import find_month_mismatch, is_month
from airflow_provider_isvapp.transfer.destination import Destination
from airflow_provider_isvapp.transfer.gzip import Crc32, GzipMembers
from airflow_provider_isvapp.transfer.manifest import provenance_in_manifest, read_manifest
from airflow_provider_isvapp.transfer.options import MONTH_PLACEHOLDER, WriteOptions
from airflow_provider_isvapp.transfer.restatements import MonthChange, MonthStatus, compare_month, missing_months
from airflow_provider_isvapp.transfer.rows import RowInspector
from airflow_provider_isvapp.transfer.staging.base import METADATA_KEY, ObjectTarget, Provenance
from airflow_provider_isvapp.transfer.summary import Summary

_READ_BYTES = 256 * 1024
# A Parquet file ends with its footer, the footer's length in four bytes, and the magic number it begins with.
_MAGIC = b"PAR1"
_GZIP_MAGIC = b"\x1f\x8b"
_FOOTER_END = 4 + len(_MAGIC)
# Enough for a file of 300 GB: a footer has about 3 KiB per row group.
_LONGEST_FOOTER = 16 * 1024 * 1024


def recount(target: ObjectTarget, provenance: Provenance, options: WriteOptions) -> Provenance:
    """Read stored ndjson to compute the figures that its provenance lacks.

    :raises DamagedDownload: if it is not whole.
    """
    inspector, crc32, members = RowInspector(max_row_bytes=options.max_row_bytes), Crc32(), GzipMembers()
    compressed = options.compression is not None
    size = 0
    with target.open() as stored:
        while chunk := stored.read(_READ_BYTES):
            for plain in (out for _, out in members.decode(chunk)) if compressed else (chunk,):
                size += len(plain)
                crc32.update(plain)
                inspector.feed(plain)
    inspector.finish()
    if members.inside_member:
        raise DamagedDownload("it is truncated")
    return msgspec.structs.replace(
        provenance, rows=inspector.rows, bytes=size, crc32=str(crc32), months=inspector.months
    )


def provenance_in_footer(target: ObjectTarget) -> Provenance | None:
    """Read the provenance from the footer of a Parquet file, which is written last and has all figures."""
    with target.open() as stored:
        footer = _footer(stored)
    try:
        import pyarrow.parquet as pq

        entries = pq.read_metadata(BytesIO(footer)).metadata or {}
    except Exception:  # noqa: BLE001 - pyarrow raises errors without a common base for bytes that are not Parquet
        return None
    return Provenance.from_text(entries.get(METADATA_KEY.encode()))


def _footer(stored: IO[bytes]) -> bytes:
    """Read the footer with its length and the magic number; return nothing if it would be implausibly long."""
    size = stored.seek(0, os.SEEK_END)
    stored.seek(max(size - _FOOTER_END, 0))
    length = int.from_bytes(stored.read(_FOOTER_END)[:4], "little")
    if length > _LONGEST_FOOTER:
        return b""
    stored.seek(max(size - _FOOTER_END - length, 0))
    return _MAGIC + stored.read(length + _FOOTER_END)


_LOG = logging.getLogger(__name__)


def must_keep_existing(destination: Destination, options: WriteOptions) -> bool:
    """Whether an object with other content exists and must stay.

    :raises DestinationExists: if one exists and ``if_exists`` is ``fail``.
    """
    if options.if_exists == "overwrite" or destination.target().info() is None:
        return False
    if options.if_exists == "fail":
        raise DestinationExists(f"{destination.uri} exists, and if_exists is 'fail'.")
    return True


def has_rows(destination: Destination) -> bool:
    """Whether the first bytes or the footer of the existing object show rows; False if there is no object.

    Content that this package cannot read counts as rows: another program may have written it.
    """
    target = destination.target()
    if target.info() is None:
        return False
    with target.open() as stored:
        begin = stored.read(_READ_BYTES)
        if begin.startswith(_MAGIC):
            return _parquet_rows(_footer(stored)) != 0
    if begin.startswith(_GZIP_MAGIC):
        members = GzipMembers()
        try:
            shows_rows = any(plain.strip() for _, plain in members.decode(begin))
        except DamagedDownload:
            return True
        return shows_rows or members.inside_member
    return bool(begin.strip())


def _parquet_rows(footer: bytes) -> int | None:
    try:
        import pyarrow.parquet as pq

        rows: int = pq.read_metadata(BytesIO(footer)).num_rows
    except Exception:  # noqa: BLE001 - pyarrow raises errors without a common base for bytes that are not Parquet
        return None
    return rows


def compare_with_existing(
    destination: Destination,
    summary: Summary,
    options: WriteOptions,
    *,
    expected_months: Collection[str] | int | None,
    task_run: str | None,
) -> tuple[dict[str, MonthChange], frozenset[str]]:
    """Compare the months of a partitioned export with the stored ones.

    An earlier try of the same task may have published a month and died before it reported that. Such a month keeps the
    change that the earlier try recorded in the manifest.

    :param summary: the figures of the export.
    :param expected_months: as for the download.
    :param task_run: identifies the task instance across its tries.
    :return: the change of each month, including stored months that the export lacks; and the months to write.
    """
    changes, differing = {}, set()
    for month, found in summary.months.items():
        stored = read_manifest(destination.with_value(MONTH_PLACEHOLDER, month))
        comparable = stored is not None and options.describes(stored.format)
        before = Summary.from_json(stored.summary) if stored is not None and comparable else None
        change = compare_month(found, None if before is None else before.months.get(month))
        if change.is_published:
            differing.add(month)
        elif stored is not None and task_run is not None and stored.task_run == task_run:
            change = MonthChange.from_json(stored.change) or change
        changes[month] = change
    stored_months = [month for month in destination.values_of(MONTH_PLACEHOLDER) if is_month(month)]
    for month in missing_months(summary.months, stored_months, expected_months):
        if destination.with_value(MONTH_PLACEHOLDER, month).target().info() is not None:
            changes[month] = MonthChange(status=MonthStatus.MISSING)
    return dict(sorted(changes.items())), frozenset(differing)


def find_existing_export(
    destination: Destination,
    export_id: str,
    options: WriteOptions,
    *,
    expected_months: Collection[str] | int | None,
) -> Provenance | None:
    """Return the provenance of the existing object if it holds this export, complete and in this format.

    The stored provenance is proof: it is written with the object, and only verified objects are published. It can lack
    the figures, since a multipart upload to S3 takes its metadata at the start. A Parquet file then has them in its
    footer, and ndjson in its manifest. ndjson without a manifest is read and counted again, without a request to the
    vendor.

    :param expected_months: as for the download. Decides whether a partitioned export is complete if no provenance lists
        its months.
    """
    if options.partition_by is None:
        provenance = _provenance(destination, export_id, options)
        if provenance is None or provenance.is_complete:
            return provenance
        return _recounted(destination, provenance, options)
    provenances = {}
    for month in destination.values_of(MONTH_PLACEHOLDER):
        provenance = _provenance(destination.with_value(MONTH_PLACEHOLDER, month), export_id, options)
        if provenance is not None:
            provenances[month] = provenance
    for provenance in provenances.values():
        if provenance.is_complete:
            return provenance if set(provenance.months or ()) <= set(provenances) else None
    return _recounted_months(destination, provenances, options, expected_months)


def _provenance(destination: Destination, export_id: str, options: WriteOptions) -> Provenance | None:
    target = destination.target()
    info = target.info()
    provenance = None if info is None else info.provenance
    if not _is_of(provenance, export_id, options):
        return None
    if not provenance.is_complete and options.output_format == "parquet":
        provenance = provenance_in_footer(target)
    elif not provenance.is_complete and options.writes_manifest:
        described = provenance_in_manifest(destination)
        provenance = described if _is_of(described, export_id, options) else provenance
    return provenance if _is_of(provenance, export_id, options) else None


def _is_of(provenance: Provenance | None, export_id: str, options: WriteOptions) -> TypeGuard[Provenance]:
    return provenance is not None and (provenance.export_id, provenance.format) == (export_id, options.storage_format)


def _recounted(destination: Destination, provenance: Provenance, options: WriteOptions) -> Provenance | None:
    if provenance.compressed_bytes is None:
        return None
    _LOG.info("The metadata of %s names export %s: reading it to count its rows", destination.uri, provenance.export_id)
    try:
        return recount(destination.target(), provenance, options)
    except DamagedDownload as damage:
        _LOG.warning(
            "The metadata of %s names export %s, but %s: writing it again",
            destination.uri,
            provenance.export_id,
            damage,
        )
        return None


def _recounted_months(
    destination: Destination,
    provenances: dict[str, Provenance],
    options: WriteOptions,
    expected: Collection[str] | int | None,
) -> Provenance | None:
    """Count large months one by one, if they are the requested ones."""
    if (
        not provenances
        or expected is None
        or find_month_mismatch(dict.fromkeys(provenances, 1), expected, required=True) is not None
    ):
        return None
    months = {}
    for month, provenance in provenances.items():
        counted = _recounted(destination.with_value(MONTH_PLACEHOLDER, month), provenance, options)
        if counted is None:
            return None
        months[month] = counted.rows or 0
    # The size and checksum of the whole export do not follow from those of its months.
    return msgspec.structs.replace(provenance, rows=sum(months.values()), months=months)
