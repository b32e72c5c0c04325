# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""One DAG run, monitored in Airflow's database, and the kills during it."""

from __future__ import annotations

import json
import math
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import psycopg

from tests.system.cluster.arrivals import Arrival
from tests.system.cluster.cluster import Cluster, ClusterFailed
from tests.system.cluster.usage import UsageMeter

DAG_ID, RUN_ID = "isvapp_history", "cluster-test"
SECONDS_BETWEEN_POLLS = 0.5
# With retries left, Airflow continues a task in one of these states.
FAILED_FOR_GOOD = ("failed", "upstream_failed")

Key = tuple[str, int]  # of a task: its id and map index


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task of the run, from the database."""

    state: str | None
    host: str
    tries: int


@dataclass(kw_only=True)
class Kill:
    """A SIGKILL for a host in the middle of the run.

    Times are those of the monotonic clock, which the emulator uses, too.

    :param host: the host's name.
    :param after: the share of exports that must be finished.
    :param at_work: the minimum number of its tasks.
    :param away: the seconds until it is restarted.
    :param has: returns whether it has a task.
    """

    host: str
    after: float
    at_work: int
    away: float
    has: Callable[[str, Task], bool]
    at: float | None = None
    started_again_at: float | None = None
    had: dict[Key, Task] = field(default_factory=dict)
    # Seconds from the kill until each of these continued.
    went_on: dict[Key, float] = field(default_factory=dict)

    def meanwhile(self, arrivals: Iterable[Arrival]) -> int:
        """Count the requests of tasks that came while the host was away."""
        assert self.at is not None
        end = self.started_again_at or math.inf
        # Only the triggerer requests lists.
        return sum(self.at <= it.at < end and it.is_isvapp and it.endpoint != "list_exports" for it in arrivals)

    def notice(self, tasks: dict[Key, Task], now: float) -> None:
        """Record the tasks that have continued since."""
        assert self.at is not None
        for key, before in self.had.items():
            task = tasks[key]
            waits_still = (task.state, task.tries) == (before.state, before.tries) or task.state in (
                "up_for_retry",
                "scheduled",
                "queued",
            )
            if key not in self.went_on and not waits_still:
                self.went_on[key] = now - self.at


def worker_has(host: str, task: Task) -> bool:
    """A worker has its running tasks."""
    return task.state == "running" and task.host == host


def triggerer_has(host: str, task: Task) -> bool:
    """The only triggerer has all deferred tasks."""
    return task.state == "deferred"


class DagRun:
    """The run of the DAG.

    :param url: the URL of Airflow's API server.
    :param database: Airflow's database, as a psycopg connection string.
    """

    def __init__(self, url: str, database: str) -> None:
        self._url = url
        self._session = psycopg.connect(database, autocommit=True)

    def close(self) -> None:
        """Close the connection to the database."""
        self._session.close()

    def is_parsed(self) -> bool:
        """Whether the DAG processor has read the file."""
        return bool(self._session.execute("select 1 from serialized_dag where dag_id = %s", [DAG_ID]).fetchall())

    def trigger(self, exports: int) -> None:
        """Start it, as a user does in the UI."""
        body = {"dag_run_id": RUN_ID, "conf": {"exports": exports}, "logical_date": None}
        request = urllib.request.Request(
            f"{self._url}/api/v2/dags/{DAG_ID}/dagRuns",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            urllib.request.urlopen(request, timeout=30).close()
        except urllib.error.HTTPError as error:
            raise ClusterFailed(f"The API server did not start the run: {error.code} {error.read()[:500]!r}") from None

    def state(self) -> str:
        """Return the state of the run."""
        return str(self._session.execute("select state from dag_run where run_id = %s", [RUN_ID]).fetchall()[0][0])

    def tasks(self) -> dict[Key, Task]:
        """Return all tasks."""
        statement = "select task_id, map_index, state, hostname, try_number from task_instance where run_id = %s"
        return {
            (task_id, index): Task(state=state, host=host or "", tries=tries)
            for task_id, index, state, host, tries in self._session.execute(statement, [RUN_ID]).fetchall()
        }


class QueueWatch:
    """The time that tasks were queued, which shows messages that were lost with a worker."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._since: dict[Key, float] = {}

    def notice(self, tasks: dict[Key, Task], now: float) -> None:
        """Record the tasks that are queued now."""
        queued = [key for key, task in tasks.items() if task.state == "queued"]
        self._since = {key: self._since.get(key, now) for key in queued}
        self.longest = max([self.longest, *(now - since for since in self._since.values())])


def follow(
    run: DagRun,
    cluster: Cluster,
    kills: list[Kill],
    *,
    exports: int,
    seconds: float,
    usage: UsageMeter,
    queue: QueueWatch,
    say: Callable[[str], None],
) -> dict[Key, Task]:
    """Follow the run to its end, and kill processes meanwhile.

    :param seconds: how long it may take.
    :return: the tasks after the run.
    :raises ClusterFailed: it failed, took too long, or a host died unexpectedly.
    """
    deadline = time.monotonic() + seconds
    told = 0
    while True:
        cluster.check()
        state, tasks, now = run.state(), run.tasks(), time.monotonic()
        done = frozenset(key for key, task in tasks.items() if key[0] == "export" and task.state == "success")
        if len(done) >= told + exports / 10:
            told = len(done)
            say(f"{told} of {exports} exports are there")
        failed = [f"{task_id} {index}" for (task_id, index), task in tasks.items() if task.state in FAILED_FOR_GOOD]
        if failed or state == "failed":
            raise ClusterFailed(f"These tasks failed: {', '.join(failed) or 'none'}; the run is {state}.")
        queue.notice(tasks, now)
        for kill in kills:
            _act(kill, cluster, tasks, done, now, exports=exports, usage=usage, say=say)
        if state == "success":
            return tasks
        if now > deadline:
            states = sorted({task.state or "none" for task in tasks.values()} - {"success"})
            raise ClusterFailed(f"The run had not ended after {seconds:.0f} s; its tasks are also {', '.join(states)}.")
        time.sleep(SECONDS_BETWEEN_POLLS)


def _act(
    kill: Kill,
    cluster: Cluster,
    tasks: dict[Key, Task],
    done: frozenset[Key],
    now: float,
    *,
    exports: int,
    usage: UsageMeter,
    say: Callable[[str], None],
) -> None:
    host = cluster.hosts[kill.host]
    if kill.at is None:
        had = {key: task for key, task in tasks.items() if kill.has(kill.host, task)}
        if len(done) >= kill.after * exports and len(had) >= kill.at_work:
            usage.ending(kill.host)
            host.kill()
            kill.at, kill.had = now, had
            say(f"SIGKILL for {kill.host}, which has {len(had)} tasks")
        return
    kill.notice(tasks, now)
    if not host.expected and now >= kill.at + kill.away:
        host.start()
        kill.started_again_at = now
        say(f"{kill.host} starts again after {now - kill.at:.0f} s")
