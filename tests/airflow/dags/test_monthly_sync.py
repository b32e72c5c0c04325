# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from airflow_provider_isvapp.emulator import Emulator, Fault
from airflow_provider_isvapp.version_compat import AirflowException
from tests.airflow.dags.conftest import parse, run
from tests.support.airflow_connections import SetConnection

pytestmark = pytest.mark.usefixtures("airflow_database")


def date_of(file: Path) -> date:
    return date.fromisoformat(file.parent.name.removeprefix("snapshot_date="))


def test_the_monthly_sync_writes_the_previous_month(
    emulator: Emulator, lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dag = parse("isvapp_monthly_sync")

    ended = run(dag, at=datetime(2024, 3, 20, tzinfo=UTC))

    assert ended.state == "success"
    (export_id,) = emulator.exports
    usage = (lake / "isvapp/feature_usage/month=2024-02/usage.ndjson").read_bytes()
    assert usage == emulator.export_bytes(export_id)
    assert {json.loads(row)["reference_date"] for row in usage.splitlines()} == {"2024-02"}
    # The lists have no month: they describe today, for any month of the run.
    (account_file,) = lake.glob("isvapp/salesforce_accounts/snapshot_date=*/accounts.ndjson")
    (app_file,) = lake.glob("productiv/apps/snapshot_date=*/apps.ndjson")
    assert abs(datetime.now(UTC).date() - date_of(account_file)) <= timedelta(days=1)
    assert date_of(app_file) == date_of(account_file) - timedelta(days=1)
    accounts = account_file.read_bytes().splitlines()
    assert len(accounts) == emulator.config.account_count
    assert all("health_scores" in json.loads(row) for row in accounts)
    apps = app_file.read_bytes().splitlines()
    assert len(apps) == emulator.config.apps * 4 // 5  # every fifth is inactive
    assert sorted(path.name for path in lake.rglob("*.*")) == [
        "_usage.ndjson.manifest.json",
        "accounts.ndjson",
        "apps.ndjson",
        "usage.ndjson",
    ]
    # Airflow 3 logs this itself when it looks for a link that was not stored.
    assert "XCom not found" not in "".join(capsys.readouterr())
    # The wait was deferred: the sensor's own poll, then the trigger's list request.
    assert emulator.request_counts()["list_exports"] >= 1


def test_the_form_chooses_month_and_taxonomies(emulator: Emulator, lake: Path, logs: Callable[[], str]) -> None:
    chosen = {"month": "2023-11", "taxonomy_ids": ["first", 'the "second"']}

    ended = run(parse("isvapp_monthly_sync"), at=datetime(2024, 3, 23, tzinfo=UTC), conf=chosen)

    assert ended.state == "success"
    assert 'of 2023-11: all items of 2 taxonomies (first, the "second")' in logs()
    usage = (lake / "isvapp/feature_usage/month=2023-11/usage.ndjson").read_bytes()
    assert {json.loads(row)["reference_date"] for row in usage.splitlines()} == {"2023-11"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"month": "2023-13"},
        {"month": "November"},
        {"taxonomy_ids": []},
        {"taxonomy_ids": "main"},
        {"taxonomy_ids": [""]},
    ],
    ids=str,
)
def test_the_form_refuses_invalid_months_and_lists(wrong: dict[str, Any], lake: Path) -> None:
    params = parse("isvapp_monthly_sync").params
    (name,) = wrong

    with pytest.raises(AirflowException, match="Failed validating"):
        params.get_param(name).resolve(wrong[name])


