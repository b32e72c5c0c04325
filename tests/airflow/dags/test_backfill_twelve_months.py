# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pendulum
import pytest

from airflow_provider_isvapp.emulator import Emulator
from tests.airflow.dags.conftest import parse, run

pytestmark = pytest.mark.usefixtures("airflow_database")
LEAP_YEAR = [f"2023-{month:02}" for month in range(3, 13)] + ["2024-01", "2024-02"]


def test_the_backfill_writes_one_file_for_each_of_twelve_months(emulator: Emulator, lake: Path) -> None:
    dag = parse("isvapp_backfill_twelve_months")

    ended = run(dag, at=datetime(2024, 6, 1, tzinfo=UTC), conf={"last_month": "2024-02"})

    assert ended.state == "success"
    assert len(emulator.exports) == 12
    written = {path.parent.name: path.read_bytes() for path in lake.rglob("*.ndjson")}
    assert sorted(written) == [f"month={month}" for month in LEAP_YEAR]
    assert sorted(written.values()) == sorted(emulator.export_bytes(export_id) for export_id in emulator.exports)
    for folder, usage in written.items():
        assert {f"month={json.loads(row)['reference_date']}" for row in usage.splitlines()} == {folder}


@pytest.mark.parametrize(
    ("today", "newest"), [("2024-03-05", "2024-01"), ("2024-03-06", "2024-02"), ("2024-01-06", "2023-12")]
)
def test_without_last_month_the_newest_complete_one_is_the_last(
    today: str, newest: str, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twelve_months = parse("isvapp_backfill_twelve_months").get_task("twelve_months").python_callable
    monkeypatch.setattr(pendulum, "now", lambda zone: pendulum.parse(today, tz=zone))

    months = twelve_months(params={"last_month": None})

    assert len(months) == 12
    assert months[-1]["month"] == newest
    assert months[-1]["path"] == f"{lake.as_uri()}/isvapp/feature_usage/month={newest}/usage.ndjson"
