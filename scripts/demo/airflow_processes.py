# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The processes of a local Airflow: started in separate sessions, monitored, and ended without leftovers."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil

from scripts.demo.console import DemoFailed

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
LOG_LINES_SHOWN = 25
SECONDS_TO_END = 5


def one_machine_settings(port: int, *, log_ports: tuple[int, int]) -> dict[str, str]:
    """Return the variables of an Airflow without a login that only this machine can reach.

    :param port: the API server's port.
    :param log_ports: the ports of the workers' and the triggerer's log servers.
    """
    return {
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        # SQLite allows one writer: more tasks at once end in "database is locked".
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(log_ports[0]),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(log_ports[1]),
    }


class AirflowProcesses:
    """Airflow's own components, as ``airflow standalone`` starts them, with a log file each.

    :param home: folder of this Airflow; ``processes.json`` in it names what runs, for a demo that comes after a crash.
    :param environment: complete environment variables for every process.
    """

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self._home = home
        self._environment = dict(environment)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> AirflowProcesses:
        return self

    def __exit__(self, *exception: object) -> None:
        # A second Ctrl-C must not leave processes behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        end_processes(self._home)
        for process in self._running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1)

    def run(self, *arguments: str, timeout: float) -> None:
        """Run one ``airflow`` command to its end."""
        log = self._log(arguments[0])
        with log.open("wb") as output:
            try:
                status: int | str = subprocess.run(
                    self._command(*arguments),
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=timeout,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                status = f"nothing after {timeout:.0f} s"
        if status != 0:
            raise DemoFailed(f"'airflow {' '.join(arguments)}' ended with {status}.\n{_tail(log)}")

    def start(self) -> None:
        """Start every component; :meth:`check` reports whether they are alive."""
        for component in COMPONENTS:
            with self._log(component).open("wb") as output:
                self._running[component] = subprocess.Popen(
                    self._command(component),
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    # Ctrl-C in the terminal reaches the demo only, which then ends its processes in order.
                    start_new_session=True,
                )
            _record(self._home, [process.pid for process in self._running.values()])

    def check(self) -> None:
        """Raise DemoFailed with the end of its log when a component has died."""
        for component, process in self._running.items():
            if process.poll() is not None:
                raise DemoFailed(
                    f"Airflow's {component} ended with status {process.returncode}.\n{_tail(self._log(component))}"
                )

    def logs(self) -> str:
        """Return the last lines of every component's log, for an error that none of them explains alone."""
        return "\n".join(_tail(self._log(component)) for component in self._running)

    def _command(self, *arguments: str) -> list[str]:
        return [str(Path(sys.executable).parent / "airflow"), *arguments]

    def _log(self, component: str) -> Path:
        return self._home / f"{component}.log"


def end_processes(home: Path) -> int:
    """End the processes of a demo in this home, of this run or an earlier one; return their number."""
    processes = list(_processes(home))
    for process in processes:
        # A component ends its children itself; if all get the signal at once, they wait for each other.
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(process.pid) == process.pid:
                process.terminate()
    psutil.wait_procs(processes, timeout=SECONDS_TO_END)
    stubborn = list(_processes(home))
    for process in stubborn:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=SECONDS_TO_END)
    _register(home).unlink(missing_ok=True)
    return len(processes)


def _processes(home: Path) -> Iterator[psutil.Process]:
    """Find the recorded session leaders and all members of their sessions, also after a leader's death."""
    if not _register(home).exists():
        return
    sessions = set()
    for leader, born in json.loads(_register(home).read_text()).items():
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(int(leader)).create_time() != born:
                continue  # another process has this id now
        sessions.add(int(leader))
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _register(home: Path) -> Path:
    return home / "processes.json"


def _record(home: Path, leaders: list[int]) -> None:
    born = {}
    for leader in leaders:
        with contextlib.suppress(psutil.NoSuchProcess):
            born[leader] = psutil.Process(leader).create_time()
    _register(home).write_text(json.dumps(born))


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
    return "\n".join([f"The end of {log}:", *(f"  | {line}" for line in lines)])


def wait_until_healthy(processes: AirflowProcesses, healthy: Callable[[], bool], *, seconds: float) -> None:
    """Wait until ``healthy()`` is true, and no longer than ``seconds``; fail early when a component dies."""
    deadline = time.monotonic() + seconds
    while not healthy():
        processes.check()
        if time.monotonic() > deadline:
            raise DemoFailed(f"Airflow was not up after {seconds:.0f} s.\n{processes.logs()}")
        time.sleep(0.25)
