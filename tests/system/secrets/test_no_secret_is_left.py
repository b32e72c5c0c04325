# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""No secret is left anywhere: not in Airflow's database, not in a file, and not in a response of its API."""

from __future__ import annotations

import sqlite3
from base64 import b64encode
from contextlib import closing

import pytest

from tests.support.spelling import spellings
from tests.system.secrets.conftest import BROKEN, SECRETS, Aftermath
from tests.system.secrets.planted import PLACES, PLANTED
from tests.system.secrets.traces import places_of

# The first test waits for Airflow and for all runs.
pytestmark = pytest.mark.timeout(600)


def test_the_runs_came_to_where_they_should(aftermath: Aftermath) -> None:
    states = {dag_id: aftermath.airflow.run_state(run_id) for dag_id, run_id in aftermath.runs.items()}
    assert states == {dag_id: "failed" if dag_id == "failing" else "success" for dag_id in aftermath.runs}
    for conn_id, says in BROKEN.items():
        place = f"file: logs/dag_id=failing/run_id={aftermath.runs['failing']}/task_id={conn_id}/"
        log = b"".join(trace.content for trace in aftermath.traces if trace.place.startswith(place))
        assert says in log.decode(), conn_id
    # Lines that only DEBUG brings, among them the path of a download.
    debug = [trace for trace in aftermath.traces if b"/download/***" in trace.content and b'"debug"' in trace.content]
    assert debug


@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_of_a_connection_is_left(name: str, aftermath: Aftermath) -> None:
    assert places_of(aftermath.secrets[name], aftermath.traces) == set()


def test_no_token_is_left(aftermath: Aftermath) -> None:
    marks = {name: mark for name, mark in aftermath.secrets.items() if name not in SECRETS}
    assert len(marks) >= 2
    # They are in both storages, but sealed.
    for place in ("limiter's storage: isvapp:rate-limit:token-", "file: limiter/token-"):
        assert any(trace.place.startswith(place) for trace in aftermath.traces), place
    assert {name: places for name, mark in marks.items() if (places := places_of(mark, aftermath.traces))} == {}


@pytest.mark.parametrize("place", PLACES)
def test_the_search_finds_what_is_planted(place: str, aftermath: Aftermath) -> None:
    found = places_of(PLANTED[place], aftermath.traces)

    assert [where for where in found if where.startswith(PLACES[place])], found


def test_the_search_finds_planted_values_in_responses_of_the_api(aftermath: Aftermath) -> None:
    task = "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}"
    for place, path in {
        "serialized DAG": "/api/v2/dags/{dag_id}/details",
        "rendered field": task,
        "XCom": f"{task}/xcomEntries/{{xcom_key}}",
        "task state": f"{task}/state-store",
        "asset event": "/api/v2/assets/events",
        "header in a log": f"{task}/logs/{{try_number}}",
    }.items():
        assert f"api: 200 {path}" in places_of(PLANTED[place], aftermath.traces)


def test_planted_values_that_are_not_secret_are_found(aftermath: Aftermath) -> None:
    found = places_of("demo-client", aftermath.traces)

    assert {"database: connection.login", "api: 200 /api/v2/connections/{connection_id}"} <= found


def test_connections_are_stored_encrypted(aftermath: Aftermath) -> None:
    with closing(sqlite3.connect(aftermath.airflow.home / "airflow.db")) as database:
        stored = database.execute("select conn_id, password, extra, is_encrypted, is_extra_encrypted from connection")
        connections = {conn_id: values for conn_id, *values in stored}

    password, extra, *encrypted = connections["isvapp_default"]
    assert encrypted == [1, 1]
    assert aftermath.fernet.decrypt(password).decode() == SECRETS["client secret"]
    assert b"redis://" in aftermath.fernet.decrypt(extra)


@pytest.mark.parametrize("before", ["", "1", "12", "123"])
def test_a_secret_within_base64_is_found(before: str) -> None:
    secret = SECRETS["client secret"]

    header = b64encode(f"{before}{secret}:and more".encode())

    assert any(spelling in header for spelling in spellings(secret))
    assert not any(spelling in b64encode(before.encode() + b"another text:and more") for spelling in spellings(secret))
