# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Starts worker processes and reads the state that they share."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow_provider_isvapp.ratelimit import open_storage
from tests.support import ROOT


class Worker:
    """See `tests.unit.ratelimit.worker` for the tasks."""

    def __init__(self, storage: str, task: str, seconds: float = 0, *, key: str = "key") -> None:
        command = [sys.executable, "-m", "tests.unit.ratelimit.worker", storage, key, task, str(seconds)]
        self._is_ready = False
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def begin(self) -> None:
        """Start the task when the worker is ready."""
        if not self._is_ready:
            self.wait_until_ready()
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def wait_until_ready(self) -> None:
        self.next_time()
        self._is_ready = True

    def next_time(self) -> float:
        """Wait for the worker's next event, and return its time."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(self._process.communicate()[1])
        return float(line.split()[1])

    def all_times(self) -> list[float]:
        output, errors = self._process.communicate()
        assert self._process.returncode == 0, errors
        return [float(line.split()[1]) for line in output.splitlines()]

    def error(self) -> str:
        return self._process.communicate()[1]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        with self._process:
            self._process.kill()


@contextmanager
def workers(*all_workers: Worker) -> Iterator[tuple[Worker, ...]]:
    try:
        yield all_workers
    finally:
        for worker in all_workers:
            worker.close()


def shared_state(storage: str, *, key: str = "key") -> dict[str, Any]:
    """Return the shared state."""
    opened = open_storage(storage, key=key)
    text: str = opened.update(lambda text, now: (text or "", text or "{}"), timeout=5)
    opened.release()
    return {"queue": [], "busy": [], **json.loads(text)}


def wait_for_queue(storage: str, depth: int, *, key: str = "key") -> None:
    deadline = time.monotonic() + 20
    while len(shared_state(storage, key=key)["queue"]) < depth:
        assert time.monotonic() < deadline, "no process came to wait"
        time.sleep(0.01)
