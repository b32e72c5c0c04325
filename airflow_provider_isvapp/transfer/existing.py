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

from airflow_provider_isvapp.errors import DamagedDownload
from airflow_provider_isvapp.transfer.audit import find_month_mismatch
from airflow_provider_isvapp.transfer.destination import Destination
from airflow_provider_isvapp.transfer.format import PLACEHOLDER, StorageFormat
from airflow_provider_isvapp.transfer.gzip import Crc32, GzipMembers
from airflow_provider_isvapp.transfer.rows import RowInspector
from airflow_provider_isvapp.transfer.staging.base import METADATA_KEY, ObjectTarget, Provenance

_READ_BYTES = 256 * 1024
# A Parquet file ends with its footer, the footer's length in four bytes, and the magic number it begins with.
_MAGIC = b"PAR1"
_FOOTER_END = 4 + len(_MAGIC)
# Of a file of 300 GB: about 3 KiB for each row group.
_LONGEST_FOOTER = 16 * 1024 * 1024


def recount(target: ObjectTarget, provenance: Provenance, *, compressed: bool) -> Provenance:
    """Read ndjson again and count what the provenance lacks.

    :raises DamagedDownload: if it is not whole.
    """
    inspector, crc32, members = RowInspector(), Crc32(), GzipMembers()
    size = 0
    with target.open() as stored:
        while chunk := stored.read(_READ_BYTES):
            for plain in (out for _, out in members.decode(chunk)) if compressed else (chunk,):
                size += len(plain)
                crc32.update(plain)
                inspector.feed(plain)
    inspector.finish()
    if members.inside_member:
        raise DamagedDownload("it is cut")
    return msgspec.structs.replace(
        provenance, rows=inspector.rows, bytes=size, crc32=str(crc32), months=inspector.months
    )


def footer_provenance(target: ObjectTarget) -> Provenance | None:
    """Read the provenance from the footer of a Parquet file, which is written last and so has the figures."""
    with target.open() as stored:
        footer = _footer(stored)
    try:
        import pyarrow.parquet as pq

        entries = pq.read_metadata(BytesIO(footer)).metadata or {}
    except Exception:  # noqa: BLE001 - whatever a Parquet reader makes of bytes that somebody else wrote
        return None
    return Provenance.from_text(entries.get(METADATA_KEY.encode()))


def _footer(stored: IO[bytes]) -> bytes:
    """Read as much of the end as a footer with its length and the magic number says that it has, within bounds."""
    size = stored.seek(0, os.SEEK_END)
    stored.seek(max(size - _FOOTER_END, 0))
    length = int.from_bytes(stored.read(_FOOTER_END)[:4], "little")
    if length > _LONGEST_FOOTER:
        return b""
    stored.seek(max(size - _FOOTER_END - length, 0))
    return _MAGIC + stored.read(length + _FOOTER_END)


_LOG = logging.getLogger(__name__)


def find_existing_export(
    destination: Destination,
    export_id: str,
    storage_format: StorageFormat,
    *,
    expected_months: Collection[str] | int | None,
) -> Provenance | None:
    """Return the provenance of what is there if it is this export, whole and in this format.

    The provenance says so: it is made with the object, and only verified objects are published. Where it lacks the
    figures (a multipart upload to S3 takes metadata with its first byte), a Parquet file has them in its footer, and
    ndjson is read again and counted, which sends no request to the vendor.

    :param expected_months: as for the download. Tells whether a divided export is complete where no provenance names
        its months.
    """
    if storage_format.partition_by is None:
        provenance = _provenance(destination, export_id, storage_format)
        if provenance is None or provenance.is_complete:
            return provenance
        return _recounted(destination, provenance, storage_format)
    provenances = {}
    for month in destination.values_of(PLACEHOLDER):
        provenance = _provenance(destination.with_value(PLACEHOLDER, month), export_id, storage_format)
        if provenance is not None:
            provenances[month] = provenance
    for provenance in provenances.values():
        if provenance.is_complete:
            return provenance if set(provenance.months or ()) <= set(provenances) else None
    return _recounted_months(destination, provenances, storage_format, expected_months)


def _provenance(destination: Destination, export_id: str, storage_format: StorageFormat) -> Provenance | None:
    target = destination.target()
    provenance = target.provenance()
    if not _is_of(provenance, export_id, storage_format):
        return None
    if not provenance.is_complete and storage_format.output_format == "parquet":
        provenance = footer_provenance(target)
    return provenance if _is_of(provenance, export_id, storage_format) else None


def _is_of(provenance: Provenance | None, export_id: str, storage_format: StorageFormat) -> TypeGuard[Provenance]:
    return provenance is not None and (provenance.export_id, provenance.format) == (export_id, str(storage_format))


def _recounted(destination: Destination, provenance: Provenance, storage_format: StorageFormat) -> Provenance | None:
    if provenance.compressed_bytes is None:
        return None
    _LOG.info("%s says that it holds export %s: reading it to count its rows", destination.uri, provenance.export_id)
    try:
        return recount(destination.target(), provenance, compressed=storage_format.compression == "gzip")
    except DamagedDownload as damage:
        _LOG.warning(
            "%s says that it holds export %s, but %s: writing it again", destination.uri, provenance.export_id, damage
        )
        return None


def _recounted_months(
    destination: Destination,
    provenances: dict[str, Provenance],
    storage_format: StorageFormat,
    expected: Collection[str] | int | None,
) -> Provenance | None:
    """Count large months one by one; which there must be only the request can tell."""
    if (
        not provenances
        or expected is None
        or find_month_mismatch(dict.fromkeys(provenances, 1), expected, required=True) is not None
    ):
        return None
    months = {}
    for month, provenance in provenances.items():
        counted = _recounted(destination.with_value(PLACEHOLDER, month), provenance, storage_format)
        if counted is None:
            return None
        months[month] = counted.rows or 0
    # Size and checksum of the undivided export are not to be had from its months.
    return msgspec.structs.replace(provenance, rows=sum(months.values()), months=months)
