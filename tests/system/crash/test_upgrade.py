# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Tasks that an earlier release has deferred end with this one: it reads what that release stored.

``wheels/`` holds the wheel with which the public surface was frozen (docs/support.md).
"""

from __future__ import annotations

import json
import os
import signal
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airflow_provider_isvapp.emulator import Emulator, EmulatorConfig, Fault
from tests.support import ROOT
from tests.support.airflow_connections import isvapp_fields
from tests.support.real_airflow import RealAirflow

pytestmark = pytest.mark.timeout(420)


@pytest.fixture(scope="module")
def earlier_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (wheel,) = (Path(__file__).parent / "wheels").glob("*.whl")
    folder = tmp_path_factory.mktemp("earlier_release")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(EmulatorConfig(requests_per_second=None, export_seconds=1, rows=300)) as server:
        yield server


@pytest.fixture
def airflow(airflow_database: None, emulator: Emulator, earlier_release: Path, tmp_path: Path) -> Iterator[RealAirflow]:
    (tmp_path / "lake").mkdir()
    (tmp_path / "airflow").mkdir()
    variables = {
        "AIRFLOW_CONN_ISVAPP_DEFAULT": json.dumps(isvapp_fields(emulator, rate_limit_storage="", attempts=3)),
        "CRASH_LAKE": str(tmp_path / "lake"),
        "CRASH_IMPORTED": str(tmp_path / "imported"),
    }
    database = Path(os.environ["AIRFLOW_HOME"]) / "airflow.db"
    airflow = RealAirflow(tmp_path / "airflow", database, variables)
    airflow.use_package(earlier_release)
    with airflow:
        airflow.wait_for("Airflow is up", lambda: airflow.is_healthy("deferred", "single_tasks"), seconds=300)
        yield airflow


def test_deferred_tasks_survive_an_upgrade(
    airflow: RealAirflow, emulator: Emulator, earlier_release: Path, tmp_path: Path
) -> None:
    month = (datetime.now(UTC).replace(day=1) - timedelta(days=1)).strftime("%Y-%m")
    for endpoint in ("show_export", "list_exports"):
        emulator.inject(Fault(endpoint=endpoint, kind="edit", replace={"status": "PENDING"}, times=None))
    deferred = [(airflow.trigger("deferred"), "export"), (airflow.trigger("single_tasks"), "wait")]
    wait_until_deferred(airflow, deferred)
    emulator.inject(Fault(endpoint="create_export", kind="month_incomplete", times=None))
    deferred.append((airflow.trigger("single_tasks", timeframe=month), "create"))
    wait_until_deferred(airflow, deferred)
    tries = [airflow.task(*task)["try_number"] for task in deferred]
    assert imported_from(tmp_path) == {str(earlier_release)}

    airflow.use_package(ROOT)
    airflow.restart(signal.SIGKILL)
    airflow.wait_for(
        "this release is up", lambda: imported_from(tmp_path) == {str(earlier_release), str(ROOT)}, seconds=300
    )
    emulator.clear_faults()

    for run_id, _ in deferred:
        airflow.wait_for(f"{run_id} ends", lambda: airflow.run_state(run_id) in ("success", "failed"), seconds=120)  # noqa: B023
        assert airflow.run_state(run_id) == "success", airflow.logs()
    # A try that cannot read what it has stored fails, and the next one starts again.
    assert [airflow.task(*task)["try_number"] for task in deferred] == tries
    written = sorted(path.read_bytes() for path in (tmp_path / "lake").iterdir())
    assert written == sorted(map(emulator.export_bytes, emulator.exports))
    assert len(written) == 3


def wait_until_deferred(airflow: RealAirflow, tasks: list[tuple[str, str]]) -> None:
    for task in tasks:
        airflow.wait_for(f"{task} is deferred", lambda: airflow.task(*task)["state"] == "deferred")  # noqa: B023


def imported_from(folder: Path) -> set[str]:
    return set((folder / "imported").read_text().split())
