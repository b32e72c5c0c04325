# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The statements of the guide load what the monthly sync wrote, once or many times."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.emulator import Emulator
from tests.airflow.dags.conftest import parse, run
from tests.support import ROOT

pytestmark = pytest.mark.usefixtures("airflow_database")
GUIDE = ROOT / "docs" / "guides" / "lake-to-warehouse.md"


def rows_of(lake: Path, pattern: str) -> list[dict[str, Any]]:
    return [json.loads(line) for file in lake.glob(pattern) for line in file.read_bytes().splitlines()]


def test_the_guide_loads_all_three_streams(emulator: Emulator, lake: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed here")
    assert run(parse("isvapp_monthly_sync"), at=datetime(2024, 3, 26, tzinfo=UTC)).state == "success"
    tables, load, query = re.findall(r"```sql\n(.*?)```", GUIDE.read_text(), re.S)
    (usage_file,) = lake.glob("isvapp/feature_usage/*/*.ndjson")
    warehouse = duckdb.connect()
    warehouse.execute(f"SET VARIABLE lake = '{lake}'")

    def counts() -> list[int]:
        names = ("feature_usage", "salesforce_accounts", "apps")
        return [warehouse.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names]

    for _ in range(2):
        warehouse.execute(tables)
        warehouse.execute(load)
        usage = rows_of(lake, "isvapp/feature_usage/*/*.ndjson")
        accounts = rows_of(lake, "isvapp/salesforce_accounts/*/*.ndjson")
        apps = rows_of(lake, "productiv/apps/*/*.ndjson")
        assert counts() == [len(usage), len(accounts), len(apps)]
    (total,) = warehouse.execute("SELECT sum(operations) FROM feature_usage").fetchone()
    assert total == sum(int(row["operations"]) for row in usage)
    assert len(warehouse.execute(query).fetchall()) == min(10, len({row["salesforce_account_id"] for row in usage}))

    # The month is restated with fewer rows.
    usage_file.write_bytes(b"".join(usage_file.read_bytes().splitlines(keepends=True)[1:]))
    warehouse.execute(load)
    assert counts() == [len(usage) - 1, len(accounts), len(apps)]
