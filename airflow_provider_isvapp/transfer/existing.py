# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Recognises an export that an earlier run has written to the same place."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from io import BytesIO
from typing import IO, TypeGuard

import msgspec

from airflow_provider_isvapp.errors import DamagedDownload
from airflow_provider_isvapp.transfer.audit import month_problem
from airflow_provider_isvapp.transfer.destination import Destination
from airflow_provider_isvapp.transfer.format import PLACEHOLDER, Shape
from airflow_provider_isvapp.transfer.gzip import Crc32, GzipMembers
from airflow_provider_isvapp.transfer.rows import RowInspector
from airflow_provider_isvapp.transfer.staging.base import LABEL_NAME, Label, Place

_READ_BYTES = 256 * 1024
# A Parquet file ends with its footer, the footer's length in four bytes, and the magic number it begins with.
_MAGIC = b"PAR1"
_FOOTER_END = 4 + len(_MAGIC)
# Of a file of 300 GB: about 3 KiB for each row group.
_LONGEST_FOOTER = 16 * 1024 * 1024


def read_back(place: Place, label: Label, *, compressed: bool) -> Label:
    """Read ndjson and count what the label lacks.

    :raises DamagedDownload: if it is not whole.
    """
    inspector, crc32, members = RowInspector(), Crc32(), GzipMembers()
    size = 0
    with place.open() as stored:
        while chunk := stored.read(_READ_BYTES):
            for plain in (out for _, out in members.decode(chunk)) if compressed else (chunk,):
                size += len(plain)
                crc32.update(plain)
                inspector.feed(plain)
    inspector.finish()
    if members.inside_member:
        raise DamagedDownload("it is cut")
    return msgspec.structs.replace(label, rows=inspector.rows, bytes=size, crc32=str(crc32), months=inspector.months)


def footer_label(place: Place) -> Label | None:
    """Read the label from the footer of a Parquet file, which is written last and so has the figures."""
    with place.open() as stored:
        footer = _footer(stored)
    try:
        import pyarrow.parquet as pq

        entries = pq.read_metadata(BytesIO(footer)).metadata or {}
    except Exception:  # noqa: BLE001 - whatever a Parquet reader makes of bytes that somebody else wrote
        return None
    return Label.from_text(entries.get(LABEL_NAME.encode()))


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


def find_export(
    destination: Destination, export_id: str, shape: Shape, *, expected_months: Collection[str] | int | None
) -> Label | None:
    """Return the label of what is there if it is this export, whole and in this shape.

    The label says so; it was made with the object and goes with it, and only verified objects are published. Where the
    figures could not be added to it (a multipart upload to S3 takes metadata with its first byte), a Parquet file has
    them in its footer, and ndjson is read back and counted, which asks nothing of the vendor.

    :param expected_months: as for the download. Tells whether a divided export is complete where no label says which
        months it has.
    """
    if shape.partition_by is None:
        label = _label(destination, export_id, shape)
        if label is None or label.is_full:
            return label
        return _counted(destination, label, shape)
    labels = {}
    for month in destination.values_of(PLACEHOLDER):
        label = _label(destination.filled(PLACEHOLDER, month), export_id, shape)
        if label is not None:
            labels[month] = label
    for label in labels.values():
        if label.is_full:
            return label if set(label.months or ()) <= set(labels) else None
    return _counted_months(destination, labels, shape, expected_months)


def _label(destination: Destination, export_id: str, shape: Shape) -> Label | None:
    place = destination.place()
    label = place.label()
    if not _is_of(label, export_id, shape):
        return None
    if not label.is_full and shape.output_format == "parquet":
        label = footer_label(place)
    return label if _is_of(label, export_id, shape) else None


def _is_of(label: Label | None, export_id: str, shape: Shape) -> TypeGuard[Label]:
    return label is not None and (label.export_id, label.shape) == (export_id, str(shape))


def _counted(destination: Destination, label: Label, shape: Shape) -> Label | None:
    if label.compressed_bytes is None:
        return None
    _LOG.info("%s says that it holds export %s: reading it to count its rows", destination.uri, label.export_id)
    try:
        return read_back(destination.place(), label, compressed=shape.compression == "gzip")
    except DamagedDownload as damage:
        _LOG.warning(
            "%s says that it holds export %s, but %s: writing it again", destination.uri, label.export_id, damage
        )
        return None


def _counted_months(
    destination: Destination, labels: dict[str, Label], shape: Shape, expected: Collection[str] | int | None
) -> Label | None:
    """Count large months one by one; which there must be only the request can tell."""
    if not labels or expected is None or month_problem(dict.fromkeys(labels, 1), expected, required=True) is not None:
        return None
    months = {}
    for month, label in labels.items():
        counted = _counted(destination.filled(PLACEHOLDER, month), label, shape)
        if counted is None:
            return None
        months[month] = counted.rows or 0
    # Size and checksum of the undivided export are not to be had from its months.
    return msgspec.structs.replace(label, rows=sum(months.values()), months=months)
