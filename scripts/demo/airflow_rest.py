# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The few calls of Airflow's REST API that the demo makes, on the standard library alone."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote

from scripts.demo.console import DemoFailed

COMPONENTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")


class AirflowRest:
    """A client without a login: in the demo's Airflow, every user of this machine is an administrator."""

    def __init__(self, url: str) -> None:
        self._base = f"{url}/api/v2"

    def healthy(self) -> bool:
        """Whether every component has reported as healthy."""
        try:
            health = self._call("GET", "monitor/health")
        except (DemoFailed, OSError):
            return False
        return all((health.get(component) or {}).get("status") == "healthy" for component in COMPONENTS)

    def create_connection(self, connection: dict[str, Any]) -> None:
        self._call("POST", "connections", connection)

    def test_connection(self, connection: dict[str, Any]) -> tuple[bool, str]:
        """Do what the Test button does."""
        response = self._call("POST", "connections/test", connection)
        return response["status"], response["message"]

    def has_dag(self, dag_id: str) -> bool:
        return any(dag["dag_id"] == dag_id for dag in self._call("GET", "dags")["dags"])

    def import_errors(self) -> list[str]:
        return [error["stack_trace"] for error in self._call("GET", "importErrors")["import_errors"]]

    def unpause(self, dag_id: str) -> None:
        self._call("PATCH", f"dags/{dag_id}", {"is_paused": False})

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        return list(self._call("GET", f"dags/{dag_id}/dagRuns")["dag_runs"])

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        return list(self._call("GET", f"dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances")["task_instances"])

    def result(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """Return what a task returned: its XCom ``return_value``."""
        path = f"dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}/xcomEntries/return_value"
        return self._call("GET", path)["value"]

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int) -> list[str]:
        """Return the lines of a task's log, with exceptions in short."""
        path = f"dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}/logs/{try_number}"
        content = self._call("GET", path)["content"]
        lines = []
        for line in content:
            lines.append(f"{line.get('level', '')} {line['event']}".strip())
            lines += [f"{error['exc_type']}: {error['exc_value']}" for error in line.get("error_detail") or ()]
        return lines

    def _call(self, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(
            f"{self._base}/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Accept": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise DemoFailed(f"{method} {path} got status {error.code}: {error.read()[:500]!r}") from None
