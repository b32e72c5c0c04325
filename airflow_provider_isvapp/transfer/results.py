# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What a write did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from airflow_provider_isvapp.transfer.drift import Drift
from airflow_provider_isvapp.transfer.restatements import MonthChange
from airflow_provider_isvapp.transfer.staging.base import Provenance


class Outcome(StrEnum):
    """What a write did to its destination."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"


@dataclass(frozen=True, kw_only=True)
class WrittenObject:
    """One object that was written.

    :param path: its URI.
    :param rows: rows in it.
    :param bytes: its size as it is stored.
    :param crc32: CRC-32 of what is stored, as eight hexadecimal digits.
    :param sha256: SHA-256 of what is stored, if a manifest was wanted.
    :param reference_date: the month that it holds, of an export that was divided.
    :param version: the storage's own id of these bytes: ETag, generation, or size and modification time of a file; None
        before it is published.
    :param checksum: the storage's own checksum as ``algorithm:value``, if it told one.
    """

    path: str
    rows: int
    bytes: int
    crc32: str
    sha256: str | None = None
    reference_date: str | None = None
    version: str | None = None
    checksum: str | None = None


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """What came of one check.

    :param check: its name.
    :param reason: why it refused the result.
    """

    check: str
    outcome: Literal["passed", "skipped", "refused"]
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class WriteResult:
    """One export or list at its destination.

    :param path: URI of the object, or the template of the URIs.
    :param export_id: the export at the path; None for a list, and if another object was left there (``skipped``).
    :param rows: all rows; None if skipped, as the next three are.
    :param bytes: size of the plain ndjson in bytes, in whatever format it is stored.
    :param compressed_bytes: size of the export's gzip file in bytes, as received; None for a list.
    :param crc32: CRC-32 of the plain ndjson as eight hexadecimal digits.
    :param months: an export's rows by ``reference_date``.
    :param snapshot_date: the date that a list describes; None for an export.
    :param objects: the objects that were written; none if nothing was.
    :param manifests: URIs of the manifests at the path.
    :param changes: with ``if_changed``, what each month of the export is to the one that was stored before, and stored
        months that it lacks; None without. Those that an earlier try of the same task has published are as it found
        them.
    :param drift: where rows differ from their documentation, each field once; None if that was not looked for.
    :param attempts: responses that a download took: 1 when nothing went wrong, 0 when nothing was requested.
    :param seconds: duration of the download, verification and publication.
    :param sizes_verified: whether the export's record stated a size that the file was compared with; None if nothing
        was downloaded.
    :param checks: what came of each check; none if nothing was checked, as where nothing was written.
    :param baseline: URI of what the checks compared with; None if there was nothing.
    :param outcome: ``written``; ``unchanged`` if an object with the same content exists, or no month has changed;
        ``skipped`` if another object exists and ``if_exists`` is ``skip``.
    """

    path: str
    export_id: str | None = None
    rows: int | None = None
    bytes: int | None = None
    compressed_bytes: int | None = None
    crc32: str | None = None
    months: dict[str, int] = field(default_factory=dict)
    snapshot_date: str | None = None
    objects: tuple[WrittenObject, ...] = ()
    manifests: tuple[str, ...] = ()
    changes: Mapping[str, MonthChange] | None = None
    drift: tuple[Drift, ...] | None = None
    attempts: int = 0
    seconds: float = 0.0
    sizes_verified: bool | None = None
    checks: tuple[CheckResult, ...] = ()
    baseline: str | None = None
    outcome: Outcome = Outcome.WRITTEN

    @classmethod
    def of(cls, path: str, provenance: Provenance, **more: Any) -> WriteResult:
        """Return the result of a write that found or made this.

        :param more: the other fields.
        """
        return cls(
            path=path,
            export_id=provenance.export_id,
            rows=provenance.rows,
            bytes=provenance.bytes,
            compressed_bytes=provenance.compressed_bytes,
            crc32=provenance.crc32,
            months=provenance.months or {},
            **more,
        )
