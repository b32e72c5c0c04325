# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The responses of the exports route to users with different rights. tests/system/browser has a real API server."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from airflow_provider_isvapp.emulator import Emulator
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.plugins.export_list import to_rows
from airflow_provider_isvapp.version_compat import shows_guarded_pages
from tests.support.airflow_connections import SetConnection
from tests.support.scripted_server import ScriptedResponse, ScriptedServer, data
from tests.support.stored_links import forget_links, leave_link

pytestmark = [
    pytest.mark.skipif(not shows_guarded_pages(), reason="Airflow before 3.1.1 shows no guarded pages"),
    # Airflow's models warn when they are first loaded.
    pytest.mark.filterwarnings("ignore"),
]

FetchAs = Callable[[str], dict[str, Any]]

API_KEY = "sentinel/key+1 with=all"
DOWNLOAD_TOKEN = "sentinel-download-token"
SECRETS = (
    *(API_KEY, quote(API_KEY), quote(API_KEY, safe=""), base64.b64encode(API_KEY.encode()).decode()),
    *(json.dumps(API_KEY)[1:-1].replace("/", "\\/"), DOWNLOAD_TOKEN),
)
COMPLETED = {
    "id": "dd8eea7b",
    "status": "COMPLETED",
    "download_url": f"https://api.isvapp.com/api/v1/exports/dd8eea7b/download/{DOWNLOAD_TOKEN}",
    "created_at": "2026-03-06T08:38:31Z",
    "signed_copy": f"https://files.example.com/?signature={DOWNLOAD_TOKEN}",
}


@pytest.fixture(autouse=True)
def database(airflow_database: None) -> Iterator[None]:
    yield
    forget_links("monthly_sync", "report")


@pytest.fixture
def fetch(monkeypatch: pytest.MonkeyPatch) -> Iterator[FetchAs]:
    """Fetch the exports of ``isvapp_default`` as a user who may read only the DAG with the same name."""
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api import security
    from fastapi.testclient import TestClient

    from airflow_provider_isvapp.plugins import exports_app

    class OneDagEach(SimpleAuthManager):
        def is_authorized_dag(self, *, user: Any, details: Any = None, **_: Any) -> bool:
            return details is not None and details.id == user.username

    manager = OneDagEach()
    for module in (security, exports_app):
        monkeypatch.setattr(module, "get_auth_manager", lambda: manager)
    app = exports_app.build_app()

    def fetch(username: str) -> dict[str, Any]:
        app.dependency_overrides[security.get_user] = lambda: SimpleAuthManagerUser(username=username, role="op")
        with TestClient(app, raise_server_exceptions=False) as client:
            response = client.get("/connections/isvapp_default/exports")
        assert response.status_code == 200, response.text
        for secret in SECRETS:
            assert secret not in response.text
        assert response.headers["Cache-Control"] == "no-store"
        return dict(response.json())

    return fetch  # type: ignore[return-value]


def test_each_user_sees_tasks_of_readable_dags_only(isvapp: Emulator, fetch: FetchAs) -> None:
    with IsvappHook() as hook:
        created = hook.create_export(timeframe="2025-01", taxonomy_ids=["a"])
    leave_link(created.id, dag_id="monthly_sync")
    leave_link(created.id, dag_id="report", run_id="manual__1", task_id="wait", operator="IsvappExportSensor")

    tasks = {username: fetch(username)["exports"][0]["task"] for username in ("monthly_sync", "report", "nobody")}

    assert tasks == {
        "monthly_sync": {
            "dag_id": "monthly_sync",
            "run_id": "scheduled__2026-03-05T06:00:00+00:00",
            "task_id": "create_export",
            "map_index": -1,
            "map_label": "-1",
            "created": True,
        },
        "report": {
            "dag_id": "report",
            "run_id": "manual__1",
            "task_id": "wait",
            "map_index": -1,
            "map_label": "-1",
            "created": False,
        },
        "nobody": None,
    }


@pytest.fixture
def vendor(set_connection: SetConnection) -> Iterator[ScriptedServer]:
    """A server instead of the vendor, with an API key for it in ``isvapp_default``."""
    with ScriptedServer() as server:
        extra = {"requests_per_second": 1000, "rate_limit_storage": "memory://", "attempts": 1, "read_timeout": 2}
        set_connection("isvapp_default", conn_type="isvapp", host=server.url, password=API_KEY, extra=extra)
        yield server


