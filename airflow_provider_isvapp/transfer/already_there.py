# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Recognises an export that a run before has written to the same place."""

from __future__ import annotations

import logging
from dataclasses import replace

from airflow_provider_isvapp.errors import DamagedDownload
from airflow_provider_isvapp.transfer.checksum import Crc32
from airflow_provider_isvapp.transfer.destination import Destination
from airflow_provider_isvapp.transfer.gzip_members import GzipMembers
from airflow_provider_isvapp.transfer.label import Label
from airflow_provider_isvapp.transfer.rows import RowInspector
from airflow_provider_isvapp.transfer.shape import Shape
from airflow_provider_isvapp.transfer.storage import Place

_READ_BYTES = 256 * 1024

_LOG = logging.getLogger(__name__)


def find_export(destination: Destination, export_id: str, shape: Shape) -> Label | None:
    """Return the full label of the object if it holds this export in this shape.

    The label says so; it was made with the object and goes with it, and only verified objects are published. Where the
    figures could not be added to it (a multipart upload to S3 takes metadata with its first byte), the object is read
    back and counted, which asks nothing of the vendor.
    """
    place = destination.place()
    label = place.label()
    if label is None or label.export_id != export_id or label.shape != str(shape):
        return None
    if None not in (label.rows, label.bytes, label.crc32, label.months, label.compressed_bytes):
        return label
    if shape.output_format != "ndjson" or label.compressed_bytes is None:
        return None
    _LOG.info("%s says that it holds export %s: reading it to count its rows", destination.uri, export_id)
    try:
        return _read_back(place, label, compressed=shape.compression == "gzip")
    except DamagedDownload as damage:
        _LOG.warning("%s says that it holds export %s, but %s: writing it again", destination.uri, export_id, damage)
        return None


def _read_back(place: Place, label: Label, *, compressed: bool) -> Label:
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
    return replace(label, rows=inspector.rows, bytes=size, crc32=str(crc32), months=inspector.months)
