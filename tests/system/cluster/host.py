# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A substitute for a container, of Linux namespaces: with a separate host name and process ids, it dies as a whole."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.system.cluster.translation import LocalService

SECONDS_TO_DIE = 20.0
SECONDS_BETWEEN_CHECKS = 2.0
# The first process inside waits for the others, as a container's does, and they die with it. It dies with the process
# that we have started, and that one with us.
NAMESPACES = ("setpriv", "--pdeathsig=KILL", "unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
INIT = ("sh", "-c", 'hostname "$HOSTNAME" && "$@"; exit $?', "sh")


class Host:
    """A host that can be killed and restarted; its files stay.

    ``healthy``: its health check has succeeded since the last start. ``expected``: it was not killed since then.

    :param service: the service that runs on it.
    :param logs: a folder; the log has the host's name and continues after a restart.
    """

    def __init__(self, service: LocalService, logs: Path) -> None:
        self.service = service
        self.name = service.name
        self.healthy = False
        self.expected = False
        self._log = logs / f"{service.name}.log"
        self._check_log = logs / f"{service.name}.healthcheck.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._check: subprocess.Popen[bytes] | None = None
        self._checked_at = 0.0

    @property
    def pid(self) -> int | None:
        """The process that all others of the host descend from."""
        return None if self._process is None else self._process.pid

    @property
    def roots(self) -> dict[int, str]:
        """The processes that all others descend from, with names: those of the host and of its health check."""
        found = {self._process.pid: self.name} if self._process is not None else {}
        return found | ({self._check.pid: "health checks"} if self._check is not None else {})

    @property
    def started(self) -> bool:
        """Whether it has ever been started."""
        return self._process is not None

    @property
    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start it, with the files of an earlier start."""
        for folder in (self.service.environment[name] for name in ("AIRFLOW_HOME", "HOME", "TMPDIR")):
            Path(folder).mkdir(parents=True, exist_ok=True)
        for link, source in self.service.links.items():
            source.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(source)
        self.expected = True
        self._process = self._popen([*NAMESPACES, *_rights(), *INIT, *self.service.words], self._log)

    def kill(self) -> None:
        """Send SIGKILL to everything on it, and wait until it is dead."""
        self.healthy = self.expected = False
        self._end_check()
        if self._process is None or self._process.poll() is not None:
            return
        leader = psutil.Process(self._process.pid)
        everything = [leader, *leader.children(recursive=True)]
        # The kernel kills a namespace's processes with its first one, which the leader waits for.
        for first in leader.children() or [leader]:
            first.kill()
        self._process.wait(SECONDS_TO_DIE)
        deadline = time.monotonic() + SECONDS_TO_DIE
        while any(_lives(process) for process in everything):
            assert time.monotonic() < deadline, f"{self.name}: SIGKILL left processes alive"
            time.sleep(0.05)

    def run_health_check(self) -> None:
        """Start the health check in the background, again and again until it succeeds once."""
        if not self.started or self.healthy or not self.service.healthcheck:
            return
        if self._check is None:
            if time.monotonic() < self._checked_at + SECONDS_BETWEEN_CHECKS:
                return
            self._check = self._popen(self.service.healthcheck, self._check_log)
        status = self._check.poll()
        if status is not None:
            self.healthy = status == 0
            self._check, self._checked_at = None, time.monotonic()

    def _popen(self, command: Sequence[str], log_file: Path) -> subprocess.Popen[bytes]:
        with log_file.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.service.environment["AIRFLOW_HOME"],
                env=self.service.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _end_check(self) -> None:
        if self._check is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._check.pid, signal.SIGKILL)
            self._check.wait()
            self._check = None


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _rights() -> tuple[str, ...]:
    """Return the further arguments that a user who is not root needs for namespaces."""
    return () if os.geteuid() == 0 else ("--map-root-user",)


def missing_rights() -> str | None:
    """Return why this machine cannot have such hosts; None if it can."""
    try:
        tried = subprocess.run([*NAMESPACES, *_rights(), "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "it needs Linux with setpriv and unshare, of the package util-linux"
    return None if tried.returncode == 0 else f"it may not make namespaces ({tried.stderr.strip()}); run it as root"
