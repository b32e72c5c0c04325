# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What the exports route answers to users with different rights. A real API server is asked in tests/system/browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_isvapp.airflow_compat import shows_guarded_pages
from airflow_provider_isvapp.emulator import Emulator
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from tests.support.left_links import forget_links, leave_link

pytestmark = [
    pytest.mark.skipif(not shows_guarded_pages(), reason="Airflow before 3.1.1 shows no guarded pages"),
    # Of Airflow's own models, when they are first loaded.
    pytest.mark.filterwarnings("ignore"),
]

Ask = Callable[[str], dict[str, Any]]


@pytest.fixture(autouse=True)
def database(airflow_database: None) -> Iterator[None]:
    yield
    forget_links("monthly_sync", "report")


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """Ask for the exports of ``isvapp_default`` as a user who may read one DAG: the one named like the user."""
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api import security
    from fastapi.testclient import TestClient

    from airflow_provider_isvapp.plugins import exports_app

    class OneDagEach(SimpleAuthManager):
        def is_authorized_dag(self, *, user: Any, details: Any = None, **_: Any) -> bool:
            return details is not None and details.id == user.username

    manager = OneDagEach()
    for asking in (security, exports_app):
        monkeypatch.setattr(asking, "get_auth_manager", lambda: manager)
    app = exports_app.build_app()

    def ask(username: str) -> dict[str, Any]:
        app.dependency_overrides[security.get_user] = lambda: SimpleAuthManagerUser(username=username, role="op")
        with TestClient(app) as client:
            answer = client.get("/connections/isvapp_default/exports")
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-store"
        return dict(answer.json())

    return ask


def test_each_user_is_told_of_tasks_in_the_dags_that_the_user_may_read(isvapp: Emulator, ask: Ask) -> None:
    with IsvappHook() as hook:
        created = hook.create_export(timeframe="2025-01", taxonomy_ids=["a"])
    leave_link(created.id, dag_id="monthly_sync")
    leave_link(created.id, dag_id="report", run_id="manual__1", task_id="wait", operator="IsvappExportSensor")

    tasks = {username: ask(username)["exports"][0]["task"] for username in ("monthly_sync", "report", "nobody")}

    assert tasks == {
        "monthly_sync": {
            "dag_id": "monthly_sync",
            "run_id": "scheduled__2026-03-05T06:00:00+00:00",
            "task_id": "create_export",
            "map_index": -1,
            "created": True,
        },
        "report": {"dag_id": "report", "run_id": "manual__1", "task_id": "wait", "map_index": -1, "created": False},
        "nobody": None,
    }


def test_where_there_are_no_exports_nobody_is_asked_for_dags(
    isvapp: Emulator, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    monkeypatch.setattr(SimpleAuthManager, "get_authorized_dag_ids", None)

    assert ask("nobody")["exports"] == []
