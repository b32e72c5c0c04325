# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The end of a failed task's log, where Airflow's UI opens it."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from airflow import __version__ as airflow_version

from airflow_provider_isvapp.emulator import Emulator, Fault
from airflow_provider_isvapp.errors import ProviderError
from airflow_provider_isvapp.hooks.base import raise_airflow_errors
from airflow_provider_isvapp.version_compat import AirflowException
from tests.airflow.dags.conftest import parse, run

DAG_FILE = """
import pendulum
from airflow import DAG
from airflow_provider_isvapp.operators.isvapp import *
from airflow_provider_isvapp.sensors.isvapp import IsvappExportSensor

with DAG("failing_{name}", schedule=None, start_date=pendulum.datetime(2026, 1, 1, tz="UTC")):
    {task}
"""
EXPORT = 'IsvappExportOperator(task_id="x", path="{lake}/x", timeframe="2026-02", taxonomy_ids=["t"], deferrable=False)'
DEFERRED = EXPORT.replace("False", "True")
SENSOR = 'IsvappExportSensor(task_id="x", export_id="gone", timeout=0.1, poke_interval=0.1)'
ERRORED = [
    Fault(endpoint=endpoint, kind="edit", replace={"status": "ERRORED", "error_message": "Too bad"})
    for endpoint in ("show_export", "list_exports")
]
FAILURES: dict[str, tuple[str, list[Fault], str]] = {
    "argument": (EXPORT.replace("2026-02", "2026-13"), [], "timeframe: '2026-13' is neither a month"),
    "connection": (
        EXPORT.replace("deferrable=", 'isvapp_conn_id="nowhere", deferrable='),
        [],
        "Connection 'nowhere' is ",
    ),
    "refusal": (EXPORT, [Fault(endpoint="create_export", kind="status", status=422, message="Bad")], "ISVapp refused "),
    "library": (EXPORT, [Fault(endpoint="create_export", kind="reset")], "ISVapp did not confirm "),
    "deferred": (DEFERRED, ERRORED, "errored at ISVapp: Too bad"),
    "sensor": (SENSOR, [], "Export gone did not complete within 0 s"),
}


def test_a_chain_of_errors_is_left_out_of_the_log_and_kept_for_code() -> None:
    @raise_airflow_errors()
    def fail() -> None:
        raise ProviderError("our message") from OSError("of a library")

    with pytest.raises(AirflowException, match="our message") as caught:
        fail()
    assert isinstance(caught.value.__context__, ProviderError)
    assert "of a library" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.skipif(airflow_version.startswith("2."), reason="dag.test() of Airflow 2.11 logs a failure three times")
@pytest.mark.usefixtures("airflow_database")
@pytest.mark.parametrize("name", FAILURES)
def test_the_traceback_is_that_of_one_exception_and_no_error_follows(
    name: str, isvapp: Emulator, logs: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow.settings.DAGS_FOLDER", str(tmp_path))
    task, faults, message = FAILURES[name]
    (tmp_path / f"failing_{name}.py").write_text(DAG_FILE.format(name=name, task=task.format(lake=tmp_path)))
    for fault in faults:
        isvapp.inject(fault)

    ended = run(parse(f"failing_{name}", folder=tmp_path), at=datetime(2026, 3, 20, tzinfo=UTC))

    assert ended.state == "failed"
    log = logs()
    assert log.count("Traceback (most recent call last)") == 1
    after = log[log.index("Traceback (most recent call last)") :]
    (last_line,) = re.findall(r"^airflow\.\S+: (.*)$", after, re.M)
    assert message in last_line
    # Airflow 3 logs so when it looks for a link that the task has not stored.
    assert "XCom not found" not in log
    assert "[error" not in after
