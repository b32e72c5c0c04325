# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Whether a staged result may be published: the rules and checks between staging and publication."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from logging import Logger
from typing import TypeAlias

from airflow_provider_isvapp.errors import CheckFailed, InvalidArgument
from airflow_provider_isvapp.transfer.destination import Destination
from airflow_provider_isvapp.transfer.drift import DriftReport
from airflow_provider_isvapp.transfer.manifest import find_baseline
from airflow_provider_isvapp.transfer.options import MONTH_PLACEHOLDER, Check, WriteOptions
from airflow_provider_isvapp.transfer.results import CheckResult
from airflow_provider_isvapp.transfer.staging.base import Provenance
from airflow_provider_isvapp.transfer.summary import RepeatedKeys, Summary

# The longest export that the vendor offers has twelve. Each has an open file while an export is divided, and all of
# them are in the provenance, for which S3 has room of 2 KB.
MOST_MONTHS = 60

_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}(-[0-9]{2})?")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A result of which every byte is staged and verified, as a rule or a check sees it.

    :param staged: with all figures.
    :param replaces_rows: whether an object with rows is at the path now; asked only if it matters.
    :param drift: what differs from the documentation; None if that was not looked for.
    :param figures: of its rows by month, if they were summed up.
    :param baseline: the same of what lies at the path, or at ``baseline``; None if there is none.
    :param repeated_keys: which rows have the key of an earlier one; asked by ``UniqueKeys``.
    """

    staged: Provenance
    replaces_rows: Callable[[], bool]
    drift: DriftReport | None = None
    figures: Summary | None = None
    baseline: Summary | None = None
    repeated_keys: Callable[[], RepeatedKeys | None] = lambda: None

    @property
    def rows(self) -> int:
        """All rows."""
        return self.staged.rows or 0

    @property
    def summary(self) -> Summary:
        """The figures of its rows; of a list, only how many and how large."""
        return self.figures or Summary(rows=self.rows, bytes=self.staged.bytes or 0)


Rule: TypeAlias = Callable[[Candidate], str | None]
"""Returns why a candidate must not be published, with the next step; None if nothing speaks against it."""


def find_problem(candidate: Candidate, rules: Iterable[Rule]) -> str | None:
    """Return the problem that the first rule finds, in the rules' order; None if all pass."""
    return next((problem for rule in rules if (problem := rule(candidate)) is not None), None)


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What came of the checks.

    :param results: in the order of the checks.
    :param baseline: URI of what they compared with; None if there was nothing.
    """

    results: tuple[CheckResult, ...] = ()
    baseline: str | None = None

    @property
    def reasons(self) -> dict[str, str]:
        """What each check that refused says, by its name; empty if none did."""
        return {item.check: item.reason for item in self.results if item.reason is not None}


def run_checks(candidate: Candidate, options: WriteOptions, *, baseline: Destination, log: Logger) -> Audit:
    """Let every check that is not skipped see a candidate.

    :param baseline: where what they compare with is, if it is there.
    :raises CheckFailed: if one raises, or returns something else than None or a reason.
    """
    if not options.checks:
        return Audit()
    found = find_baseline(baseline, candidate.summary.months)
    if found is None:
        log.info("No object with a valid summary is at %s: the checks have no baseline", baseline.uri)
    candidate = replace(candidate, baseline=found)
    skipped = options.skipped_checks
    results = tuple(
        CheckResult(check=name, outcome="skipped") if name in skipped else _run(name, check, candidate)
        for name, check in options.named_checks
    )
    for item in results:
        log.info("Check %s: %s", item.check, item.outcome)
    return Audit(results=results, baseline=None if found is None else baseline.uri)


def _run(name: str, check: Check, candidate: Candidate) -> CheckResult:
    try:
        reason = check(candidate)
    except Exception as error:
        raise CheckFailed(
            f"The check {name} raised {type(error).__name__}: {error}. Nothing was published. Correct the check, or "
            "leave it out with skip_checks."
        ) from error
    if reason is None:
        return CheckResult(check=name, outcome="passed")
    if isinstance(reason, str) and reason.strip():
        return CheckResult(check=name, outcome="refused", reason=reason)
    raise CheckFailed(
        f"The check {name} returned {reason!r:.100}. It must return None, or say why the result must not be published. "
        "Nothing was published."
    )


def refusal(what: str, reasons: Mapping[str, str]) -> str:
    """Return the message of a refusal.

    :param what: was refused.
    """
    found = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    return (
        f"{what} did not pass its checks. {found}. Nothing was published. To accept it, run the task again with "
        f"skip_checks={','.join(reasons)!r}."
    )


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


def check_rejected(rejected: Destination, destination: Destination, options: WriteOptions) -> None:
    """Check where a refused result is to be kept.

    :raises InvalidArgument: if a result cannot be there, or if it would take the place of a good one.
    """
    if rejected.uri == destination.uri:
        raise InvalidArgument(f"rejected_path {rejected.uri!r} is path itself. Name another one.")
    if (MONTH_PLACEHOLDER in rejected.key) != (options.partition_by is not None):
        raise InvalidArgument(
            f"rejected_path {rejected.uri!r}: with partition_by='reference_date' it must contain {MONTH_PLACEHOLDER}, "
            "and only then."
        )
    rejected.target().check()


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
