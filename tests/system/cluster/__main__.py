# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""``make cluster-test``: docker-compose.yaml as processes of this machine, and a hundred exports through it.

One worker and the triggerer are killed during the run. Everything is in ``.cluster/``, which each run creates again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path

from scripts.demo.console import Console, exit_on_signals, only_run
from tests.support import ROOT
from tests.system.cluster.arrivals import Vendors, by_endpoint, most_in_a_second
from tests.system.cluster.bucket import Bucket, compare
from tests.system.cluster.cluster import Cluster, ClusterFailed
from tests.system.cluster.compose_file import generated_values, read_services
from tests.system.cluster.host import missing_rights
from tests.system.cluster.report import Report, kill_figures, usage_figures
from tests.system.cluster.run import DagRun, Kill, QueueWatch, follow, triggerer_has, worker_has
from tests.system.cluster.servers import Broker, Database, object_store
from tests.system.cluster.translation import Addresses, LocalService, localised
from tests.system.cluster.usage import UsageMeter
from tests.system.cluster.verdict import KILLED_WORKER, TRIGGERER, file_limiters, problems_of

FOLDER = ROOT / ".cluster"
LOGS = FOLDER / "logs"
SECONDS_TO_PARSE = 120.0
# A run is given this long, and this much more for each export.
SECONDS_TO_RUN, SECONDS_AN_EXPORT = 360.0, 6.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="make cluster-test", description=__doc__.partition("\n")[0])
    parser.add_argument("--exports", type=int, default=100, metavar="N", help="mapped exports of the run; 100")
    parser.add_argument("--rows", type=int, default=1000, metavar="N", help="rows a month of the emulator; 1000")
    parser.add_argument("--no-kills", action="store_true", help="let every process live")
    parser.add_argument("--json", type=Path, default=FOLDER / "report.json", metavar="FILE", help="for the figures")
    arguments = parser.parse_args()
    if reason := missing_rights():
        print(f"This machine cannot imitate hosts: {reason}.", file=sys.stderr)
        return 1
    exit_on_signals()
    console = Console()
    try:
        with only_run(ROOT / ".venvs" / "cluster.running", ClusterFailed):
            report, problems = measure(
                arguments.exports, rows=arguments.rows, kills=not arguments.no_kills, console=console
            )
    except ClusterFailed as failure:
        console.step(f"FAILED. {failure}")
        return _point_to_logs()
    except KeyboardInterrupt:
        console.step("Interrupted; every process is ended.")
        return 130
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    print("\n" + "\n".join(report.lines()) + f"\n\nAs JSON: {arguments.json}\n", flush=True)
    if problems:
        console.step("FAILED:\n" + "\n".join(f"  {problem}" for problem in problems))
        return _point_to_logs()
    console.step("All is as it should be; every process is ended.")
    return 0


def measure(exports: int, *, rows: int, kills: bool, console: Console) -> tuple[Report, list[str]]:
    """Start the cluster, let it do its work, and compare.

    :return: the figures, and what is wrong.
    :raises ClusterFailed: it did not come to an end.
    """
    shutil.rmtree(FOLDER, ignore_errors=True)
    LOGS.mkdir(parents=True)
    values = generated_values()
    with (
        object_store(values) as store,
        Database(user_name="airflow", user_password=values["POSTGRES_PASSWORD"], logs=LOGS) as database,
        Broker(logs=LOGS) as broker,
    ):
        console.step(f"PostgreSQL, Valkey and a {store.name} are up; hosts, logs and volumes are in {_short(FOLDER)}")
        # As in .env: the values that a user may change.
        values |= {"S3_ACCESS_KEY": store.access_key, "S3_SECRET_KEY": store.secret_key}
        urls = Addresses({"postgres": database.port, "redis": broker.port, "s3": store.port})
        services = localised(read_services(values), FOLDER, urls, rows=rows)
        with Cluster(services, LOGS) as cluster, UsageMeter(cluster.roots) as usage:
            cluster.start(console.step)
            return _through(
                cluster,
                {service.name: service for service in services},
                usage,
                exports=exports,
                rows=rows,
                store=store.name,
                kills=_kills() if kills else [],
                console=console,
            )


