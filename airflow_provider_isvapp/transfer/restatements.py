# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""How the months of an export differ from those that are stored: the vendor recalculates past months."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from airflow_provider_isvapp.transfer.summary import MonthSummary


class MonthStatus(StrEnum):
    """What a month of an export is to the one that is stored."""

    UNCHANGED = "unchanged"
    """The same rows, in whatever order and spelling."""
    NEW = "new"
    """There is none, or none in this form whose manifest describes it."""
    RELABELLED = "relabelled"
    """Rows differ, but in nothing but names and labels."""
    RESTATED = "restated"
    """Rows differ."""
    MISSING = "missing"
    """The export has no rows for it, although it was asked for; what is stored stays."""


@dataclass(frozen=True, kw_only=True)
class MonthChange:
    """One month, compared with the one that is stored.

    :param status: what was found.
    :param differences: of a restated month, how much more there is of ``rows``, ``accounts`` and each counter than
        before; negative where there is less. All can be 0, where rows have moved among items. None for any other month.
    """

    status: MonthStatus
    differences: Mapping[str, int] | None = None

    @property
    def is_published(self) -> bool:
        """Whether the month replaces what is stored."""
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
        """Say what differs, for a log."""
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
    """Return the stored months that an export lacks, although it was asked for them.

    :param found: the months of its rows.
    :param stored: those that have an object.
    :param expected: the months that were asked for; how many latest ones, where only the vendor knows which; None if
        unknown: then a month is missing between two that were found.
    """
    if isinstance(expected, int):
        window = sorted({*found, *stored})[-expected:]
    elif expected is not None:
        window = sorted(expected)
    else:
        window = [month for month in stored if found and min(found) < month < max(found)]
    return tuple(month for month in sorted(window) if month in stored and month not in found)
