# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What a step costs on this machine, measured for the capacity model without any export: ``make capacity-calibrate``.

Starts the cluster of ``make cluster-test`` with other DAGs, and prints options for ``make capacity``:

- ``--start-seconds``: forty tasks that get ready to send and to write, half of which write a little; the time from
  the first one's queueing to the last one's end, times the processors of the machine, for each. So what Airflow's other
  processes need is in it.
- ``--hop-seconds``: one task alone that is deferred for ten seconds, on workers that have run it before; what is left
  of its time after two starts and the deferral, in three hops.
- ``--cold-seconds``: how much longer it takes on workers that have just started. The exports here are not the first.
- ``--latency``: requests to the emulator while the forty tasks run.

``ARGS="--exports 20"`` also runs so many exports, and puts the prediction beside what came of them. The forty starts
are measured before and after, since a machine that does other things as well is not the same all the time.
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
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.api.isvapp.settings import IsvappSettings
from airflow_provider_isvapp.limiter import open_limiter
from benchmarks.capacity_compare import Measured, comparison
from tests.system.cluster import translation
from tests.system.cluster.arrivals import Vendors, by_endpoint
from tests.system.cluster.cluster import Cluster
from tests.system.cluster.compose_file import ROOT, example_values, read_services
from tests.system.cluster.servers import Broker, Database, object_store
from tests.system.cluster.translation import Addresses, localised

# Held by `make cluster-test`, too: two clusters at once would measure each other.
LOCK = ROOT / ".venvs" / "cluster.running"
DAGS = ROOT / "benchmarks" / "capacity_dags"
STARTS, DEFERRED_SECONDS = 40, 10.0  # as in the DAGs
LONE_RUNS = 3
LONGEST = 600.0


@dataclass(frozen=True, kw_only=True)
class Span:
    """A run in seconds since the epoch: its DAG run was there, its tasks were at work, it was over."""

    triggered: float
    first_queued: float
    last_end: float
    ended: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--exports", type=int, metavar="N", help="also run N exports, and compare them with the model")
    exports = parser.parse_args().exports
    measured = None
    with running_cluster() as (environment, session):
        lone = [run(environment, session, "capacity_hops")[0] for _ in range(LONE_RUNS)]
        starts = [run(environment, session, "capacity_starts", looks=10)]
        if exports:
            measured = history(environment, session, exports)
            starts.append(run(environment, session, "capacity_starts", looks=10))
    cores = len(os.sched_getaffinity(0))
    spans = [span.last_end - span.first_queued for span, _ in starts]
    alone = [span.last_end - span.triggered for span in lone]
    answers = [answer for _, found in starts for answer in found]
    start = statistics.mean(spans) * cores / STARTS
    first, *others = alone
    hop = max((statistics.mean(others) - DEFERRED_SECONDS - 2 * start) / 3, 0.0)
    print(f"{STARTS} starts in {' and '.join(f'{seconds:.1f}' for seconds in spans)} s on {cores} processors")
    print(f"One task, deferred for {DEFERRED_SECONDS:g} s: {', '.join(f'{seconds:.1f}' for seconds in alone)} s")
    print(f"Answers: {', '.join(f'{answer * 1000:.0f}' for answer in answers)} ms")
    options = {"start_seconds": start, "hop_seconds": hop, "latency": statistics.mean(answers)}
    said = options | {"cold_seconds": max(first - statistics.mean(others), 0.0)}
    print("\n" + " ".join(f"--{name.replace('_', '-')} {value:.3f}" for name, value in said.items()))
    if measured:
        print("\n" + comparison(measured, options))
    return 0


def history(environment: dict[str, str], session: psycopg.Connection[Any], exports: int) -> Measured:
    """Run the DAG of ``make cluster-test``."""
    vendors = Vendors(json.loads(environment["AIRFLOW_CONN_ISVAPP_DEFAULT"])["host"])
    before = Counter(by_endpoint(vendors.arrivals()))
    span, _ = run(environment, session, "isvapp_history", conf={"exports": exports})
    emulator = vendors.configuration()
    slots = int(environment["AIRFLOW__CELERY__WORKER_CONCURRENCY"])
    return Measured(
        exports=exports,
        seconds=span.ended - span.triggered,
        requests=Counter(by_endpoint(vendors.arrivals())) - before,
        # Two workers share the processors of this machine. The DAG's first task lists the exports.
        plan={
            "workers": 2,
            "slots": slots,
            "cores": len(os.sched_getaffinity(0)) / 2,
            "export_seconds": (emulator["export_seconds"],) * 2,
            "requests_per_second": emulator["requests_per_second"],
            "megabytes": 0.0,
            "first_tasks": 1,
        },
        kills=0,
    )


@contextlib.contextmanager
def running_cluster() -> Iterator[tuple[dict[str, str], psycopg.Connection[Any]]]:
    """Start everything; give a worker's environment and Airflow's database."""
    folder = Path(tempfile.mkdtemp(prefix="isvapp-capacity-"))
    logs = folder / "logs"
    logs.mkdir()
    print(f"The logs are in {logs}", file=sys.stderr)
    shutil.copytree(DAGS, folder / "dags")
    shutil.copy(translation.FOLDERS["./dags"] / "isvapp_history.py", folder / "dags")
    translation.FOLDERS["./dags"] = folder / "dags"
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
    environment: dict[str, str],
    session: psycopg.Connection[Any],
    dag_id: str,
    *,
    looks: int = 0,
    conf: dict[str, Any] | None = None,
) -> tuple[Span, list[float]]:
    """Run a DAG to its end, and meanwhile ask the emulator now and then.

    :param looks: how often to ask.
    :return: when its tasks were at work, and the seconds that answers took.
    """
    deadline = time.monotonic() + LONGEST
    while not session.execute("select 1 from serialized_dag where dag_id = %s", [dag_id]).fetchall():
        _check(deadline, f"{dag_id} is not parsed")
        time.sleep(0.5)
    run_id = _trigger(environment, dag_id, conf or {})
    answers = list(_answers(environment, looks))
    while True:
        (state,) = session.execute("select state from dag_run where run_id = %s", [run_id]).fetchone() or ("",)
        if state == "success":
            break
        _check(deadline if state != "failed" else 0.0, f"{dag_id} is {state}")
        time.sleep(0.5)
    moments = session.execute(
        "select extract(epoch from min(r.queued_at)), extract(epoch from min(t.queued_dttm)),"
        " extract(epoch from max(t.end_date)), extract(epoch from max(r.end_date))"
        " from dag_run r join task_instance t using (run_id) where run_id = %s",
        [run_id],
    ).fetchone()
    triggered, first, last, ended = map(float, moments or ())
    return Span(triggered=triggered, first_queued=first, last_end=last, ended=ended), answers


def _trigger(environment: dict[str, str], dag_id: str, conf: dict[str, Any]) -> str:
    address = environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"].removesuffix("/execution/")
    request = urllib.request.Request(
        f"{address}/api/v2/dags/{dag_id}/dagRuns",
        data=json.dumps({"logical_date": None, "conf": conf}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(json.load(answer)["dag_run_id"])


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
