# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Completes the label of a stored object from the object itself."""

from __future__ import annotations

from dataclasses import replace

from airflow_provider_isvapp.errors import DamagedDownload
from airflow_provider_isvapp.transfer.checksum import Crc32
from airflow_provider_isvapp.transfer.gzip_members import GzipMembers
from airflow_provider_isvapp.transfer.label import LABEL_NAME, Label
from airflow_provider_isvapp.transfer.rows import RowInspector
from airflow_provider_isvapp.transfer.storage import Place

_READ_BYTES = 256 * 1024


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
    return replace(label, rows=inspector.rows, bytes=size, crc32=str(crc32), months=inspector.months)


def footer_label(place: Place) -> Label | None:
    """Read the label from the footer of a Parquet file, which is written last and so has the figures."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with place.open() as stored:
            entries = pq.read_metadata(stored).metadata or {}
    except pa.ArrowInvalid:
        return None
    return Label.from_text(entries.get(LABEL_NAME.encode(), b"").decode())
