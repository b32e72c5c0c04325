# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A real Airflow with users who have to sign in; at first only its API server runs, which is what pages need."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Self

from tests.support.airflow_environment import DAGS_FOLDER
from tests.support.real_airflow import COMPONENTS, RealAirflow

SECONDS_TO_START = 120
API_SERVER = "api-server"
ROLES = ("admin", "op", "user", "viewer")


class AirflowUi(RealAirflow):
    """Airflow with the example DAGs, all of them paused. One user for each role, named like it.

    :param home: an empty folder.
    :param database: a migrated SQLite database, to be copied.
    """

    def __init__(self, home: Path, database: Path) -> None:
        self._passwords = {role: secrets.token_hex() for role in ROLES}
        passwords_file = home / "passwords.json"
        passwords_file.write_text(json.dumps(self._passwords))
        variables = {
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{role}:{role}" for role in ROLES),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords_file),
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS_FOLDER),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
            # A DAG that is switched on runs when a user triggers it.
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
            # A busy machine can cost a try of a task; the example's pause before the next one is five minutes.
            "AIRFLOW__CORE__MAX_TASK_RETRY_DELAY": "2",
            "ISVAPP_LAKE": self.lake_of(home).as_uri(),
        }
        super().__init__(home, database, variables, components=(API_SERVER,))

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.wait_for("the API server", self._responds, seconds=SECONDS_TO_START)
        except BaseException:
            self.__exit__()
            raise
        return self

    def start_scheduling(self, dag_id: str) -> None:
        """Start what runs DAGs, and wait until it is there and has parsed this one."""
        for component in COMPONENTS:
            if component != API_SERVER:
                self.start(component)
        self.wait_for("the scheduler", lambda: self.is_healthy(dag_id), seconds=SECONDS_TO_START)

    @staticmethod
    def lake_of(home: Path) -> Path:
        """Where the example DAGs write."""
        return home / "lake"

    @property
    def log(self) -> str:
        """All that the server has written so far."""
        return (self.home / f"{API_SERVER}.log").read_text(errors="replace")

    def password(self, role: str) -> str:
        """Return the password of a role's user."""
        return self._passwords[role]

    def token(self, role: str) -> str:
        """Sign in and return the session's token."""
        credentials = {"username": role, "password": self.password(role)}
        status, response = self.call("POST", "/auth/token", body=credentials)
        assert status == 201, response
        return str(json.loads(response)["access_token"])

    def _responds(self) -> bool:
        try:
            return self.call("GET", "/api/v2/version")[0] == 200
        except OSError:
            return False
