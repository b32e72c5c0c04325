# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airflow_provider_isvapp.emulator import Emulator
from tests.dags.conftest import parse, run

pytestmark = pytest.mark.usefixtures("airflow_database")


def test_the_monthly_sync_brings_the_month_before(emulator: Emulator, lake: Path) -> None:
    dag = parse("isvapp_monthly_sync")

    ended = run(dag, at=datetime(2024, 3, 20, tzinfo=UTC))

    assert ended.state == "success"
    (export_id,) = emulator.exports
    usage = (lake / "isvapp/feature_usage/month=2024-02/usage.ndjson").read_bytes()
    assert usage == emulator.export_bytes(export_id)
    assert {json.loads(row)["reference_date"] for row in usage.splitlines()} == {"2024-02"}
    accounts = (lake / "isvapp/salesforce_accounts/month=2024-02/accounts.ndjson").read_bytes().splitlines()
    assert len(accounts) == emulator.config.account_count
    assert all("health_scores" in json.loads(row) for row in accounts)
    apps = (lake / "productiv/apps/month=2024-02/apps.ndjson").read_bytes().splitlines()
    assert len(apps) == emulator.config.apps * 4 // 5  # every fifth is inactive
    assert sorted(path.name for path in lake.rglob("*.*")) == ["accounts.ndjson", "apps.ndjson", "usage.ndjson"]
    # The wait was deferred: the sensor's own look, then the trigger's list request.
    assert emulator.request_counts()["list_exports"] >= 1
