# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Compares the months of an export with the stored ones: the vendor recalculates past months."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from airflow_provider_isvapp.transfer.summary import MonthSummary


class MonthStatus(StrEnum):
    """How a month of an export compares with the stored one."""

    UNCHANGED = "unchanged"
    """The rows are the same, in any order and JSON formatting."""
    NEW = "new"
    """No such month is stored, or none in this form with a manifest that describes it."""
    RELABELLED = "relabelled"
    """Rows differ only in names and labels."""
    RESTATED = "restated"
    """Rows differ in more than names and labels."""
    MISSING = "missing"
    """The export has no rows for a requested month; the stored object stays."""


@dataclass(frozen=True, kw_only=True)
class MonthChange:
    """The comparison of one month with the stored one.

    :param status: the result of the comparison.
    :param differences: for a restated month, the change of ``rows``, ``accounts`` and each counter; negative for a
        decrease. All can be 0, if rows moved between items. None for any other status.
    """

    status: MonthStatus
    differences: Mapping[str, int] | None = None

    @property
    def is_published(self) -> bool:
        """Whether the month is published, replacing any stored one."""
        return self.status not in (MonthStatus.UNCHANGED, MonthStatus.MISSING)

    def as_json(self) -> dict[str, Any]:
        """Return JSON values, for a manifest and for XCom."""
        differences = None if self.differences is None else dict(self.differences)
        return {"status": str(self.status), "differences": differences}

    @classmethod
    def from_json(cls, value: object) -> MonthChange | None:
        """Read what :meth:`as_json` returned; None for anything else."""
        try:
            return msgspec.convert(value, cls)
        except msgspec.ValidationError:
            return None

    def __str__(self) -> str:
        """Describe the change for a log line."""
        if not self.differences:
            return str(self.status)
        moved = ", ".join(f"{number:+,} {name}" for name, number in self.differences.items() if number)
        return f"{self.status} ({moved or 'the sums are the same'})"


def compare_month(month: MonthSummary, stored: MonthSummary | None) -> MonthChange:
    """Compare a month with the stored one.

    :param stored: None if there is none to compare with.
    """
    if stored is None:
        return MonthChange(status=MonthStatus.NEW)
    if month.digest == stored.digest:
        return MonthChange(status=MonthStatus.UNCHANGED)
    if month.digest_unnamed == stored.digest_unnamed:
        return MonthChange(status=MonthStatus.RELABELLED)
    before, after = _figures(stored), _figures(month)
    names = [*after, *(name for name in before if name not in after)]
    return MonthChange(
        status=MonthStatus.RESTATED,
        differences={name: after.get(name, 0) - before.get(name, 0) for name in names},
    )


def _figures(month: MonthSummary) -> dict[str, int]:
    return {"rows": month.rows, "accounts": month.accounts, **month.counters}


def missing_months(
    found: Collection[str], stored: Collection[str], expected: Collection[str] | int | None
) -> tuple[str, ...]:
    """Return the stored months that were requested but that the export lacks.

    :param found: the months of its rows.
    :param stored: the months that have an object.
    :param expected: the requested months, or the number of latest months if only the vendor knows which. None if
        unknown; only stored months between two found ones are then missing.
    """
    if isinstance(expected, int):
        window = sorted({*found, *stored})[-expected:]
    elif expected is not None:
        window = sorted(expected)
    else:
        window = [month for month in stored if found and min(found) < month < max(found)]
    return tuple(month for month in sorted(window) if month in stored and month not in found)
