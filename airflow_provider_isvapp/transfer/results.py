# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What a write did."""

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
class WrittenObject:
    """One object that a download wrote.

    :param path: its address.
    :param rows: rows in it.
    :param bytes: its size as it is stored.
    :param crc32: CRC-32 of what is stored, as eight hexadecimal digits.
    :param sha256: SHA-256 of what is stored, if a manifest was wanted.
    :param reference_date: the month that it holds, of an export that was divided.
    """

    path: str
    rows: int
    bytes: int
    crc32: str
    sha256: str | None = None
    reference_date: str | None = None


@dataclass(frozen=True, kw_only=True)
class DownloadResult:
    """One export at its destination.

    :param path: address of the object, or the template of the addresses.
    :param export_id: the export whose rows are there; None if something else was left there (``skipped``).
    :param rows: rows of the export; None if skipped, as the next three are.
    :param bytes: size of the export's plain ndjson in bytes, in whatever form it is stored.
    :param compressed_bytes: size of its gzip file in bytes, as it came over the wire.
    :param crc32: CRC-32 of the plain ndjson as eight hexadecimal digits.
    :param months: rows by ``reference_date``.
    :param objects: the objects that were written; none if nothing was.
    :param manifests: addresses of the manifests that were written.
    :param attempts: answers that the download took: 1 when nothing went wrong, 0 when nothing was asked for.
    :param seconds: how long it took.
    :param outcome: ``written``; ``unchanged`` if the same export was there already; ``skipped`` if something was there
        and ``if_exists`` is ``skip``.
    """

    path: str
    export_id: str | None
    rows: int | None
    bytes: int | None
    compressed_bytes: int | None
    crc32: str | None
    months: dict[str, int] = field(default_factory=dict)
    objects: tuple[WrittenObject, ...] = ()
    manifests: tuple[str, ...] = ()
    attempts: int = 0
    seconds: float = 0.0
    outcome: Outcome = Outcome.WRITTEN