def _kills() -> list[Kill]:
    return [
        # The first exports wait all at once.
        Kill(host=TRIGGERER, after=0.0, at_work=3, away=3.0, has=triggerer_has),
        Kill(host=KILLED_WORKER, after=0.3, at_work=2, away=30.0, has=worker_has),
    ]


def _through(
    cluster: Cluster,
    services: dict[str, LocalService],
    usage: UsageMeter,
    *,
    exports: int,
    rows: int,
    store: str,
    kills: list[Kill],
    console: Console,
) -> tuple[Report, list[str]]:
    environment = services["airflow-worker-1"].environment
    vendors = Vendors(json.loads(environment["AIRFLOW_CONN_ISVAPP_DEFAULT"])["host"])
    run = DagRun(
        environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"].removesuffix("/execution/"),
        re.sub(r"^postgresql\+\w+", "postgresql", environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]),
    )
    with contextlib.closing(run):
        _wait_for_dag(run, cluster)
        start_seconds = console.elapsed
        console.step(f"The cluster is up; the DAG run with {exports} mapped exports begins")
        began, queue = time.monotonic(), QueueWatch()
        run.trigger(exports)
        tasks = follow(
            run,
            cluster,
            kills,
            exports=exports,
            seconds=SECONDS_TO_RUN + SECONDS_AN_EXPORT * exports,
            usage=usage,
            queue=queue,
            say=console.step,
        )
        wall_seconds = time.monotonic() - began
    usage.sample()
    console.step("The run succeeded; comparing every object with what the vendors hold")
    arrivals, created = vendors.arrivals(), vendors.exports()
    isvapp = [arrival for arrival in arrivals if arrival.is_isvapp]
    bucket = Bucket(environment)
    productiv = json.loads(environment["AIRFLOW_CONN_PRODUCTIV_DEFAULT"])
    problems = compare(
        bucket,
        vendors,
        created,
        accounts=vendors.accounts(),
        apps=vendors.apps(productiv["login"], productiv["password"]),
    )
    sizes = bucket.sizes()
    emulator = vendors.configuration()
    report = Report(
        exports=exports,
        rows_per_month=rows,
        export_seconds=emulator["export_seconds"],
        requests_per_second=emulator["requests_per_second"],
        response_seconds=round(statistics.mean(arrival.seconds or 0.0 for arrival in isvapp), 3),
        workers=sum(service.service == "airflow-worker" for service in services.values()),
        slots=int(environment["AIRFLOW__CELERY__WORKER_CONCURRENCY"]),
        object_store=store,
        versions={name: version(name) for name in ("apache-airflow", "apache-airflow-providers-celery", "celery")},
        start_seconds=round(start_seconds, 1),
        wall_seconds=round(wall_seconds, 1),
        requests=by_endpoint(arrivals),
        most_arrivals=most_in_a_second(arrival.at for arrival in isvapp),
        refused=sum(arrival.status == 429 for arrival in isvapp),
        exports_created=len(created),
        objects=len(sizes),
        bytes=sum(sizes.values()),
        retries=sum(task.tries - 1 for task in tasks.values()),
        longest_queued=round(queue.longest, 1),
        kills=[kill_figures(kill, arrivals, began=began) for kill in kills if kill.at is not None],
        processes=usage_figures(usage.usages()),
    )
    return report, problems + problems_of(report, arrivals, kills) + file_limiters(services.values())


def _wait_for_dag(run: DagRun, cluster: Cluster) -> None:
    deadline = time.monotonic() + SECONDS_TO_PARSE
    while not run.is_parsed():
        cluster.check()
        if time.monotonic() > deadline:
            raise ClusterFailed(f"The DAG processor had not read the DAG after {SECONDS_TO_PARSE:.0f} s.")
        time.sleep(0.5)


def _point_to_logs() -> int:
    print(f"The logs of all processes: {LOGS}")
    print(f"The logs of the tasks: {FOLDER / 'volumes' / 'airflow-logs'}", flush=True)
    return 1


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(main())