def test_the_vendors_data_are_processed_outside_the_event_loop(
    vendor: ScriptedServer, fetch: FetchAs, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_isvapp.plugins import exports_app

    threads = []

    class Noting(exports_app.JSONResponse):  # type: ignore[misc, name-defined, unused-ignore]
        def render(self, content: Any) -> bytes:
            threads.append(asyncio._get_running_loop())
            return bytes(super().render(content))

    def noting(exports: Any, *, now: Any) -> Any:
        threads.append(asyncio._get_running_loop())
        return to_rows(exports, now=now)

    monkeypatch.setattr(exports_app, "to_rows", noting)
    monkeypatch.setattr(exports_app, "JSONResponse", Noting)
    vendor.script("*", data([COMPLETED]))

    assert [export["id"] for export in fetch("nobody")["exports"]] == ["dd8eea7b"]
    assert threads == [None, None]


ECHO = json.dumps({"error": f"No: Bearer {API_KEY} for {COMPLETED['download_url']}"}).encode()
UNREADABLE = {
    "cut off": ScriptedResponse(200, b'{"data": [', {"Content-Length": "5000"}),
    "empty": ScriptedResponse(200, b""),
    "a web page": ScriptedResponse(200, b"<html>Welcome</html>"),
    "not utf-8": ScriptedResponse(200, b'{"data": ["\xff\xfe"], "success": true}'),
    "deep": ScriptedResponse(200, b'{"data": ' + b"[" * 200_000),
    "deep and whole": ScriptedResponse(200, b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b', "success": true}'),
    "deep record": ScriptedResponse(
        200,
        b'{"data": [{"id": "a", "status": "PENDING", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b'}], "success": true}',
    ),
    "a number beyond all": ScriptedResponse(200, b'{"data": [' + b"9" * 5000 + b'], "success": true}'),
    "an infinite number": ScriptedResponse(200, b'{"data": [1e999], "success": true}'),
    "a scalar": ScriptedResponse(200, b"7"),
    "another shape": ScriptedResponse(200, b'{"data": {"a": 1}, "success": true}'),
    "no success": ScriptedResponse(200, ECHO[:-1] + b', "success": false}'),
    "a status that is a key": data([COMPLETED | {"status": [API_KEY]}]),
    "a false encoding": ScriptedResponse(200, b"no gzip", {"Content-Encoding": "gzip"}),
    "a bad chunk": ScriptedResponse(200, b"zz\r\n", {"Transfer-Encoding": "chunked", "Content-Length": "4"}),
    "reset": ScriptedResponse(fault="reset"),
    "hang": ScriptedResponse(fault="hang"),
    "a redirect": ScriptedResponse(302, b"", {"Location": "http://[::1"}),
    "a redirect with a token": ScriptedResponse(302, b"", {"Location": f"https://example.com/{DOWNLOAD_TOKEN}"}),
    **{
        f"{status} {how}": ScriptedResponse(status, *what)
        for status in (400, 401, 403, 404, 429, 500, 502, 503)
        for how, what in {
            "cut off": (b'{"error": "no', {"Content-Length": "5000"}),
            "with an echo": (ECHO,),
            "falsely encoded": (b"no gzip", {"Content-Encoding": "gzip"}),
            "deep": (b"[" * 60_000,),
            "not utf-8": (b"\xff\xfe\x00",),
            "late": (b"no", {"Retry-After": "Sat, 01 Jan 99999999999999999999 00:00:00 GMT"}),
            "of controls": (json.dumps({"error": "\u202e\x1b[31m\ud800" * 30_000}).encode(),),
        }.items()
    },
}


@pytest.mark.parametrize("response", UNREADABLE.values(), ids=UNREADABLE)
def test_every_error_reaches_the_page_with_the_next_step(
    vendor: ScriptedServer, fetch: FetchAs, response: ScriptedResponse
) -> None:
    vendor.script("*", *[response] * 5)

    shown = fetch("nobody")

    assert shown["exports"] == []
    assert shown["error"].endswith(".")
    assert 20 < len(shown["error"]) < 1500
    assert shown["error"].isprintable()
    assert response.status in (200, 302) or str(response.status) in shown["error"]
    assert vendor.seen[0].headers["authorization"] == f"Bearer {API_KEY}"


def test_a_hostile_record_is_shown_without_secrets(vendor: ScriptedServer, fetch: FetchAs) -> None:
    message = f"\u202eSee {COMPLETED['download_url']} as Bearer {API_KEY}" + "x" * 3_000_000
    vendor.script("*", data([COMPLETED, COMPLETED | {"id": "b", "status": "ERRORED", "error_message": message}]))

    shown = fetch("nobody")

    assert shown["error"] is None
    assert [export["id"] for export in shown["exports"]] == ["dd8eea7b", "b"]
    failed = next(export for export in shown["exports"] if export["id"] == "b")
    assert failed["error_message"].startswith("See (URL) as ")
    assert failed["error_message"].isprintable()
    assert len(failed["error_message"]) < 2100


def test_without_exports_dags_are_not_read(isvapp: Emulator, fetch: FetchAs, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    monkeypatch.setattr(SimpleAuthManager, "get_authorized_dag_ids", None)

    assert fetch("nobody")["exports"] == []
