# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Whether a staged result may be published: the rules that a write has to pass between staging and publication."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from airflow_provider_isvapp.transfer.drift import DriftReport
from airflow_provider_isvapp.transfer.staging.base import Provenance

# The longest export that the vendor offers has twelve. Each has an open file while an export is divided, and all of
# them are in the provenance, for which S3 has room of 2 KB.
MOST_MONTHS = 60

_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}(-[0-9]{2})?")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A result of which every byte is staged and verified, as a rule sees it.

    :param staged: with all figures.
    :param drift: what differs from the documentation; None if that was not looked for.
    :param replaces_rows: whether an object with rows is at the path now; asked only if it matters.
    """

    staged: Provenance
    drift: DriftReport | None
    replaces_rows: Callable[[], bool]

    @property
    def rows(self) -> int:
        """All rows."""
        return self.staged.rows or 0


Rule: TypeAlias = Callable[[Candidate], str | None]
"""Returns why a candidate must not be published, with the next step; None if nothing speaks against it."""


def find_problem(candidate: Candidate, rules: Iterable[Rule]) -> str | None:
    """Return the problem that the first rule finds, in the rules' order; None if all pass."""
    return next((problem for rule in rules if (problem := rule(candidate)) is not None), None)


@dataclass(frozen=True, kw_only=True)
class ExpectedMonths:
    """The months of an export are those that were asked for; see :func:`find_month_mismatch`."""

    expected: Collection[str] | int | None
    required: bool

    def __call__(self, candidate: Candidate) -> str | None:
        """Compare the months of the rows."""
        mismatch = find_month_mismatch(candidate.staged.months or {}, self.expected, required=self.required)
        return mismatch and f"{mismatch}. The vendor recalculates months at times: request a new export later"


def as_documented(candidate: Candidate) -> str | None:
    """No row differs from its documentation; a rule."""
    if not candidate.drift:
        return None
    return f"it differs from its documentation: {candidate.drift}. Set on_drift='report' to accept that"


@dataclass(frozen=True, kw_only=True)
class MinRows:
    """There are enough rows.

    :param fewest: None if an empty result may be published, but not replace rows.
    """

    fewest: int | None

    def __call__(self, candidate: Candidate) -> str | None:
        """Count the rows."""
        rows = candidate.rows
        if self.fewest is not None and rows < self.fewest:
            return f"it has {rows} rows, and min_rows is {self.fewest}. Set min_rows={rows} to accept so few"
        if self.fewest is None and rows == 0 and candidate.replaces_rows():
            return "it has no rows, and the object at the path has some. Set min_rows=0 to replace it by an empty one"
        return None


def is_month(value: str) -> bool:
    """Whether a ``reference_date`` is a month, or a day."""
    return _MONTH.fullmatch(value) is not None


def too_many_months(found: Collection[str]) -> str | None:
    """Return what is wrong with the months so far, if they are more than any export has."""
    if len(found) <= MOST_MONTHS:
        return None
    return f"it has rows of more than {MOST_MONTHS} months, and an export has at most twelve"


def find_month_mismatch(
    found: Mapping[str, int], expected: Collection[str] | int | None, *, required: bool
) -> str | None:
    """Compare the months of the rows with those that were asked for.

    :param found: rows by month.
    :param expected: the months, or how many consecutive ones where only the vendor knows which; None if unknown.
    :param required: whether each must have a row.
    :return: what is wrong, if anything is.
    """
    if expected is None:
        return None
    if isinstance(expected, int):
        return _count_problem(sorted(found), expected, required=required)
    if foreign := sorted(set(found) - set(expected)):
        return f"it has rows of {', '.join(foreign)}, which was not asked for"
    if required and (missing := sorted(set(expected) - set(found))):
        return f"it has no rows of {', '.join(missing)}, which was asked for"
    return None


def _count_problem(found: list[str], wanted: int, *, required: bool) -> str | None:
    if strange := [month for month in found if not is_month(month)]:
        return f"it has rows of {strange[0][:20]!r}, which is no month"
    if not found:
        return f"it has no rows, and {wanted} months were asked for" if required else None
    span = _index(found[-1]) - _index(found[0]) + 1
    if span > wanted or (required and span < wanted):
        return f"it has rows of {span} months, {found[0]} to {found[-1]}, and {wanted} were asked for"
    gaps = [month for month in map(_month, range(_index(found[0]), _index(found[-1]))) if month not in found]
    if required and gaps:
        return f"it has no rows of {', '.join(gaps)}, between {found[0]} and {found[-1]}"
    return None


def _index(month: str) -> int:
    year, number = month.split("-")[:2]
    return int(year) * 12 + int(number) - 1


def _month(index: int) -> str:
    return f"{index // 12:04d}-{index % 12 + 1:02d}"
