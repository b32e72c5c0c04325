# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""``make demo``: the monthly sync in a real Airflow, against the emulator, checked to the last byte.

Everything is in ``.demo/``, which each run creates again. Exits after the run with ``--once``, else on Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import sys
from importlib.metadata import version
from pathlib import Path

from airflow_provider_isvapp.emulator import Emulator, EmulatorConfig
from scripts.demo.airflow_processes import AirflowProcesses, end_processes, one_machine_settings, wait_until_healthy
from scripts.demo.airflow_rest import AirflowRest
from scripts.demo.console import Console, DemoFailed, exit_on_signals, only_run
from scripts.demo.follow import follow_run, wait_for_dag
from scripts.demo.verify import check_accounts, check_apps, check_usage, most_in_a_second

ROOT = Path(__file__).resolve().parent.parent.parent
HOME = ROOT / ".demo"
LAKE = HOME / "lake"
SYNC, REPORT = "isvapp_monthly_sync", "isvapp_usage_report"
# The vendor's true limit, and an export slow enough to watch the deferred wait.
VENDORS = EmulatorConfig(rows=20_000, export_seconds=20, requests_per_second=2)
SECONDS_TO_START, SECONDS_TO_RUN = 300, 300


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--once", action="store_true", help="end when the DAG has run")
    parser.add_argument("--port", type=int, default=8080, help="port of Airflow's UI; another one if it is taken")
    arguments = parser.parse_args()
    exit_on_signals()
    console = Console()
    try:
        with only_run(ROOT / ".venvs" / "demo.running", DemoFailed):
            demonstrate(console, preferred_port=arguments.port, once=arguments.once)
    except DemoFailed as failure:
        console.step(f"The demo failed. {failure}")
        return 1
    except KeyboardInterrupt:
        console.step("Interrupted; everything is ended.")
        return 130
    return 0


def demonstrate(console: Console, *, preferred_port: int, once: bool) -> None:
    """Start everything, run the DAGs, check and show what they did, end everything."""
    _fresh_home(console)
    port = _free_port(preferred_port)
    if port != preferred_port:
        console.step(f"Port {preferred_port} is taken, so Airflow's UI gets {port}")
    url = f"http://127.0.0.1:{port}"
    with (
        Emulator(VENDORS) as emulator,
        AirflowProcesses(HOME, _environment(port)) as processes,
    ):
        console.step(
            f"Both vendors are emulated at {emulator.url}: two requests per second, "
            f"an export takes {VENDORS.export_seconds:.0f} s"
        )
        console.step(
            f"Starting Airflow {version('apache-airflow')}, which takes up to a minute; "
            f"its files and logs are in {_short(HOME)}"
        )
        processes.run("db", "migrate", timeout=SECONDS_TO_START)
        processes.start()
        airflow = AirflowRest(url)
        wait_until_healthy(processes, airflow.healthy, seconds=SECONDS_TO_START)
        console.step(f"Airflow is up: {url} (no login)")
        _connect(airflow, emulator, console)
        _run_and_check(airflow, emulator, console, processes)
        if not once:
            console.step(f"Look around at {url}/dags/{SYNC} (no login). Ctrl-C ends everything.")
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
            console.step("Ending Airflow and the emulator")
    console.step("Done; every process is ended")


def _fresh_home(console: Console) -> None:
    ended = end_processes(HOME)
    if ended:
        console.step(f"Ended {ended} processes that an earlier demo had left behind")
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(exist_ok=True)


def _connect(airflow: AirflowRest, emulator: Emulator, console: Console) -> None:
    host, _, port = emulator.url.rpartition(":")
    # The port is in its own field: without one, Airflow 3.3's Test button refuses a saved connection.
    isvapp = {
        "connection_id": "isvapp_default",
        "conn_type": "isvapp",
        "host": host,
        "port": int(port),
        "login": emulator.client_id,
        "password": emulator.client_secret,
    }
    productiv = {
        "connection_id": "productiv_default",
        "conn_type": "productiv",
        "host": host,
        "port": int(port),
        "login": emulator.productiv_client_id,
        "password": emulator.productiv_client_secret,
        "extra": f'{{"auth_url": "{emulator.productiv_token_url}"}}',
    }
    for connection in (isvapp, productiv):
        airflow.create_connection(connection)
        works, message = airflow.test_connection(connection)
        if not works:
            raise DemoFailed(f"The connection {connection['connection_id']} does not work: {message}")
        console.step(f"Connection {connection['connection_id']}: {message}")


def _run_and_check(airflow: AirflowRest, emulator: Emulator, console: Console, processes: AirflowProcesses) -> None:
    for dag_id in (REPORT, SYNC):
        wait_for_dag(airflow, dag_id, alive=processes.check, seconds=SECONDS_TO_START)
        airflow.unpause(dag_id)
    sent_before = len(emulator.requests)
    console.step(f"{SYNC} is switched on: the scheduler starts the run for last month")
    run_id = follow_run(airflow, SYNC, console=console, alive=processes.check, seconds=SECONDS_TO_RUN)
    requests = [request for request in emulator.requests[sent_before:] if not request.endpoint.startswith("productiv")]
    console.step(f"{SYNC} succeeded; its asset starts {REPORT}")
    report_id = follow_run(airflow, REPORT, console=console, alive=processes.check, seconds=SECONDS_TO_RUN)

    console.step(f"Written below {_short(LAKE)}, each compared with what the vendor holds:")
    for task_id, check in (
        ("download_export", check_usage),
        ("fetch_accounts", check_accounts),
        ("fetch_apps", check_apps),
    ):
        file = check(airflow.result(SYNC, run_id, task_id), emulator)
        console.detail(f"{file.rows:>8,} rows {file.bytes:>12,} bytes  {file.path.relative_to(LAKE)}")
    console.step(f"The most used features, as {REPORT} read them from there:")
    (top_features,) = airflow.result(REPORT, report_id, "top_features").values()
    for name, users in list(top_features.items())[:3]:
        console.detail(f"{users:>8,} users  {name}")
    refused = sum(request.status == 429 for request in requests)
    console.step(
        f"{len(requests)} requests to ISVapp, at most {most_in_a_second(requests)} within a second, "
        f"{refused} refused by the rate limit"
    )


def _environment(port: int) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "_AIRFLOW_"))}
    return clean | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{clean.get('PATH', '')}",
        "PYTHONPATH": "",
        "ISVAPP_LAKE": LAKE.as_uri(),
        "AIRFLOW_HOME": str(HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        **one_machine_settings(port, log_ports=(_free_port(8793), _free_port(8794))),
    }


def _free_port(preferred: int) -> int:
    """Return this port, or any free one where it is taken."""
    for port in (preferred, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise DemoFailed("This machine has no free port.")


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(main())
