# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import pytest

from airflow_provider_isvapp.transfer.audit import find_month_mismatch

YEAR = [f"2023-{month:02}" for month in range(3, 13)] + ["2024-01", "2024-02"]


def of(*months: str) -> dict[str, int]:
    return dict.fromkeys(months, 1)


@pytest.mark.parametrize(
    ("found", "expected", "required"),
    [
        (of("2024-02"), None, True),
        (of("2024-02"), ["2024-02"], True),
        (of("2024-02"), ["2024-01", "2024-02"], False),
        (of(*YEAR), 12, True),
        (of("2024-02"), 1, True),
        (of("2024-02"), 12, False),
    ],
)
def test_the_right_months(found: dict[str, int], expected: list[str] | int | None, required: bool) -> None:
    assert find_month_mismatch(found, expected, required=required) is None


@pytest.mark.parametrize(
    ("found", "expected", "problem"),
    [
        (of("2024-02"), ["2024-01", "2024-02"], "no rows of 2024-01, which was asked for"),
        (of("2024-01", "2024-02"), ["2024-02"], "rows of 2024-01, which was not asked for"),
        (of(), 12, "it has no rows, and 12 months were asked for"),
        (of(*YEAR[:3], *YEAR[4:10], *YEAR[11:]), 12, "no rows of 2023-06, 2024-01, between 2023-03 and 2024-02"),
        (of(*YEAR[1:]), 12, "rows of 11 months, 2023-04 to 2024-02, and 12 were asked for"),
        (of(*YEAR), 1, "rows of 12 months, 2023-03 to 2024-02, and 1 were asked for"),
    ],
)
def test_wrong_months_are_named(found: dict[str, int], expected: list[str] | int, problem: str) -> None:
    assert problem in (find_month_mismatch(found, expected, required=True) or "")


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (of(*YEAR, "2024-03"), "rows of 13 months, 2023-03 to 2024-03, and 12 were asked for"),
        (of("abc"), "rows of 'abc', which is no month"),
        (of("9" * 5_000 + "-01"), f"rows of '{'9' * 20}', which is no month"),
        (of(""), "rows of '', which is no month"),
    ],
)
def test_months_that_are_none_or_too_many_are_named(found: dict[str, int], problem: str, required: bool) -> None:
    assert problem in (find_month_mismatch(found, 12, required=required) or "")
