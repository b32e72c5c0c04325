# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Months as partitions with Airflow's own scheduler: the claims of the guide about its DAGs."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from tests.support.real_airflow import AIRFLOW_2, RealAirflow
from tests.support.statsd_server import StatsdServer, total

pytestmark = [pytest.mark.timeout(540), pytest.mark.skipif(AIRFLOW_2, reason="partitions came with Airflow 3.2")]
MONTHS = ["2024-02", "2024-03", "2024-04"]


def months_in(file: Path) -> set[str]:
    return {json.loads(row)["reference_date"] for row in file.read_bytes().splitlines()}


def ended(airflow: RealAirflow, run_id: str) -> bool:
    return airflow.run_state(run_id) in ("success", "failed")


def wait_for_runs(airflow: RealAirflow, dag_id: str, number: int) -> list[str]:
    """Wait until a DAG has this number of runs, all successful, and return their keys."""
    airflow.wait_for(f"{number} runs of {dag_id}", lambda: airflow.states(dag_id) == ["success"] * number, seconds=300)
    return sorted(airflow.partition_keys(dag_id))


def test_a_backfill_writes_each_month_and_starts_its_consumer(
    airflow: RealAirflow, lake: Path, statsd: StatsdServer
) -> None:
    airflow.unpause("monthly_usage")
    airflow.unpause("monthly_usage_report")

    airflow.backfill("monthly_usage", "2024-02-01", "2024-04-30")

    assert wait_for_runs(airflow, "monthly_usage", 3) == MONTHS
    assert wait_for_runs(airflow, "monthly_usage_report", 3) == MONTHS
    files = sorted((lake / "partitions/monthly_usage").rglob("usage.ndjson"))
    assert [months_in(file) for file in files] == [{month} for month in MONTHS]
    assert [file.parent.name for file in files] == [f"month={month}" for month in MONTHS]
    # Each of the three took longer than the second after which it is late.
    airflow.wait_for("the deadlines", lambda: total(statsd.received(), "isvapp.late_months") == 3, seconds=120)


def test_a_run_is_triggered_with_its_key(airflow: RealAirflow) -> None:
    with pytest.raises(AssertionError, match="does not match the timetable's key_format"):
        airflow.trigger("monthly_usage", partition_key="February")
    named = airflow.trigger("monthly_usage", partition_key="2024-03")
    nameless = airflow.trigger("monthly_usage")

    for run_id, state in ((named, "success"), (nameless, "failed")):
        airflow.wait_for("the run", partial(ended, airflow, run_id), seconds=180)
        assert airflow.run_state(run_id) == state, airflow.logs()
    wait_for_runs(airflow, "monthly_usage_report", 4)
    assert airflow.partition_keys("monthly_usage_report").count("2024-03") == 2
    (log,) = airflow.home.glob(f"logs/dag_id=monthly_usage/run_id={nameless}/**/*.log")
    assert "this run has no partition key and no data interval" in log.read_text()


def test_each_month_of_an_export_starts_its_consumer(airflow: RealAirflow, lake: Path) -> None:
    airflow.unpause("twelve_months_of_usage")
    airflow.unpause("usage_month_report")

    airflow.trigger("twelve_months_of_usage")

    assert wait_for_runs(airflow, "twelve_months_of_usage", 1) == []
    keys = wait_for_runs(airflow, "usage_month_report", 12)
    files = sorted((lake / "partitions/twelve_months").rglob("usage.ndjson"))
    assert keys == [file.parent.name.removeprefix("month=") for file in files]
    assert sorted(airflow.results("usage_month_report")) == sorted(
        len(file.read_bytes().splitlines()) for file in files
    )
