# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A real Airflow with OpenLineage's provider sends its events to a real server, and stores links and asset events."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.emulator import Emulator, EmulatorConfig, Fault
from airflow_provider_isvapp.links.isvapp import export_url
from tests.airflow.lineage.valid_events import check_event
from tests.support.airflow_connections import isvapp_fields, productiv_fields
from tests.support.event_receiver import EventReceiver
from tests.support.real_airflow import AIRFLOW_2, RealAirflow

pytestmark = pytest.mark.timeout(420)


class LineageAirflow(RealAirflow):
    """Airflow with asset events that the test can read."""

    def alias_events(self, alias: str) -> dict[str, Any]:
        """Return the extra of each event from an alias, by the URI of its asset."""
        asset = "dataset" if AIRFLOW_2 else "asset"
        rows = self._query(
            f"select {asset}.uri, event.extra from {asset}_event event"
            f" join {asset} on {asset}.id = event.{asset}_id"
            f" join {asset}_alias_{asset}_event link on link.event_id = event.id"
            f" join {asset}_alias alias on alias.id = link.alias_id where alias.name = ?",
            alias,
        )
        return {uri: json.loads(extra) for uri, extra in rows}

    def announced(self, run_id: str) -> list[str]:
        """Return the URI of the asset of each event of a run."""
        asset = "dataset" if AIRFLOW_2 else "asset"
        statement = (
            f"select {asset}.uri from {asset}_event event join {asset} on {asset}.id = event.{asset}_id"
            " where event.source_run_id = ?"
        )
        return [uri for (uri,) in self._query(statement, run_id)]

    def consumed(self, dag_id: str, run_id: str = "%") -> set[str]:
        """Return the URIs of the assets whose events started runs of a DAG."""
        asset = "dataset" if AIRFLOW_2 else "asset"
        rows = self._query(
            f"select {asset}.uri from dag_run run join dagrun_{asset}_event link on link.dag_run_id = run.id"
            f" join {asset}_event event on event.id = link.event_id join {asset} on {asset}.id = event.{asset}_id"
            " where run.dag_id = ? and run.run_id like ?",
            dag_id,
            run_id,
        )
        return {uri for (uri,) in rows}


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator(EmulatorConfig(requests_per_second=None, export_seconds=6, rows=1200)) as server:
        yield server


@pytest.fixture(scope="module")
def receiver() -> Iterator[EventReceiver]:
    with EventReceiver() as server:
        yield server


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lake")


@pytest.fixture(scope="module")
def airflow(
    airflow_database: None,
    emulator: Emulator,
    receiver: EventReceiver,
    lake: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LineageAirflow]:
    variables = {
        "AIRFLOW_CONN_ISVAPP_DEFAULT": json.dumps(isvapp_fields(emulator)),
        "AIRFLOW_CONN_PRODUCTIV_DEFAULT": json.dumps(productiv_fields(emulator)),
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).resolve().parent / "dags"),
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps({"type": "http", "url": receiver.url}),
        "AIRFLOW__OPENLINEAGE__NAMESPACE": "tests",
        "LINEAGE_LAKE": str(lake),
    }
    database = Path(os.environ["AIRFLOW_HOME"]) / "airflow.db"
    with LineageAirflow(tmp_path_factory.mktemp("airflow"), database, variables) as airflow:
        airflow.wait_for("Airflow is up", lambda: airflow.is_healthy("written", "failed"), seconds=300)
        yield airflow


@pytest.fixture(scope="module")
def written(airflow: LineageAirflow, emulator: Emulator) -> str:
    """A run that succeeds, with its links read while it waits."""
    run_id = airflow.trigger("written")
    airflow.wait_for("the deferral", lambda: airflow.task(run_id)["state"] == "deferred", seconds=120)
    if not AIRFLOW_2:
        assert links(airflow, run_id)["ISVapp export"] == export_url("isvapp_default", *emulator.exports)
    airflow.wait_for("the run", lambda: airflow.run_state(run_id) in ("success", "failed"), seconds=180)
    assert airflow.run_state(run_id) == "success", airflow.logs()
    return run_id


def links(airflow: LineageAirflow, run_id: str, *, map_index: int = -1) -> dict[str, Any]:
    dag_id = run_id.rpartition("-")[0]
    path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/export/links?map_index={map_index}"
    status, response = airflow.call("GET", path)
    assert status == 200, response
    return dict(json.loads(response)["extra_links"])


def names(datasets: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(dataset["namespace"], dataset["name"]) for dataset in datasets]


def complete(receiver: EventReceiver, airflow: LineageAirflow, job: str) -> dict[str, Any]:
    airflow.wait_for("the event", lambda: receiver.events(job, "COMPLETE"), seconds=30)
    (event,) = receiver.events(job, "COMPLETE")
    return event


