# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.real_airflow import AIRFLOW_2, RealAirflow

MONTHS = ["2024-02", "2024-03", "2024-04"]


@pytest.mark.timeout(420)
@pytest.mark.skipif(AIRFLOW_2, reason="Airflow 2.11 runs a backfill in a separate process, not in its scheduler")
def test_a_backfill_requests_the_month_of_each_run(airflow: RealAirflow, lake: Path) -> None:
    airflow.backfill("monthly", "2024-02-01", "2024-04-30")

    airflow.wait_for("the backfill", lambda: airflow.states("monthly") == ["success"] * 3, seconds=240)
    for month in MONTHS:
        rows = (lake / f"{month}.ndjson").read_bytes().splitlines()
        assert {json.loads(row)["reference_date"] for row in rows} == {month}
    # Three runs of the past, and one list, which is of today.
    assert len(list((lake / "backfilled_accounts").iterdir())) == 1
