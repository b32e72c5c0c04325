# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The rules and checks that decide whether a staged result is published."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from logging import Logger
from typing import TypeAlias

from airflow_provider_isvapp.errors import CheckError, InvalidArgument
from airflow_provider_isvapp.transfer.destination import Destination
from airflow_provider_isvapp.transfer.drift import DriftReport
from airflow_provider_isvapp.transfer.manifest import find_baseline
from airflow_provider_isvapp.transfer.options import MONTH_PLACEHOLDER, Check, WriteOptions
from airflow_provider_isvapp.transfer.results import CheckResult
from airflow_provider_isvapp.transfer.staging.base import Provenance
from airflow_provider_isvapp.transfer.summary import RepeatedKeys, Summary

# The vendor's longest export has twelve months. Each month takes an open file while an export is partitioned, and a
# place in the provenance, which S3 limits to 2 KB.
MOST_MONTHS = 60

_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}(-[0-9]{2})?")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A staged and verified result, as rules and checks see it.

    :param staged: the provenance of the result, with all figures.
    :param replaces_rows: returns whether the existing object has rows; called only when it matters.
    :param drift: the differences from the documentation; None if rows were not compared with it.
    :param figures: the figures of the rows by month; None if none were computed.
    :param baseline: the figures of the object at the path, or at ``baseline``; None if there is none.
    :param repeated_keys: finds the rows that repeat the key of an earlier row; ``UniqueKeys`` calls it.
    """

    staged: Provenance
    replaces_rows: Callable[[], bool]
    drift: DriftReport | None = None
    figures: Summary | None = None
    baseline: Summary | None = None
    repeated_keys: Callable[[], RepeatedKeys | None] = lambda: None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.staged.rows or 0

    @property
    def summary(self) -> Summary:
        """The figures of the rows; for a list, only their number and size."""
        return self.figures or Summary(rows=self.rows, bytes=self.staged.bytes or 0)


Rule: TypeAlias = Callable[[Candidate], str | None]
"""Returns the reason not to publish a candidate, with the next step; None if there is none."""


def find_problem(candidate: Candidate, rules: Iterable[Rule]) -> str | None:
    """Return the first problem, in the order of the rules; None if all pass."""
    return next((problem for rule in rules if (problem := rule(candidate)) is not None), None)


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The results of the checks.

    :param results: the results, in the order of the checks.
    :param baseline: URI of the object that they compared with; None if there was none.
    """

    results: tuple[CheckResult, ...] = ()
    baseline: str | None = None

    @property
    def reasons(self) -> dict[str, str]:
        """The reason of each check that failed, by name; empty if none did."""
        return {item.check: item.reason for item in self.results if item.reason is not None}


def run_checks(candidate: Candidate, options: WriteOptions, *, baseline: Destination, log: Logger) -> Audit:
    """Run every check that is not skipped.

    :param baseline: the location of the object to compare with; it may not exist.
    :raises CheckError: if a check raises, or returns neither None nor a reason.
    """
    if not options.checks:
        return Audit()
    found = find_baseline(baseline, candidate.summary.months)
    if found is None:
        log.info("No baseline: no object with a summary in its manifest at %s", baseline.uri)
    candidate = replace(candidate, baseline=found)
    skipped = options.skipped_checks
    results = tuple(
        CheckResult(check=name, outcome="skipped") if name in skipped else _run(name, check, candidate)
        for name, check in options.named_checks
    )
    for item in results:
        if item.reason is None:
            log.info("Check %s: %s", item.check, item.outcome)
        else:
            # A separate line: Airflow's UI does not wrap the error, in which the figures come late.
            log.warning("Check %s: %s: %s", item.check, item.outcome, item.reason)
    return Audit(results=results, baseline=None if found is None else baseline.uri)


def _run(name: str, check: Check, candidate: Candidate) -> CheckResult:
    try:
        reason = check(candidate)
    except Exception as error:
        raise CheckError(
            f"The check {name} raised {type(error).__name__}: {error}. Nothing was published. Correct the check, or "
            "leave it out with skip_checks."
        ) from error
    if reason is None:
        return CheckResult(check=name, outcome="passed")
    if isinstance(reason, str) and reason.strip():
        return CheckResult(check=name, outcome="failed", reason=reason)
    raise CheckError(
        f"The check {name} returned {reason!r:.100}. It must return None, or a string with the reason not to "
        "publish the result. Nothing was published."
    )


