# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Metrics of all processes of a real Airflow, one of which is killed."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from airflow_provider_isvapp.emulator import Emulator
from tests.support.real_airflow import AIRFLOW_2, RealAirflow
from tests.support.statsd_server import Line, StatsdServer, total, values
from tests.system.crash.test_crashes import DAG_ID, remembers_exports

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def new_lines(statsd: StatsdServer) -> Callable[[], list[Line]]:
    before = len(statsd.received())
    return lambda: statsd.received()[before:]


def run_to_success(airflow: RealAirflow, dag_id: str) -> None:
    run_id = airflow.trigger(dag_id)
    airflow.wait_for("the run ends", lambda: airflow.run_state(run_id) in ("success", "failed"), seconds=120)
    assert airflow.run_state(run_id) == "success", airflow.logs()


def test_worker_and_triggerer_count(
    airflow: RealAirflow, emulator: Emulator, new_lines: Callable[[], list[Line]]
) -> None:
    begin = len(emulator.requests)

    run_to_success(airflow, DAG_ID)

    lines, requests = new_lines(), emulator.requests[begin:]
    assert total(lines, "isvapp.exports.created") == 1
    assert total(lines, "isvapp.exports.completed") == 1
    (wait,) = values(lines, "isvapp.exports.wait")
    # The emulator takes five seconds for an export.
    assert 5_000 <= wait <= 60_000
    # The tasks' own requests ...
    for endpoint in ("create_export", "show_export", "download"):
        counted = sum(line.value for line in lines if line.name.startswith(f"isvapp.requests.{endpoint}."))
        assert counted == sum(request.endpoint == endpoint for request in requests) >= 1
    # ... and those of the triggerer alone.
    assert total(lines, "isvapp.requests.list_exports.200") >= 1


@remembers_exports
def test_a_killed_task_counts_its_export_once(airflow: RealAirflow, new_lines: Callable[[], list[Line]]) -> None:
    run_to_success(airflow, "killed_after_create")

    lines = new_lines()
    assert total(lines, "isvapp.exports.created") == 1
    # One, unless the machine is so busy that Airflow treats a running try as dead and starts another one.
    reattached = total(lines, "isvapp.exports.reattached")
    assert 1 <= total(lines, "isvapp.exports.completed") <= reattached, f"{lines}\n{airflow.logs()}"


@pytest.mark.skipif(AIRFLOW_2, reason="Airflow 2.11 has no exports page")
def test_the_page_counts_in_the_api_server(
    airflow: RealAirflow, emulator: Emulator, new_lines: Callable[[], list[Line]]
) -> None:
    status, response = airflow.call("GET", "/isvapp-exports/connections/isvapp_default/exports")
    assert status == 200, response
    assert len(json.loads(response)["exports"]) == len(emulator.exports)

    # Every other process has had a token for long.
    assert total(new_lines(), "isvapp.requests.token.200") >= 1
