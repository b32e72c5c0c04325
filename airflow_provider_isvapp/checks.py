# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Checks that a result has to pass before it is published: the argument ``checks`` of the operators that write.

A check is a callable. It gets a :class:`Candidate` and returns None, or why the result must not be published::

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
    """No figure changes by more than a share, up or down, from what lies at the path, or at ``baseline``.

    Each month that both have is compared by itself; a month of the baseline that is missing between others counts as
    one without rows. Where they have no month in common, as with the file of the month before, the totals are compared.
    Without a baseline, and where a figure of it is 0, any result passes.

    :param rows: the largest change of the number of rows: 0.5 for a half. None for any.
    :param operations: the same of the sum of operations, which a list does not have.
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
                # Whole numbers, which a float could not tell apart.
                if old and abs(new - old) > most * old:
                    direction = "fewer" if new < old else "more"
                    yield (
                        f"{where} {new:,} {what}, {abs(new - old) / old:.0%} {direction} than the {old:,} of the "
                        f"baseline, and {most:.0%} is allowed"
                    )


def _pairs(found: Summary, baseline: Summary) -> Iterator[tuple[str, dict[str, int], dict[str, int]]]:
    """Yield what is compared: how a sentence begins, and the figures of both by name."""
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
    """No two rows of an export are of the same month, account and item.

    The keys are sorted on disk, about 100 bytes for each row, in the folder for temporary files. A list is always
    checked so.
    """

    needs: ClassVar[tuple[str, ...]] = KEY
    indexes_keys: ClassVar[bool] = True

    def __call__(self, candidate: Candidate) -> str | None:
        """Look for a key that is there twice."""
        repeated = candidate.repeated_keys()
        if repeated is None:
            return None
        first, second = repeated.first
        key = ", ".join(KEY)
        return f"{repeated.rows:,} rows have the {key} of an earlier row; the first are rows {first} and {second}"


@dataclass(frozen=True)
class TotalsAddUp:
    """In every month, the sum of operations is that of internal and external ones."""

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
