# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The result of a write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from airflow_provider_isvapp.transfer.drift import Drift
from airflow_provider_isvapp.transfer.restatements import MonthChange
from airflow_provider_isvapp.transfer.staging.base import Provenance


class Outcome(StrEnum):
    """The effect of a write on its destination."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"


@dataclass(frozen=True, kw_only=True)
class WrittenObject:
    """One object that was written.

    :param path: the object's URI.
    :param rows: the number of rows.
    :param bytes: the size of the stored object.
    :param crc32: CRC-32 of the stored bytes as eight hexadecimal digits.
    :param sha256: SHA-256 of the stored bytes; None without a manifest.
    :param reference_date: the object's month, if the export was partitioned.
    :param version: the storage's own id of these bytes: ETag, generation, or size and modification time of a file; None
        before it is published.
    :param checksum: the storage's own checksum as ``algorithm:value``, if it reported one.
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
    """The result of one check.

    :param check: the check's name.
    :param reason: the problem that it found; None if it passed or was skipped.
    """

    check: str
    outcome: Literal["passed", "skipped", "failed"]
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class WriteResult:
    """One export or list at its destination.

    :param path: URI of the object, or the template of the URIs.
    :param export_id: the export at the path; None for a list, and if another object stays there (``skipped``).
    :param rows: the number of rows; None if skipped, like the next three.
    :param bytes: size of the plain ndjson in bytes, regardless of the stored format.
    :param compressed_bytes: size of the export's gzip file in bytes, as received; None for a list.
    :param crc32: CRC-32 of the plain ndjson as eight hexadecimal digits.
    :param months: an export's rows by ``reference_date``.
    :param snapshot_date: the date that a list describes; None for an export.
    :param objects: the written objects; empty if nothing was written.
    :param manifests: URIs of the manifests at the path.
    :param changes: with ``if_changed``, how each month compares with the one that was stored before, including stored
        months that the export lacks; None without. Months that an earlier try of the same task published keep the
        change that it recorded.
    :param drift: the differences of rows from their documentation, one per field; None if rows were not compared with
        it.
    :param attempts: the number of responses that a download used: 1 if nothing failed, 0 if nothing was requested.
    :param seconds: duration of the download, verification and publication.
    :param sizes_verified: whether the file was compared with a size in the export's record; None if nothing was
        downloaded.
    :param checks: the result of each check; empty if none ran, for example because nothing was written.
    :param baseline: URI of the object that the checks compared with; None if there was none.
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
    def from_provenance(cls, path: str, provenance: Provenance, **more: Any) -> WriteResult:
        """Return the result of a write that found or made an object with this provenance.

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
