# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What a step costs on this machine, measured for the capacity model without any export: ``make capacity-calibrate``.

Starts the cluster of ``make cluster-test`` with other DAGs, and prints options for ``make capacity``:

- ``--start-seconds``: forty tasks that only get ready to send and to write; the time from the first start to the last
  end, times the processors of the machine, by task. So it includes what Airflow's other processes need for a task.
- ``--hop-seconds``: one task alone that is deferred for ten seconds; what is left of its time after two starts and the
  deferral, in three hops.
- ``--latency``: requests to the emulator while the forty tasks run.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.api.isvapp.settings import IsvappSettings
from airflow_provider_isvapp.limiter import open_limiter
from tests.cluster import translation
from tests.cluster.cluster import Cluster
from tests.cluster.compose_file import ROOT, example_values, read_services
from tests.cluster.servers import Broker, Database, object_store
from tests.cluster.translation import Addresses, localised

# Held by `make cluster-test`, too: two clusters at once would measure each other.
LOCK = ROOT / ".venvs" / "cluster.running"
DAGS = ROOT / "benchmarks" / "capacity_dags"
STARTS, DEFERRED_SECONDS = 40, 10.0  # as in the DAGs
LONGEST = 600.0


@dataclass(frozen=True, kw_only=True)
class Span:
    """When the tasks of a run were at work, in seconds since the epoch."""

    triggered: float
    first_start: float
    last_end: float


def main() -> int:
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    with running_cluster() as (environment, session):
        lone, _ = run(environment, session, "capacity_hops", looks=0)
        starts, answers = run(environment, session, "capacity_starts", looks=10)
        (alone,) = session.execute(
            "select extract(epoch from min(end_date - start_date)) from task_instance where dag_id = 'capacity_starts'"
        ).fetchone()
    cores = len(os.sched_getaffinity(0))
    start = (starts.last_end - starts.first_start) * cores / STARTS
    hop = (lone.last_end - lone.triggered - DEFERRED_SECONDS - 2 * start) / 3
    print(
        f"{STARTS} starts in {starts.last_end - starts.first_start:.1f} s on {cores} processors; quickest {alone:.2f} s"
    )
    print(f"One deferred task: {lone.last_end - lone.triggered:.1f} s")
    print(f"Answers: {', '.join(f'{answer * 1000:.0f}' for answer in answers)} ms")
    print(f"\n--start-seconds {start:.2f} --hop-seconds {max(hop, 0.0):.2f} --latency {statistics.mean(answers):.3f}")
    return 0


@contextlib.contextmanager
def running_cluster() -> Iterator[tuple[dict[str, str], psycopg.Connection[Any]]]:
    """Start everything; give a worker's environment and Airflow's database."""
    folder = Path(tempfile.mkdtemp(prefix="isvapp-capacity-"))
    logs = folder / "logs"
    logs.mkdir()
    print(f"The logs are in {logs}", file=sys.stderr)
    translation.FOLDERS["./dags"] = DAGS
    values = example_values()
    with (
        _alone(),
        object_store(values) as store,
        Database(user_name="airflow", user_password=values["POSTGRES_PASSWORD"], logs=logs) as database,
        Broker(logs=logs) as broker,
    ):
        values |= {"S3_ACCESS_KEY": store.access_key, "S3_SECRET_KEY": store.secret_key}
        addresses = Addresses({"postgres": database.port, "redis": broker.port, "s3": store.port})
        services = localised(read_services(values), folder, addresses, rows=100)
        environment = next(service.environment for service in services if service.service == "airflow-worker")
        with Cluster(services, logs) as cluster:
            cluster.start(lambda text: print(text, file=sys.stderr))
            address = re.sub(r"^postgresql\+\w+", "postgresql", environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
            with psycopg.connect(address, autocommit=True) as session:
                yield environment, session
    shutil.rmtree(folder)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other cluster runs."""
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(
    environment: dict[str, str], session: psycopg.Connection[Any], dag_id: str, *, looks: int
) -> tuple[Span, list[float]]:
    """Run a DAG to its end, and meanwhile ask the emulator now and then.

    :param looks: how often to ask.
    :return: when its tasks were at work, and the seconds that answers took.
    """
    deadline = time.monotonic() + LONGEST
    while not session.execute("select 1 from serialized_dag where dag_id = %s", [dag_id]).fetchall():
        _check(deadline, f"{dag_id} is not parsed")
        time.sleep(0.5)
    triggered = time.time()
    _trigger(environment, dag_id)
    answers = list(_answers(environment, looks))
    while True:
        (state,) = session.execute("select state from dag_run where dag_id = %s", [dag_id]).fetchone() or ("",)
        if state == "success":
            break
        _check(deadline if state != "failed" else 0.0, f"{dag_id} is {state}")
        time.sleep(0.5)
    first, last = session.execute(
        "select extract(epoch from min(start_date)), extract(epoch from max(end_date)) from task_instance"
        " where dag_id = %s",
        [dag_id],
    ).fetchone() or (0.0, 0.0)
    return Span(triggered=triggered, first_start=float(first), last_end=float(last)), answers


def _trigger(environment: dict[str, str], dag_id: str) -> None:
    address = environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"].removesuffix("/execution/")
    request = urllib.request.Request(
        f"{address}/api/v2/dags/{dag_id}/dagRuns",
        data=json.dumps({"logical_date": None}).encode(),
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=30).close()


def _answers(environment: dict[str, str], looks: int) -> Iterator[float]:
    """Ask for the account, at a pace that the emulator takes."""
    connection = json.loads(environment["AIRFLOW_CONN_ISVAPP_DEFAULT"])
    settings = IsvappSettings.from_connection(
        **{name: connection.get(name) for name in ("login", "password", "host", "port", "schema")}, extra={}
    )
    with IsvappClient(settings, limiter=open_limiter("memory://", key="look", requests_per_second=1000)) as client:
        for look in range(looks + 1):
            began = time.monotonic()
            client.get_account()
            # The first one also asks for a token and opens the connection.
            if look:
                yield time.monotonic() - began
            time.sleep(1.5)


def _check(deadline: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise SystemExit(what)


if __name__ == "__main__":
    sys.exit(main())
