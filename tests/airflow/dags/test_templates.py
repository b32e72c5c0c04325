# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Templates of each kind through Airflow's own commands for trying DAGs: ``dags test`` and ``tasks test``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_isvapp.emulator import Emulator

pytestmark = pytest.mark.usefixtures("airflow_database")

FOLDER = Path(__file__).parent / "templates"


def airflow(*arguments: str) -> str:
    """Run a command of Airflow and return what it printed."""
    run = subprocess.run(
        [Path(sys.executable).parent / "airflow", *arguments],
        env=os.environ | {"AIRFLOW__CORE__DAGS_FOLDER": str(FOLDER), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout[-5000:]
    return run.stdout


def test_native_rendering_and_mapping_in_dags_test(emulator: Emulator, lake: Path) -> None:
    printed = airflow("dags", "test", "native_templates", "2024-03-20")

    requests = [export["request"] for export in emulator.exports.values()]
    assert sorted(request["months"] for request in requests) == [("2024-01",), ("2024-02",)], printed[-5000:]
    assert {request["ids"] for request in requests} == {("t-1", "t-2")}
    months = {export_id: export["request"]["months"] for export_id, export in emulator.exports.items()}
    assert [printed.count(f"Check {name}: passed") for name in ("MaxChange", "<lambda>")] == [2, 2]
    written = {path.name: path.read_bytes() for path in lake.glob("native*")}
    assert sorted(written) == ["native-0.ndjson", "native-1.ndjson"]
    for export_id, (month,) in months.items():
        assert written[f"native-{['2024-01', '2024-02'].index(month)}.ndjson"] == emulator.export_bytes(export_id)


def test_a_json_list_in_tasks_test(emulator: Emulator, lake: Path) -> None:
    printed = airflow("tasks", "test", "text_templates", "export", "2024-03-20")

    assert len(emulator.exports) == 1, printed[-5000:]
    assert [printed.count(f"Check {name}: passed") for name in ("MaxChange", "<lambda>")] == [1, 1]
    (export_id,) = emulator.exports
    assert emulator.exports[export_id]["request"]["ids"] == ("t-1", "t-2")
    assert (lake / "2024-03-20.ndjson").read_bytes() == emulator.export_bytes(export_id)
