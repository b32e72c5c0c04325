# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A real Airflow of the installed version, as processes that tests kill and restart."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import psutil
from airflow import __version__ as airflow_version

from scripts.demo.airflow_processes import one_machine_settings
from tests.support import ROOT, free_port

AIRFLOW_2 = airflow_version.startswith("2.")
COMPONENTS = ("scheduler", "triggerer") if AIRFLOW_2 else ("api-server", "scheduler", "dag-processor", "triggerer")


class RealAirflow:
    """Airflow's components in a separate home.

    :param home: an empty folder.
    :param database: a migrated SQLite database, which is copied.
    :param variables: environment variables for every process.
    :param components: the components to start on entry; the others can be started later.
    """

    def __init__(
        self, home: Path, database: Path, variables: dict[str, str], *, components: Sequence[str] = COMPONENTS
    ) -> None:
        self.home = home
        shutil.copy(database, home / "airflow.db")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._environment = os.environ | _settings(home, port) | variables
        self._components = components
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        for component in self._components:
            self.start(component)
        return self

    def __exit__(self, *_: object) -> None:
        for component in self._running:
            self.end(component, signal.SIGKILL)

    def use_package(self, folder: Path) -> None:
        """Make processes that start from now on import the provider from a folder instead of this checkout."""
        self._environment["PYTHONPATH"] = os.pathsep.join([str(folder), str(ROOT)])

    def restart(self, signal_number: int = signal.SIGTERM) -> None:
        """Stop all components and start them again."""
        for component in self._components:
            self.end(component, signal_number)
        for component in self._components:
            self.start(component)

    def start(self, component: str) -> None:
        with (self.home / f"{component}.log").open("ab") as log:
            self._running[component] = subprocess.Popen(
                [sys.executable, "-m", "airflow", component],
                # Python looks for modules in the working directory first.
                cwd=self.home,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def end(self, component: str, signal_number: int) -> None:
        """Send a signal to a component, and SIGKILL also to all processes that it has started."""
        leader = self._running[component]
        if signal_number == signal.SIGKILL:
            for process in psutil.process_iter():
                try:
                    if os.getsid(process.pid) == leader.pid:
                        process.kill()
                except (ProcessLookupError, PermissionError, psutil.NoSuchProcess):
                    continue
        else:
            leader.send_signal(signal_number)
        leader.wait(timeout=30)

    def trigger(self, dag_id: str, *, partition_key: str | None = None, **conf: str) -> str:
        """Start a run and return its id.

        :param partition_key: the key of a partition (Airflow 3.2).
        """
        run_id = f"{dag_id}-{secrets.token_hex(4)}"
        if AIRFLOW_2:
            self._command("dags", "trigger", dag_id, "--run-id", run_id, "--conf", json.dumps(conf))
        else:
            key = {} if partition_key is None else {"partition_key": partition_key}
            self._post(f"dags/{dag_id}/dagRuns", {"dag_run_id": run_id, "conf": conf, "logical_date": None, **key})
        return run_id

    def backfill(self, dag_id: str, first: str, last: str) -> None:
        """Make Airflow create the runs between two dates, as a user does in the UI.

        With SQLite, this works only while nothing else writes to the database.
        """
        writers = [component for component in COMPONENTS if component != "api-server"]
        for component in writers:
            self.end(component, signal.SIGTERM)
        dates = {"from_date": f"{first}T00:00:00Z", "to_date": f"{last}T00:00:00Z"}
        self._post("backfills", {"dag_id": dag_id, **dates, "max_active_runs": 3})
        for component in writers:
            self.start(component)

    def unpause(self, dag_id: str) -> None:
        """Unpause a DAG, so that the scheduler starts its runs."""
        if AIRFLOW_2:
            self._command("dags", "unpause", dag_id)
        else:
            self._send("PATCH", f"dags/{dag_id}", {"is_paused": False})

    def clear(self, run_id: str, task_id: str, *, dag_id: str | None = None) -> None:
        """Clear a task of a run, as a user does in the UI.

        :param dag_id: the DAG of a run that :meth:`trigger` did not start.
        """
        dag_id = run_id.rpartition("-")[0] if dag_id is None else dag_id
        what = {"dry_run": False, "only_failed": False, "dag_run_id": run_id, "task_ids": [task_id]}
        self._post(f"dags/{dag_id}/clearTaskInstances", what)

    def task(self, run_id: str, task_id: str = "export") -> dict[str, Any]:
        """Return the state, the tries and the process of a task from Airflow's database."""
        rows = self._query(
            "select state, try_number, max_tries, pid from task_instance where run_id = ? and task_id = ?",
            run_id,
            task_id,
        )
        names = ("state", "try_number", "max_tries", "pid")
        return dict(zip(names, rows[0], strict=True)) if rows else dict.fromkeys(names)

    def run_state(self, run_id: str) -> str:
        """Return the state of a DAG run."""
        return str(self._query("select state from dag_run where run_id = ?", run_id)[0][0])

    def states(self, dag_id: str) -> list[str]:
        """Return the states of a DAG's runs."""
        return [state for (state,) in self._query("select state from dag_run where dag_id = ? order by id", dag_id)]

    def run_ids(self, dag_id: str) -> list[str]:
        """Return the ids of a DAG's runs, in the order of their creation."""
        return [run_id for (run_id,) in self._query("select run_id from dag_run where dag_id = ? order by id", dag_id)]

    def partition_keys(self, dag_id: str) -> list[str]:
        """Return the partition keys of a DAG's runs (Airflow 3.2)."""
        found = self._query("select partition_key from dag_run where dag_id = ? order by id", dag_id)
        return [key for (key,) in found if key is not None]

    def results(self, dag_id: str) -> list[Any]:
        """Return the results of a DAG's tasks."""
        statement = "select value from xcom where dag_id = ? and key = 'return_value' order by dag_run_id"
        # SQLite stores the JSON of a number as a number.
        return [json.loads(str(value)) for (value,) in self._query(statement, dag_id)]

    def count_asset_events(self, export_id: str) -> int:
        """Return the number of asset events for an export."""
        ((count,),) = self._query("select count(*) from asset_event where extra like ?", f"%{export_id}%")
        return int(count)

    def is_parsed(self, dag_id: str) -> bool:
        """Whether Airflow has parsed the DAG's file."""
        return bool(self._query("select 1 from serialized_dag where dag_id = ?", dag_id))

    def wait_for(self, what: str, condition: Callable[[], Any], *, seconds: float = 60.0) -> None:
        """Wait until a condition holds.

        :raises AssertionError: with the end of each log, if the time is over or a component has died.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            dead = [name for name, process in self._running.items() if process.poll() is not None]
            if dead or time.monotonic() > deadline:
                raise AssertionError(f"{what}: not after {seconds:.0f} s; ended: {dead or 'none'}\n{self.logs()}")
            time.sleep(0.05)

    def is_healthy(self, *dag_ids: str) -> bool:
        """Whether the scheduler is healthy, and these DAGs are parsed."""
        if not all(self.is_parsed(dag_id) for dag_id in dag_ids):
            return False
        if AIRFLOW_2:
            return True
        try:
            status, response = self.call("GET", "/api/v2/monitor/health")
        except OSError:
            return False
        return status == 200 and json.loads(response)["scheduler"]["status"] == "healthy"

    def call(
        self, method: str, path: str, *, token: str | None = None, body: dict[str, Any] | None = None
    ) -> tuple[int, str]:
        """Send a request to the API server, and return the status and the body of the response."""
        request = urllib.request.Request(self.url + path, method=method)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def _query(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(f"file:{self.home}/airflow.db?mode=ro", uri=True, timeout=30)
        try:
            return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def _command(self, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            cwd=self.home,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout

    def _post(self, path: str, body: dict[str, Any]) -> None:
        self._send("POST", path, body)

    def _send(self, method: str, path: str, body: dict[str, Any]) -> None:
        # SQLite refuses concurrent writes ("database is locked"), and Airflow responds with 500.
        for _ in range(20):
            status, response = self.call(method, f"/api/v2/{quote(path)}", body=body)
            if status != 500 or "Database error" not in response:
                break
            time.sleep(1)
        assert status < 300, f"{path}: {status} {response[:1000]}"

    def logs(self) -> str:
        """Return the end of each component's log and of the logs of the latest two tries."""
        task_logs = sorted(self.home.glob("logs/dag_id=*/**/*.log"), key=lambda log: log.stat().st_mtime)[-2:]
        logs = [*self.home.glob("*.log"), *task_logs]
        return "\n".join(
            f"--- {log}\n" + "\n".join(log.read_text("utf-8", "replace").splitlines()[-20:]) for log in logs
        )


def _settings(home: Path, port: int) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": f"{home}/logs",
        "PYTHONPATH": str(ROOT),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "tests/system/crash/dags"),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        **one_machine_settings(port, log_ports=(free_port(), free_port())),
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.3",
        # In Airflow 2.11, a finished task schedules what is downstream of it, beside the scheduler. SQLite has no row
        # locks, so both may schedule the same task, and each adds one to its try number.
        "AIRFLOW__SCHEDULER__SCHEDULE_AFTER_TASK_EXECUTION": "False",
        # In Airflow 3, a try fails before it runs if the API server of a busy machine responds later than this.
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
        # How soon another triggerer takes over the triggers of a dead one.
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "4",
        # Airflow 2.11 refuses SQLite with this executor unless this variable is set.
        "_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK": "1",
    }
