# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Who gets what from the exports page's routes, asked of a real API server without a browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_provider_isvapp.emulator import Emulator
from airflow_provider_isvapp.plugins import isvapp
from tests.system.browser.airflow_ui import AirflowUi
from tests.system.browser.conftest import COPIES

FILES = sorted(path.name for path in (Path(isvapp.__file__).parent / "page").iterdir())
ROUTES = (
    *(f"/isvapp-exports/page/{name}" for name in FILES),
    "/isvapp-exports/connections",
    "/isvapp-exports/connections/isvapp_default/exports",
)


@pytest.mark.parametrize("path", ROUTES)
def test_a_user_without_the_right_gets_nothing(path: str, airflow: AirflowUi, history: Emulator) -> None:
    anonymous = airflow.call("GET", path)
    forged = airflow.call("GET", path, token="a.b.c")
    refused = [airflow.call("GET", path, token=airflow.token(role)) for role in ("viewer", "user")]

    assert (anonymous[0], forged[0]) == (401, 403)
    assert [status for status, _ in refused] == [403, 403]
    for _, body in (anonymous, forged, *refused):
        assert list(json.loads(body)) == ["detail"]
    for role in ("op", "admin"):
        status, body = airflow.call("GET", path, token=airflow.token(role))
        assert (status, bool(body)) == (200, True)


def test_only_isvapp_connections_are_listed(airflow: AirflowUi, history: Emulator) -> None:
    status, response = airflow.call("GET", "/isvapp-exports/connections", token=airflow.token("op"))

    expected = [*COPIES, "isvapp_default", "isvapp_nowhere", "isvapp_other_secret"]
    assert (status, json.loads(response)) == (200, {"connections": expected})


@pytest.mark.parametrize(
    ("conn_id", "message"),
    [
        ("isvapp_nowhere", "no connection (connection refused)"),
        ("isvapp_other_secret", "Check the connection's login and password"),
        ("some_database", "has type 'postgres'; expected 'isvapp'"),
        ("not_there", "Connection 'not_there' is not defined in Airflow"),
    ],
)
def test_the_reason_is_shown_for_a_connection_that_cannot_be_read(
    conn_id: str, message: str, airflow: AirflowUi, history: Emulator
) -> None:
    path = f"/isvapp-exports/connections/{conn_id}/exports"
    status, response = airflow.call("GET", path, token=airflow.token("op"))

    assert (status, json.loads(response)["exports"]) == (200, [])
    assert message in json.loads(response)["error"]
    assert "sentinel" not in response


@pytest.mark.parametrize("name", ["isvapp.py", "..%2Fexports_app.py", "%2e%2e%2fexports_app.py", "main.js%00"])
def test_only_the_pages_own_files_are_served(name: str, airflow: AirflowUi) -> None:
    assert airflow.call("GET", f"/isvapp-exports/page/{name}", token=airflow.token("op"))[0] == 404


def test_the_server_had_nothing_to_complain_about(airflow: AirflowUi, history: Emulator) -> None:
    assert "Traceback" not in airflow.log
