# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""One run of a real Airflow with a secret in each place that takes one, and everything that it left behind."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from redis import Redis

from airflow_provider_isvapp.emulator import Emulator, EmulatorConfig, Fault, ManualClock
from tests.support import services
from tests.support.airflow_environment import DAGS_FOLDER
from tests.support.real_airflow import RealAirflow
from tests.support.spelling import AWKWARD
from tests.system.secrets.planted import PLANTED
from tests.system.secrets.traces import TASK_INSTANCES, Trace, in_api, in_database, in_files, in_storage

SECRETS = {
    "client secret": f"sentinel-1{AWKWARD}",
    "API key": f"sentinel-2{AWKWARD}",
    "Productiv's client secret": f"sentinel-3{AWKWARD}",
    "wrong client secret": f"sentinel-4{AWKWARD}",
    "wrong API key": f"sentinel-5{AWKWARD}",
    "Productiv's wrong client secret": f"sentinel-6{AWKWARD}",
    "password of the limiter's storage": services.PASSWORD,
    "password of a storage that is away": "sentinel-7-storage-password",
    "signature of a foreign download URL": "sentinel-8-signature",
}
VENDORS = EmulatorConfig(
    client_secret=SECRETS["client secret"],
    api_key=SECRETS["API key"],
    productiv_client_secret=SECRETS["Productiv's client secret"],
    requests_per_second=None,
    export_seconds=60,
    rows=300,
)
FOREIGN_URL = f"https://files.example.com/usage.gz?signature={SECRETS['signature of a foreign download URL']}"
# The fault of the vendor behind each connection, and the task's log message about it.
FAULTS = {
    "isvapp_errors": (Fault(endpoint="create_export", kind="export_errors", message="no", times=None), "errored at"),
    "isvapp_damages": (Fault(endpoint="download", kind="flip", times=None), "is damaged"),
    "isvapp_resets": (Fault(endpoint="download", kind="reset", times=None), "the connection broke"),
    "isvapp_leads_away": (
        Fault(endpoint="show_export", kind="edit", times=None, replace={"download_url": FOREIGN_URL}),
        "would lead to files.example.com",
    ),
}
# Connections that are wrong themselves, by the fields that differ from those of ``isvapp_default``.
STORAGE_AWAY = f"redis://:{SECRETS['password of a storage that is away']}@127.0.0.1:9/0"
WRONG = {
    "isvapp_wrong_secret": ({"password": SECRETS["wrong client secret"]}, "(401): invalid_client"),
    "isvapp_wrong_key": ({"login": None, "password": SECRETS["wrong API key"]}, "(401)"),
    "isvapp_storage_away": ({"extra": {"rate_limit_storage": STORAGE_AWAY}}, "does not respond"),
}
BROKEN = {conn_id: says for conn_id, (_, says) in (FAULTS | WRONG).items()}
BROKEN["productiv_wrong_secret"] = "(401): invalid_client"
SECONDS = 200
# The tasks that are deferred at the same time, by their DAGs.
WAITING = {"isvapp_monthly_sync": "wait_for_export", "by_api_key": "isvapp_api_key", "planted": "plant"}


@dataclass(frozen=True)
class Aftermath:
    """The results of the run.

    :param runs: the id of each DAG's run.
    :param secrets: each secret by its name, those included that the vendors handed out: theirs share a mark.
    """

    airflow: RealAirflow
    fernet: Fernet
    runs: dict[str, str]
    secrets: dict[str, str]
    traces: tuple[Trace, ...]


