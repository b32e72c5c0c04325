# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest
from airflow import plugins_manager

from airflow_provider_isvapp.plugins import isvapp
from airflow_provider_isvapp.plugins.isvapp import IsvappPlugin, LazyApp
from airflow_provider_isvapp.version_compat import shows_guarded_pages

needs_pages = pytest.mark.skipif(not shows_guarded_pages(), reason="Airflow before 3.1.1 shows no guarded pages")

# What a process imports in addition.
IMPORT = """
import sys
from airflow_provider_isvapp import version_compat
from airflow import plugins_manager
try:
    from airflow.sdk.plugins_manager import AirflowPlugin
except ImportError:
    from airflow.plugins_manager import AirflowPlugin
before = set(sys.modules)
import airflow_provider_isvapp.plugins.isvapp
print(" ".join(sorted(set(sys.modules) - before)))
"""


def test_importing_it_loads_nothing_but_its_description() -> None:
    output = subprocess.run([sys.executable, "-c", IMPORT], check=True, capture_output=True, text=True).stdout

    assert set(output.splitlines()[-1].split()) == {
        "airflow_provider_isvapp.links",
        "airflow_provider_isvapp.links.isvapp",
        "airflow_provider_isvapp.plugins",
        "airflow_provider_isvapp.plugins.isvapp",
    }


@pytest.mark.filterwarnings("ignore")
def test_airflow_accepts_the_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    # Airflow 2.11 compares with the loaded plugins.
    monkeypatch.setattr(plugins_manager, "plugins", [], raising=False)

    assert plugins_manager.is_valid_plugin(IsvappPlugin)  # type: ignore[attr-defined]


@pytest.mark.skipif(shows_guarded_pages(), reason="for Airflow before 3.1.1")
def test_it_is_empty_where_airflow_cannot_show_the_page() -> None:
    for extension in ("react_apps", "fastapi_apps", "flask_blueprints", "appbuilder_views", "listeners", "macros"):
        assert not getattr(IsvappPlugin, extension, [])


def test_the_entry_point_names_it() -> None:
    try:
        points = importlib.metadata.distribution("airflow-provider-isvapp").entry_points
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package is not installed here")

    assert [point.load() for point in points if point.group == "airflow.plugins"] == [IsvappPlugin]


@needs_pages
def test_the_page_follows_airflows_schema() -> None:
    from airflow.api_fastapi.core_api.datamodels.plugins import ReactAppResponse

    (page,) = IsvappPlugin.react_apps

    assert ReactAppResponse.model_validate(page).category == "browse"


@needs_pages
@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("", "/isvapp-exports/page/main.js"),
        ("https://airflow.example.com", "/isvapp-exports/page/main.js"),
        ("https://example.com/some/airflow/", "/some/airflow/isvapp-exports/page/main.js"),
    ],
)
def test_the_script_is_found_behind_a_proxys_path(
    base_url: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)

    assert isvapp._page()["bundle_url"] == expected


@needs_pages
def test_the_script_registers_under_the_pages_name() -> None:
    script = Path(isvapp.__file__).parent / "page" / "main.js"

    assert f"globalThis[{json.dumps(isvapp.PAGE_NAME)}] = ExportsPage;" in script.read_text()


@needs_pages
def test_the_application_is_built_at_the_first_request_and_once() -> None:
    import asyncio

    built = []

    async def app(*_: object) -> None:
        built.append("served")

    def build() -> object:
        built.append("built")
        return app

    lazy = LazyApp(build)
    assert built == []

    for _ in range(2):
        asyncio.run(lazy({"type": "http"}, None, None))

    assert built == ["built", "served", "served"]


@needs_pages
@pytest.mark.filterwarnings("ignore")
def test_every_route_depends_on_the_right_to_read_connections() -> None:
    from airflow_provider_isvapp.plugins.exports_app import build_app

    routes = build_app().routes

    assert [route.path for route in routes] == [  # type: ignore[attr-defined]
        "/page/{name}",
        "/connections",
        "/connections/{connection_id}/exports",
    ]
    for route in routes:
        guards = [dependency.call.__qualname__ for dependency in route.dependant.dependencies]  # type: ignore[attr-defined]
        assert "requires_access_connection.<locals>.inner" in guards
