# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A list describes today: catch-up and a clear of a past run do not replace an old list by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.real_airflow import AIRFLOW_2, RealAirflow

MONTHS = ["2024-02", "2024-03"]
OLD = b'{"old":true}\n'


@pytest.mark.timeout(420)
def test_catch_up_and_a_clear_leave_the_lists_of_the_past(airflow: RealAirflow, lake: Path) -> None:
    old = [lake / name / f"month={month}" for name in ("accounts", "apps") for month in MONTHS]
    for path in old:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(OLD)

    airflow.unpause("late_lists")
    airflow.wait_for("catch-up", lambda: airflow.states("late_lists") == ["failed"] * 2, seconds=240)

    run_id, _ = airflow.run_ids("late_lists")
    for task_id, state in {"by_month": "failed", "by_date": "success"}.items():
        for name in ("accounts", "apps"):
            task = airflow.task(run_id, f"{name}_{task_id}")
            # Another try would be later still.
            assert (task["state"], task["try_number"]) == (state, 1)
    assert [path.read_bytes() for path in old] == [OLD] * 4
    # Both runs have written the list of today, under its own date.
    assert [len(list((lake / name).glob("20*-*-*"))) for name in ("accounts", "apps")] == [1, 1]
    if AIRFLOW_2:
        return

    airflow.clear(run_id, "accounts_by_month", dag_id="late_lists")
    airflow.wait_for(
        "the cleared task",
        lambda: (
            (airflow.task(run_id, "accounts_by_month")["try_number"], airflow.states("late_lists")[0]) == (2, "failed")
        ),
        seconds=120,
    )
    assert [path.read_bytes() for path in old] == [OLD] * 4