def test_a_month_that_halves_is_refused_until_a_user_accepts_it(
    emulator: Emulator, lake: Path, logs: Callable[[], str]
) -> None:
    usage = lake / "isvapp/feature_usage"
    dag = parse("isvapp_monthly_sync")
    assert run(dag, at=datetime(2024, 4, 24, tzinfo=UTC)).state == "success"
    march = (usage / "month=2024-03/usage.ndjson").read_bytes()
    lost = Fault(endpoint="create_export", kind="month_restated", month="2024-04", restatement="rows_lost", times=None)
    emulator.inject(lost)

    assert run(dag, at=datetime(2024, 5, 24, tzinfo=UTC)).state == "failed"

    assert "MaxChange: it has" in logs()
    assert (usage / "month=2024-03/usage.ndjson").read_bytes() == march
    assert not list(usage.glob("month=2024-04/*"))
    refused = (lake / "isvapp/rejected_feature_usage/month=2024-04/usage.ndjson").read_bytes()
    assert refused.count(b"\n") == march.count(b"\n") // 2

    accepted = run(dag, at=datetime(2024, 5, 25, tzinfo=UTC), conf={"month": "2024-04", "accept": True})

    assert accepted.state == "success"
    assert (usage / "month=2024-04/usage.ndjson").read_bytes() == refused


def test_a_run_that_has_not_landed_four_days_later_is_late(lake: Path) -> None:
    deadline = pytest.importorskip("airflow.sdk.definitions.deadline", reason="needs Airflow 3.1")

    (alert,) = parse("isvapp_monthly_sync").deadline

    assert alert.reference == deadline.DeadlineReference.DAGRUN_QUEUED_AT
    assert alert.interval == timedelta(days=4)
    assert alert.callback.path == "airflow_provider_isvapp.metrics.report_late_month"


@pytest.fixture
def stored_connections(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Connections that only Airflow's database holds, as the UI stores them."""
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session

    for conn_id in ("isvapp_default", "productiv_default"):
        fields = json.loads(os.environ[f"AIRFLOW_CONN_{conn_id.upper()}"])
        monkeypatch.delenv(f"AIRFLOW_CONN_{conn_id.upper()}")
        with create_session() as session:
            session.add(Connection(conn_id=conn_id, **fields))
    yield
    with create_session() as session:
        session.query(Connection).delete()


@pytest.mark.usefixtures("stored_connections")
def test_the_connections_may_be_in_airflows_database(emulator: Emulator, lake: Path) -> None:
    ended = run(parse("isvapp_monthly_sync"), at=datetime(2024, 3, 22, tzinfo=UTC))

    assert ended.state == "success"
    (export_id,) = emulator.exports
    usage = (lake / "isvapp/feature_usage/month=2024-02/usage.ndjson").read_bytes()
    assert usage == emulator.export_bytes(export_id)
    assert emulator.request_counts()["list_exports"] >= 1


def test_the_lake_may_be_a_bucket_behind_a_connection(
    emulator: Emulator, s3_url: str, set_connection: SetConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"aws_access_key_id": "isvapp", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=s3_url, **keys)
    client.create_bucket(Bucket="isvapp-lake")
    extra = {"endpoint_url": s3_url, "region_name": "us-east-1"}
    set_connection("lake_store", conn_type="aws", login="isvapp", password="secret", extra=extra)
    monkeypatch.setenv("ISVAPP_LAKE", "s3://lake_store@isvapp-lake/raw")

    ended = run(parse("isvapp_monthly_sync"), at=datetime(2024, 3, 21, tzinfo=UTC))

    assert ended.state == "success"
    (export_id,) = emulator.exports
    keys_written = [item["Key"] for item in client.list_objects_v2(Bucket="isvapp-lake")["Contents"]]
    usage = "raw/isvapp/feature_usage/month=2024-02/usage.ndjson"
    manifest = "raw/isvapp/feature_usage/month=2024-02/_usage.ndjson.manifest.json"
    assert [re.sub(r"=\d{4}-\d\d-\d\d/", "=…/", key) for key in keys_written] == [
        manifest,
        usage,
        "raw/isvapp/salesforce_accounts/snapshot_date=…/accounts.ndjson",
        "raw/productiv/apps/snapshot_date=…/apps.ndjson",
    ]
    body = client.get_object(Bucket="isvapp-lake", Key=usage)["Body"].read()
    assert body == emulator.export_bytes(export_id)
    client.close()
