# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Processes of a real Airflow are killed while an export is in progress.

Whichever process dies, the file has the export's exact bytes in the end, and the vendor has counted one export. Before
Airflow 3.3, where nothing survives a try, this holds for the separate tasks only.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airflow_provider_isvapp.emulator import Emulator, Fault
from tests.support.real_airflow import AIRFLOW_2, RealAirflow

pytestmark = pytest.mark.timeout(420)
remembers_exports = pytest.mark.skipif(AIRFLOW_2, reason="Airflow 2.11 keeps nothing over the tries of a task")
# What is promised: one task for everything where Airflow keeps a value over tries, else three. And which of them waits.
DAG_ID, WAITS = ("single_tasks", "wait") if AIRFLOW_2 else ("deferred", "export")


@pytest.fixture
def new_exports(emulator: Emulator) -> Callable[[], list[str]]:
    before = set(emulator.exports)
    return lambda: [export_id for export_id in emulator.exports if export_id not in before]


@pytest.fixture
def ends_well(
    airflow: RealAirflow, emulator: Emulator, lake: Path, new_exports: Callable[[], list[str]]
) -> Callable[..., None]:
    def check(run_id: str, *, exports: int = 1, tries: int = 1) -> None:
        airflow.wait_for("the task ends", lambda: airflow.task(run_id)["state"] in ("success", "failed"), seconds=90)
        assert airflow.task(run_id)["state"] == "success", f"{airflow.task(run_id)}\n{airflow.logs()}"
        # A busy machine can cost further tries: Airflow fails the start of a task when its API responds too late.
        assert airflow.task(run_id)["try_number"] >= tries
        assert len(new_exports()) == exports
        assert (lake / f"{run_id}.ndjson").read_bytes() == emulator.export_bytes(new_exports()[-1])
        assert [path.name for path in lake.iterdir() if run_id in path.name] == [f"{run_id}.ndjson"]

    return check


def is_in(airflow: RealAirflow, run_id: str, task_id: str, state: str) -> Callable[[], bool]:
    return lambda: airflow.task(run_id, task_id)["state"] == state


def kill_task(airflow: RealAirflow, run_id: str) -> None:
    os.kill(airflow.task(run_id)["pid"], signal.SIGKILL)


@remembers_exports
def test_killed_right_after_the_creation(airflow: RealAirflow, ends_well: Callable[..., None]) -> None:
    ends_well(airflow.trigger("killed_after_create"), tries=2)


@remembers_exports
def test_killed_while_it_polls(
    airflow: RealAirflow, emulator: Emulator, new_exports: Callable[[], list[str]], ends_well: Callable[..., None]
) -> None:
    run_id = airflow.trigger("poking")
    shown = emulator.request_counts().get("show_export", 0)
    airflow.wait_for("a look", lambda: emulator.request_counts().get("show_export", 0) > shown)

    kill_task(airflow, run_id)

    ends_well(run_id, tries=2)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_the_triggerer_ends_while_it_waits(airflow: RealAirflow, number: int, ends_well: Callable[..., None]) -> None:
    run_id = airflow.trigger(DAG_ID)
    airflow.wait_for("the deferral", is_in(airflow, run_id, WAITS, "deferred"))

    airflow.end("triggerer", number)
    airflow.start("triggerer")

    ends_well(run_id)


def test_killed_while_it_downloads(airflow: RealAirflow, emulator: Emulator, ends_well: Callable[..., None]) -> None:
    emulator.inject(Fault(endpoint="download", kind="slow", bytes_per_second=500))
    downloads = emulator.request_counts().get("download", 0)
    run_id = airflow.trigger(DAG_ID)
    airflow.wait_for("the download", lambda: emulator.request_counts().get("download", 0) > downloads)

    kill_task(airflow, run_id)

    ends_well(run_id, tries=2)


@remembers_exports
def test_a_clear_after_success_creates_a_new_export(airflow: RealAirflow, ends_well: Callable[..., None]) -> None:
    run_id = airflow.trigger("deferred")
    ends_well(run_id, exports=1)
    # A clear at the moment when the scheduler finishes the run is lost: Airflow then marks the run as done.
    airflow.wait_for("the run ends", lambda: airflow.run_state(run_id) == "success")

    airflow.clear(run_id, "export")
    airflow.wait_for("the clear", lambda: airflow.task(run_id)["state"] != "success")

    ends_well(run_id, exports=2)


@pytest.mark.skipif(AIRFLOW_2, reason="Airflow 2.11 has no event triggers")
def test_a_completed_export_starts_a_dag(
    airflow: RealAirflow, new_exports: Callable[[], list[str]], ends_well: Callable[..., None]
) -> None:
    runs = len(airflow.states("started_by_export"))
    ends_well(airflow.trigger("deferred"))
    (export_id,) = new_exports()

    airflow.wait_for("the asset event", lambda: airflow.count_asset_events(export_id))
    airflow.wait_for("the DAG run", lambda: len(airflow.states("started_by_export")) > runs)
    airflow.end("triggerer", signal.SIGTERM)
    airflow.start("triggerer")
    ends_well(airflow.trigger("deferred"), exports=2)

    airflow.wait_for("the next asset event", lambda: airflow.count_asset_events(new_exports()[-1]))
    assert airflow.count_asset_events(export_id) == 1


@remembers_exports
def test_a_clear_while_it_is_deferred_creates_a_new_export(
    airflow: RealAirflow, ends_well: Callable[..., None]
) -> None:
    run_id = airflow.trigger("deferred")
    airflow.wait_for("the deferral", is_in(airflow, run_id, "export", "deferred"))

    airflow.clear(run_id, "export")

    ends_well(run_id, exports=2)


@remembers_exports
@pytest.mark.parametrize("kind", ["export_errors", "export_expires"])
def test_a_retry_after_a_lost_export_creates_one_new_one(
    airflow: RealAirflow, emulator: Emulator, kind: str, ends_well: Callable[..., None]
) -> None:
    emulator.inject(Fault(endpoint="create_export", kind=kind, message="no" if kind == "export_errors" else None))

    ends_well(airflow.trigger("deferred"), exports=2, tries=2)


def test_a_month_that_is_refused_twice(
    airflow: RealAirflow, emulator: Emulator, ends_well: Callable[..., None]
) -> None:
    emulator.inject(Fault(endpoint="create_export", kind="month_incomplete", times=2))
    month = (datetime.now(UTC).replace(day=1) - timedelta(days=1)).strftime("%Y-%m")

    ends_well(airflow.trigger(DAG_ID, timeframe=month))


def test_another_refusal_ends_the_task_at_once(airflow: RealAirflow, emulator: Emulator) -> None:
    emulator.inject(Fault(endpoint="create_export", kind="status", status=403, message="the contract has ended"))

    run_id = airflow.trigger("single_tasks")
    airflow.wait_for("the failure", is_in(airflow, run_id, "create", "failed"))

    assert airflow.task(run_id, "create")["try_number"] == 1
