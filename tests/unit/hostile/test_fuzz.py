# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A few hundred mutated responses; ``make fuzz-responses`` feeds any number of them."""

from __future__ import annotations

from tests.support.hostile.fuzz import SEED, fuzz
from tests.support.hostile.vendors import ENDPOINTS
from tests.support.hostile.verdict import LogText


def test_a_mutated_response_is_a_result_or_an_error_of_the_tree(logged: LogText) -> None:
    findings = fuzz(range(300), seed=SEED, log=logged)

    assert not findings.problems, "\n".join(findings.problems)
    reached = {name.partition(":")[0] for name in findings.outcomes}
    assert reached == set(ENDPOINTS)
    assert len({name.partition(": ")[2] for name in findings.outcomes}) > 5


def test_a_response_follows_from_its_number(logged: LogText) -> None:
    assert fuzz([7], seed=SEED, log=logged).outcomes == fuzz([7], seed=SEED, log=logged).outcomes