def refusal(what: str, reasons: Mapping[str, str]) -> str:
    """Return the message of a refusal.

    :param what: the refused result, as the subject of the sentence.
    """
    found = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    return (
        f"{what} did not pass its checks. {found}. Nothing was published. To publish it anyway, set "
        f"skip_checks={','.join(reasons)!r}."
    )


@dataclass(frozen=True, kw_only=True)
class ExpectedMonths:
    """A rule: the months of an export are the requested ones; see :func:`find_month_mismatch`."""

    expected: Collection[str] | int | None
    required: bool

    def __call__(self, candidate: Candidate) -> str | None:
        """Compare the months of the rows."""
        mismatch = find_month_mismatch(candidate.staged.months or {}, self.expected, required=self.required)
        return mismatch and f"{mismatch}. ISVapp may be recalculating its months: create a new export in a few hours"


def as_documented(candidate: Candidate) -> str | None:
    """A rule: no row differs from the documentation."""
    if not candidate.drift:
        return None
    return f"it differs from its documentation: {candidate.drift}. Set on_drift='report' to accept that"


@dataclass(frozen=True, kw_only=True)
class MinRows:
    """A rule: the result has enough rows.

    :param fewest: the minimum. With None, an empty result may be published, but may not replace rows.
    """

    fewest: int | None

    def __call__(self, candidate: Candidate) -> str | None:
        """Count the rows."""
        rows = candidate.rows
        if self.fewest is not None and rows < self.fewest:
            return f"it has {rows} rows, and min_rows is {self.fewest}. Set min_rows={rows} to accept so few"
        if self.fewest is None and rows == 0 and candidate.replaces_rows():
            return "it has no rows, and the object at the path has some. Set min_rows=0 to replace it with an empty one"
        return None


def check_rejected(rejected: Destination, destination: Destination, options: WriteOptions) -> None:
    """Check the location for a refused result.

    :raises InvalidArgument: if it cannot be written, or is the destination itself.
    """
    if rejected.uri == destination.uri:
        raise InvalidArgument(f"rejected_path {rejected.uri!r} equals path. Choose another location.")
    if (MONTH_PLACEHOLDER in rejected.key) != (options.partition_by is not None):
        raise InvalidArgument(
            f"rejected_path {rejected.uri!r}: with partition_by='reference_date', it must contain {MONTH_PLACEHOLDER}; "
            "without partition_by, it must not."
        )
    rejected.target().check()


def is_month(value: str) -> bool:
    """Whether a ``reference_date`` is a month, or a day."""
    return _MONTH.fullmatch(value) is not None


def too_many_months(found: Collection[str]) -> str | None:
    """Return the problem if there are more months than any export has."""
    if len(found) <= MOST_MONTHS:
        return None
    return f"it has rows of more than {MOST_MONTHS} months, and an export has at most twelve"


def find_month_mismatch(
    found: Mapping[str, int], expected: Collection[str] | int | None, *, required: bool
) -> str | None:
    """Compare the months of the rows with the requested ones.

    :param found: rows by month.
    :param expected: the requested months, or the number of consecutive months if only the vendor knows which; None if
        unknown.
    :param required: whether each must have a row.
    :return: the mismatch; None if there is none.
    """
    if expected is None:
        return None
    if isinstance(expected, int):
        return _count_problem(sorted(found), expected, required=required)
    if foreign := sorted(set(found) - set(expected)):
        return f"it has rows of months that were not requested: {', '.join(foreign)}"
    if required and (missing := sorted(set(expected) - set(found))):
        return f"it has no rows of requested months: {', '.join(missing)}"
    return None


def _count_problem(found: list[str], wanted: int, *, required: bool) -> str | None:
    if strange := [month for month in found if not is_month(month)]:
        return f"it has rows of {strange[0][:20]!r}, which is not a month"
    if not found:
        return f"it has no rows; months requested: {wanted}" if required else None
    span = _index(found[-1]) - _index(found[0]) + 1
    if span > wanted or (required and span < wanted):
        return f"it has rows of {found[0]} to {found[-1]}; months: {span}, requested: {wanted}"
    gaps = [month for month in map(_month, range(_index(found[0]), _index(found[-1]))) if month not in found]
    if required and gaps:
        return f"it has no rows of {', '.join(gaps)}, between {found[0]} and {found[-1]}"
    return None


def _index(month: str) -> int:
    year, number = month.split("-")[:2]
    return int(year) * 12 + int(number) - 1


def _month(index: int) -> str:
    return f"{index // 12:04d}-{index % 12 + 1:02d}"
