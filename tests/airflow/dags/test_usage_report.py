# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow import __version__ as airflow_version
from airflow.utils.session import create_session

from airflow_provider_isvapp.emulator import Emulator
from tests.airflow.dags.conftest import parse, run

pytestmark = pytest.mark.usefixtures("airflow_database")


def newest_asset_event() -> Any:
    """Read from Airflow's database what a consumer of the asset would receive."""
    if airflow_version.startswith("2."):
        from airflow.models.dataset import DatasetEvent as Event
    else:
        from airflow.models.asset import AssetEvent as Event

    with create_session() as session:
        event = session.query(Event).order_by(Event.id.desc()).first()
        return SimpleNamespace(extra=dict(event.extra))


def test_the_report_finds_what_the_monthly_sync_announced(emulator: Emulator, lake: Path) -> None:
    run(parse("isvapp_monthly_sync"), at=datetime(2024, 5, 20, tzinfo=UTC))
    triggering = "triggering_dataset_events" if airflow_version.startswith("2.") else "triggering_asset_events"
    find_usage = parse("isvapp_usage_report").get_task("find_usage").python_callable

    other = SimpleNamespace(extra={"path": "s3://lake/usage.ndjson"})
    events = [other, newest_asset_event(), newest_asset_event()]
    paths = find_usage(params={"path": None}, **{triggering: {"isvapp_feature_usage": events}})

    # Airflow starts one run for all events since the last one, so the DAG must process each.
    assert paths[0] == "s3://lake/usage.ndjson"
    assert paths[1].endswith(f"{lake}/isvapp/feature_usage/month=2024-04/usage.ndjson")
    assert len(paths) == 2


def test_both_dags_mean_the_same_asset() -> None:
    produced = parse("isvapp_monthly_sync").get_task("download_export").outlets
    timetable = parse("isvapp_usage_report").timetable
    condition = getattr(timetable, "asset_condition", None) or timetable.dataset_condition

    assert list(condition.objects) == produced


def test_the_report_adds_up_the_users_of_each_feature(tmp_path: Path) -> None:
    usage = tmp_path / "usage.ndjson"
    rows = [{"taxonomy_item_label": f"Feature {row % 12}", "unique_users": str(row)} for row in range(100)]
    usage.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dag = parse("isvapp_usage_report")

    ended = run(dag, at=datetime(2024, 6, 1, tzinfo=UTC), conf={"path": usage.as_uri()})

    assert ended.state == "success"
    users: Counter[str] = Counter()
    for row in rows:
        users[row["taxonomy_item_label"]] += int(row["unique_users"])
    top_features = dag.get_task("top_features").python_callable
    assert top_features([usage.as_uri()]) == {usage.as_uri(): dict(users.most_common(10))}