def test_an_export_names_the_vendor_and_each_object(
    written: str, airflow: LineageAirflow, receiver: EventReceiver, emulator: Emulator, lake: Path
) -> None:
    event = complete(receiver, airflow, "written.export")

    assert names(event["inputs"]) == [(emulator.url, "exports/feature_usage")]
    files = sorted(lake.glob("usage/*.ndjson"))
    assert len(files) == 12
    assert sorted(names(event["outputs"])) == [("file", str(file)) for file in files]
    for output in event["outputs"]:
        file = Path(output["name"])
        statistics = output["outputFacets"]["outputStatistics"]
        assert (statistics["rowCount"], statistics["size"]) == (
            len(file.read_bytes().splitlines()),
            file.stat().st_size,
        )
        fields = {field["name"]: field["type"] for field in output["facets"]["schema"]["fields"]}
        assert set(fields) == set(json.loads(file.read_bytes().splitlines()[0]))
    assert event["run"]["facets"]["externalQuery"]["externalQueryId"] == next(iter(emulator.exports))
    assert event["run"]["facets"]["externalQuery"]["source"] == emulator.url


def test_lists_name_the_vendor_and_the_object(
    written: str, airflow: LineageAirflow, receiver: EventReceiver, emulator: Emulator, lake: Path
) -> None:
    accounts = complete(receiver, airflow, "written.accounts")
    apps = complete(receiver, airflow, "written.apps")

    assert names(accounts["inputs"]) == [(emulator.url, "salesforce_accounts")]
    assert names(apps["inputs"]) == [(emulator.url, "apps")]
    for event, file in ((accounts, lake / "accounts.ndjson"), (apps, lake / "apps.ndjson")):
        assert names(event["outputs"]) == [("file", str(file))]
        rows = len(file.read_bytes().splitlines())
        assert event["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == rows


def test_a_start_names_what_will_be_read_and_nothing_written(
    written: str, receiver: EventReceiver, emulator: Emulator
) -> None:
    starts = receiver.events("written.accounts", "START")

    assert starts
    for event in starts:
        assert names(event["inputs"]) == [(emulator.url, "salesforce_accounts")]
        assert event["outputs"] == []


def test_the_alias_has_an_asset_for_each_month(written: str, airflow: LineageAirflow, lake: Path) -> None:
    found = airflow.alias_events("usage_by_month")

    assert sorted(found) == [f"file://{file}" for file in sorted(lake.glob("usage/*.ndjson"))]
    assert all(extra["months"] == {Path(uri).stem: extra["rows"]} for uri, extra in found.items())


def test_a_consumer_runs_once_for_the_month_that_was_restated(
    written: str, airflow: LineageAirflow, emulator: Emulator, lake: Path
) -> None:
    def fetch(state: str) -> str:
        run_id = airflow.trigger("twelve_months")
        airflow.wait_for("the run", lambda: airflow.run_state(run_id) in ("success", "failed"), seconds=180)
        assert airflow.task(run_id)["state"] == state, airflow.logs()
        return run_id

    fetch("success")
    files = sorted(lake.glob("true/*.ndjson"))
    assert len(files) == 12
    # The scheduler may give the twelve events to more than one run.
    airflow.wait_for(
        "the consumer", lambda: airflow.consumed("changed") >= {f"file://{file}" for file in files}, seconds=180
    )
    march = files[4].stem
    emulator.inject(
        Fault(endpoint="create_export", kind="month_restated", month=march, restatement="counters", times=None)
    )
    before = airflow.run_ids("changed")
    assert airflow.announced(fetch("success")) == [f"file://{files[4]}"]
    airflow.wait_for("the consumer", lambda: len(airflow.run_ids("changed")) > len(before), seconds=180)
    (run_id,) = airflow.run_ids("changed")[len(before) :]
    assert airflow.consumed("changed", run_id) == {f"file://{files[4]}"}
    emulator.clear_faults()


def test_a_failure_names_no_output_and_the_error_without_secrets(
    written: str, airflow: LineageAirflow, receiver: EventReceiver, emulator: Emulator, lake: Path
) -> None:
    emulator.inject(Fault(endpoint="create_export", kind="export_errors", message="the warehouse is closed"))
    run_id = airflow.trigger("failed")
    airflow.wait_for("the run", lambda: airflow.run_state(run_id) == "failed", seconds=180)
    airflow.wait_for("the event", lambda: receiver.events("failed.export", "FAIL"), seconds=30)

    (event,) = receiver.events("failed.export", "FAIL")
    assert names(event["inputs"]) == [(emulator.url, "exports/feature_usage")]
    assert event["outputs"] == []
    assert "the warehouse is closed" in event["run"]["facets"]["errorMessage"]["message"]
    assert event["run"]["facets"]["externalQuery"]["externalQueryId"] in emulator.exports
    assert not (lake / "never.ndjson").exists()
    if not AIRFLOW_2:
        url = export_url("isvapp_default", list(emulator.exports)[-1])
        assert links(airflow, run_id, map_index=0) == {"ISVapp export": url, "Written object": None}


def test_all_events_are_valid_and_hold_no_secret(written: str, receiver: EventReceiver, emulator: Emulator) -> None:
    assert len(receiver.bodies) >= 8
    for body in receiver.bodies:
        event = json.loads(body)
        # For a run that assets triggered, OpenLineage's provider adds fields that are not in the specification.
        if not event["job"]["name"].startswith("changed"):
            check_event(event)
        for secret in (emulator.client_secret, emulator.productiv_client_secret, emulator.api_key):
            assert secret not in body
