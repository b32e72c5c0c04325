# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Follow a DAG run: say what each task does as its state changes, until the run has ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from scripts.demo.airflow_rest import AirflowRest
from scripts.demo.console import Console, DemoFailed

_WAITING = "the triggerer waits for it, no worker is held"
# Airflow would retry in some minutes; against an emulator without faults, nothing should fail.
_BAD = ("failed", "up_for_retry")
_LOG_LINES_SHOWN = 30


def wait_for_dag(airflow: AirflowRest, dag_id: str, *, alive: Callable[[], None], seconds: float) -> None:
    """Wait until the DAG processor has parsed a file of ours."""
    deadline = time.monotonic() + seconds
    while not airflow.has_dag(dag_id):
        alive()
        broken = airflow.import_errors()
        if broken:
            raise DemoFailed(f"A DAG file cannot be imported:\n{broken[0]}")
        if time.monotonic() > deadline:
            raise DemoFailed(f"Airflow did not list {dag_id} within {seconds:.0f} s.")
        time.sleep(0.25)


def follow_run(
    airflow: AirflowRest, dag_id: str, *, console: Console, alive: Callable[[], None], seconds: float
) -> str:
    """Follow the only run of a DAG, waiting for it to appear first.

    :param alive: raises when Airflow itself has died.
    :return: the id of the run, which succeeded.
    """
    deadline = time.monotonic() + seconds
    states: dict[str, str] = {}
    run: dict[str, Any] | None = None
    while run is None or run["state"] not in ("success", "failed"):
        alive()
        if time.monotonic() > deadline:
            raise DemoFailed(f"{dag_id} had not ended after {seconds:.0f} s; its tasks: {states or 'none started'}.")
        time.sleep(0.25)
        run = next(iter(airflow.runs(dag_id)), None)
        if run is not None:
            _say_changes(airflow, dag_id, run["dag_run_id"], states, console)
        if run is not None and any(state in _BAD for state in states.values()):
            raise DemoFailed(f"{dag_id} failed.\n{_failed_log(airflow, dag_id, run['dag_run_id'])}")
    return str(run["dag_run_id"])


def _say_changes(airflow: AirflowRest, dag_id: str, run_id: str, states: dict[str, str], console: Console) -> None:
    for task in airflow.task_instances(dag_id, run_id):
        state = task["state"]
        if state is None or states.get(task["task_id"]) == state:
            continue
        states[task["task_id"]] = state
        if state in ("scheduled", "queued"):
            continue
        duration = f"took {task['duration']:.1f} s" if state == "success" and task["duration"] else ""
        remark = _WAITING if state == "deferred" else duration
        console.step(f"  {task['task_id']:17} {state:9} {remark}".rstrip())


def _failed_log(airflow: AirflowRest, dag_id: str, run_id: str) -> str:
    for task in airflow.task_instances(dag_id, run_id):
        if task["state"] in _BAD:
            lines = airflow.log(dag_id, run_id, task["task_id"], task["try_number"])[-_LOG_LINES_SHOWN:]
            return "\n".join([f"The end of the log of {task['task_id']}:", *(f"  | {line}" for line in lines)])
    return "Its failed task has no log yet."
