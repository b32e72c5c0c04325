# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What was written."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """What a download did to its destination."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"


@dataclass(frozen=True, kw_only=True)
class WriteResult:
    """One object of JSON lines.

    :param path: its address.
    :param rows: lines in it.
    :param bytes: its size.
    """

    path: str
    rows: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class DownloadResult:
    """One export that was downloaded, verified and published.

    :param path: address of the object.
    :param export_id: the export whose rows it holds.
    :param rows: rows of the export.
    :param bytes: size of the export's plain ndjson in bytes.
    :param compressed_bytes: size of its gzip file in bytes, as it came over the wire.
    :param crc32: CRC-32 of the plain ndjson as eight hexadecimal digits.
    :param months: rows by ``reference_date``.
    :param attempts: answers it took; 1 when nothing went wrong.
    :param seconds: how long the transfer took.
    """

    path: str
    export_id: str
    rows: int
    bytes: int
    compressed_bytes: int
    crc32: str
    months: dict[str, int] = field(default_factory=dict)
    attempts: int = 1
    seconds: float = 0.0
    outcome: Outcome = Outcome.WRITTEN
