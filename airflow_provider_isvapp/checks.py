# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Checks that a result must pass before it is published: the argument ``checks`` of the operators that write.

A check is a callable that takes a :class:`Candidate` and returns None, or the reason not to publish the result::

    def every_region(candidate):
        for month, figures in candidate.summary.months.items():
            if figures.accounts < 100:
                return f"{month} has only {figures.accounts} accounts"
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from airflow_provider_isvapp.errors import InvalidArgument
from airflow_provider_isvapp.transfer.audit import Candidate
from airflow_provider_isvapp.transfer.summary import KEY, MonthSummary, Summary

__all__ = ["Candidate", "MaxChange", "MonthSummary", "Summary", "TotalsAddUp", "UniqueKeys"]

_PARTS = ("operations_internal", "operations_external")
_TOTAL = "operations"


@dataclass(frozen=True, kw_only=True)
class MaxChange:
    """No figure differs by more than a given share from that of the object at the path, or at ``baseline``.

    The months that both have are compared one by one; a month that only the baseline has, between others of the result,
    counts as one without rows. If they have no month in common, as with the file of the month before, the totals are
    compared. Any result passes without a baseline, and where a figure of the baseline is 0.

    :param rows: the largest allowed change of the number of rows, such as 0.5 for a half; None allows any.
    :param operations: the same for the sum of operations, which a list does not have.
    """

    rows: float | None = 0.5
    operations: float | None = 0.5

    def __post_init__(self) -> None:
        for name in ("rows", "operations"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value > 0):
                raise InvalidArgument(f"MaxChange: {name} must be a share above 0 or None, not {value!r}.")

    def __call__(self, candidate: Candidate) -> str | None:
        """Compare the candidate with its baseline."""
        baseline = candidate.baseline
        if baseline is None:
            return None
        return "; ".join(self._problems(candidate.summary, baseline)) or None

    def _problems(self, found: Summary, baseline: Summary) -> Iterator[str]:
        for where, before, after in _pairs(found, baseline):
            for what, most in (("rows", self.rows), (_TOTAL, self.operations)):
                if most is None or what not in before:
                    continue
                old, new = before[what], after.get(what, 0)
                # Subtract whole numbers: floats cannot distinguish large ones.
                if old and abs(new - old) > most * old:
                    direction = "fewer" if new < old else "more"
                    yield (
                        f"{where} {new:,} {what}, {abs(new - old) / old:.0%} {direction} than the {old:,} of the "
                        f"baseline, and {most:.0%} is allowed"
                    )


def _pairs(found: Summary, baseline: Summary) -> Iterator[tuple[str, dict[str, int], dict[str, int]]]:
    """Yield each comparison: the beginning of the message, and the figures of the baseline and the result by name."""
    months = [month for month in baseline.months if found.months and min(found.months) <= month <= max(found.months)]
    if not any(month in found.months for month in months):
        yield "it has", _totals(baseline), _totals(found)
        return
    for month in months:
        after = found.months.get(month)
        yield f"{month} has", _figures(baseline.months[month]), {"rows": 0} if after is None else _figures(after)


def _figures(month: MonthSummary) -> dict[str, int]:
    return {"rows": month.rows, **month.counters}


def _totals(summary: Summary) -> dict[str, int]:
    totals = {"rows": summary.rows}
    for month in summary.months.values():
        for name, value in month.counters.items():
            totals[name] = totals.get(name, 0) + value
    return totals


@dataclass(frozen=True)
class UniqueKeys:
    """No two rows of an export have the same month, account and item.

    The keys are sorted on disk, in the directory for temporary files, with about 100 bytes per row. A list is always
    checked for repeated keys.
    """

    needs: ClassVar[tuple[str, ...]] = KEY
    indexes_keys: ClassVar[bool] = True

    def __call__(self, candidate: Candidate) -> str | None:
        """Look for repeated keys."""
        repeated = candidate.repeated_keys()
        if repeated is None:
            return None
        first, second = repeated.first
        key = ", ".join(KEY)
        return f"{repeated.rows:,} rows have the {key} of an earlier row; the first are rows {first} and {second}"


@dataclass(frozen=True)
class TotalsAddUp:
    """In every month, the sum of operations equals that of internal and external ones."""

    needs: ClassVar[tuple[str, ...]] = (_TOTAL, *_PARTS)

    def __call__(self, candidate: Candidate) -> str | None:
        """Compare the sums of each month."""
        for month, figures in candidate.summary.months.items():
            if missing := [name for name in self.needs if name not in figures.counters]:
                return f"{month} has no {missing[0]}"
            total, parts = figures.counters[_TOTAL], sum(figures.counters[name] for name in _PARTS)
            if total != parts:
                return f"{month} has {total:,} operations, and {parts:,} internal and external ones together"
        return None
