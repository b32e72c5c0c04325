# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Completes the label of a stored object from the object itself."""

from __future__ import annotations

import os
from io import BytesIO
from typing import IO

import msgspec

from airflow_provider_isvapp.errors import DamagedDownload
from airflow_provider_isvapp.transfer.checksum import Crc32
from airflow_provider_isvapp.transfer.gzip_members import GzipMembers
from airflow_provider_isvapp.transfer.label import LABEL_NAME, Label
from airflow_provider_isvapp.transfer.rows import RowInspector
from airflow_provider_isvapp.transfer.storage import Place

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
