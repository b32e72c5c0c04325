# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Airflow's API server as its own process, with users who have to sign in."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

SECONDS_TO_START = 120
SECONDS_TO_END = 10
ROLES = ("admin", "op", "user", "viewer")


class AirflowUi:
    """A context manager around ``airflow api-server``; its database must exist already.

    One user for each role, named like it.

    :param folder: gets the passwords and the server's log.
    """

    def __init__(self, folder: Path) -> None:
        self._log = folder / "api-server.log"
        self._passwords = {role: secrets.token_hex() for role in ROLES}
        passwords_file = folder / "passwords.json"
        passwords_file.write_text(json.dumps(self._passwords))
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._environment = os.environ | {
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{role}:{role}" for role in ROLES),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords_file),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(),
        }

    def __enter__(self) -> AirflowUi:
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [Path(sys.executable).parent / "airflow", "api-server"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    @property
    def log(self) -> str:
        """All that the server has written so far."""
        return self._log.read_text(errors="replace")

    def password(self, role: str) -> str:
        """Return the password of a role's user."""
        return self._passwords[role]

    def token(self, role: str) -> str:
        """Sign in and return the token that stands for the session."""
        credentials = {"username": role, "password": self.password(role)}
        status, answer = self.call("POST", "/auth/token", body=credentials)
        assert status == 201, answer
        return str(json.loads(answer)["access_token"])

    def call(
        self, method: str, path: str, *, token: str | None = None, body: dict[str, Any] | None = None
    ) -> tuple[int, str]:
        """Send a request; return status and body."""
        request = urllib.request.Request(self.url + path, method=method)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def _wait(self) -> None:
        deadline = time.monotonic() + SECONDS_TO_START
        while True:
            try:
                if self.call("GET", "/api/v2/version")[0] == 200:
                    return
            except OSError:
                pass
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Airflow's API server did not start:\n{self.log[-4000:]}")
            time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