@pytest.fixture(scope="session")
def aftermath(airflow_database: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aftermath]:
    """Run everything once; each test searches the results."""
    folder = tmp_path_factory.mktemp("secrets")
    home, dags, released = folder / "home", folder / "dags", folder / "released"
    for directory in (home, dags):
        directory.mkdir()
    shutil.copy(DAGS_FOLDER / "isvapp_monthly_sync.py", dags)
    shutil.copy(Path(__file__).parent / "dags" / "secret_dags.py", dags)
    key = Fernet.generate_key()
    clock = ManualClock(datetime.now(UTC))
    variables = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
        "AIRFLOW__CORE__FERNET_KEY": key.decode(),
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        # As docs/connections.md advises: Airflow decides by the names of fields, and does not hide this one.
        "AIRFLOW__CORE__SENSITIVE_VAR_CONN_NAMES": "rate_limit_storage",
        "AIRFLOW__CORE__MAX_TASK_RETRY_DELAY": "2",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
        # Where the tokens of Productiv's connections are shared.
        "AIRFLOW__ISVAPP__RATE_LIMIT_STORAGE": (home / "limiter").as_uri(),
        "ISVAPP_LAKE": (folder / "lake").as_uri(),
        "BROKEN_CONNECTIONS": ",".join(BROKEN),
        "RELEASE_FILE": str(released),
    }
    with ExitStack() as stack:
        storage = stack.enter_context(services.RedisServer())
        vendors = stack.enter_context(Emulator(VENDORS, clock=clock))
        # Airflow 3.3 fails a task whose event comes while its scheduler still takes note of the deferral.
        unhurried = replace(VENDORS, export_seconds=10)
        broken = {conn_id: stack.enter_context(Emulator(unhurried)) for conn_id in FAULTS}
        for conn_id, (fault, _) in FAULTS.items():
            broken[conn_id].inject(fault)
        # An access token is refused before its time: the error path of that, too.
        vendors.inject(Fault(endpoint="salesforce_accounts", kind="token_expires"))
        database = Path(os.environ["AIRFLOW_HOME"]) / "airflow.db"
        airflow = stack.enter_context(RealAirflow(home, database, variables))
        airflow.wait_for("Airflow is up", lambda: airflow.is_healthy(*WAITING, "failing"), seconds=300)

        connections = _connections(vendors, broken, storage.url)
        traces = [_post(airflow, "/api/v2/connections", connection) for connection in connections]
        runs = _start(airflow)
        traces += [_post(airflow, "/api/v2/connections/test", connection) for connection in connections]
        waits = [(runs[dag_id], task_id) for dag_id, task_id in WAITING.items()]
        airflow.wait_for(
            "the waits", lambda: all(airflow.task(*wait)["state"] == "deferred" for wait in waits), seconds=SECONDS
        )
        fernet = Fernet(key)
        waiting = Trace("api: 200 task instances", _ask(airflow, TASK_INSTANCES).encode())
        traces += [trace.when("while deferred") for trace in (*in_database(airflow, fernet), waiting)]
        runs["failing"] = airflow.trigger("failing")
        clock.advance(61)
        released.touch()
        airflow.wait_for("the ends", lambda: _ended(airflow, runs), seconds=SECONDS)
        with Redis.from_url(storage.url) as client:
            client.set("planted", PLANTED["shared storage"])
        traces += [*in_api(airflow), *in_database(airflow, fernet), *in_files(home), *in_storage(storage)]
        marks = {f"tokens of {server.url}": server.token_mark for server in (vendors, *broken.values())}
        yield Aftermath(airflow, fernet, runs, SECRETS | marks, tuple(traces))


def _connections(vendors: Emulator, broken: dict[str, Emulator], storage: str) -> list[dict[str, Any]]:
    """Describe the connections as Airflow's API takes them."""
    isvapp = {
        "conn_type": "isvapp",
        "login": vendors.client_id,
        "password": vendors.client_secret,
        "extra": {"requests_per_second": 1000, "rate_limit_storage": storage, "attempts": 2},
    }
    productiv = {
        "conn_type": "productiv",
        "login": vendors.productiv_client_id,
        "password": vendors.productiv_client_secret,
        "extra": {"auth_url": vendors.productiv_token_url, "attempts": 2},
    }
    connections = {
        "isvapp_default": isvapp,
        "isvapp_api_key": isvapp | {"login": None, "password": vendors.api_key},
        **dict.fromkeys(FAULTS, isvapp),
        **{conn_id: isvapp | changes for conn_id, (changes, _) in WRONG.items()},  # type: ignore[operator]
        "productiv_default": productiv,
        "productiv_wrong_secret": productiv | {"password": SECRETS["Productiv's wrong client secret"]},
    }
    bodies = []
    for conn_id, fields in connections.items():
        host, _, port = broken.get(conn_id, vendors).url.rpartition(":")
        extra = json.dumps(fields["extra"])
        bodies.append({"connection_id": conn_id, **fields, "host": host, "port": int(port), "extra": extra})
    return bodies


def _post(airflow: RealAirflow, path: str, body: dict[str, Any]) -> Trace:
    status, response = airflow.call("POST", path, body=body)
    assert status in (200, 201), response
    return Trace(f"api: POST {path}", response.encode())


def _start(airflow: RealAirflow) -> dict[str, str]:
    for dag_id in (*WAITING, "failing"):
        assert airflow.call("PATCH", f"/api/v2/dags/{dag_id}", body={"is_paused": False})[0] == 200
    runs = {
        "by_api_key": airflow.trigger("by_api_key"),
        "planted": airflow.trigger("planted", hint=PLANTED["rendered field"]),
    }
    # Its schedule starts that one, for the month before.
    airflow.wait_for("the monthly run", lambda: airflow.states("isvapp_monthly_sync"))
    (run,) = json.loads(_ask(airflow, "/api/v2/dags/isvapp_monthly_sync/dagRuns"))["dag_runs"]
    return runs | {"isvapp_monthly_sync": run["dag_run_id"]}


def _ask(airflow: RealAirflow, path: str) -> str:
    status, response = airflow.call("GET", path)
    assert status == 200, response
    return response


def _ended(airflow: RealAirflow, runs: dict[str, str]) -> bool:
    return all(airflow.run_state(run_id) in ("success", "failed") for run_id in runs.values())
