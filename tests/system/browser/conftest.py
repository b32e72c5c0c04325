# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Chromium, an Airflow that people sign in to, and the emulator with a history of exports."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_isvapp.emulator import Emulator, EmulatorConfig, Fault
from tests.support import ROOT
from tests.system.browser.airflow_ui import AirflowUi
from tests.system.browser.export_history import export_history

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

# No home directory and no network are needed; as root, as in a container, Chromium has no sandbox.
CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
COPIES = ("isvapp_copy_1", "isvapp_copy_2")
# A machine that runs all tests at once is slow.
MILLISECONDS_TO_ANSWER = 60_000
NewPage = Callable[..., "Page"]


@pytest.fixture(scope="session")
def chromium() -> str:
    """The system's own browser; without one these tests are skipped, except where that would go unnoticed."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None and os.environ.get("ISVAPP_REQUIRE_BROWSER"):
        pytest.fail("there is no Chromium, and ISVAPP_REQUIRE_BROWSER is set")
    if path is None:
        pytest.skip("there is no Chromium here; on Debian and Ubuntu, scripts/install_chromium.sh installs it")
    return path


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    """One Chromium for all tests; each signs in with a separate context."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM_OPTIONS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def airflow(chromium: str, airflow_database: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowUi]:
    """Airflow's API server, started once. A test that runs DAGs starts the rest."""
    database = Path(os.environ["AIRFLOW_HOME"]) / "airflow.db"
    with AirflowUi(tmp_path_factory.mktemp("airflow-ui"), database) as server:
        yield server


@pytest.fixture(scope="session")
def emulator(airflow: AirflowUi) -> Iterator[Emulator]:
    """ISVapp at its true two requests per second, with a history; connections to it are in Airflow.

    ``isvapp_default`` works and so do its copies, whose exports the server reads apart; ``isvapp_other_secret`` is
    refused, ``isvapp_nowhere`` leads to no server.
    """
    with Emulator(EmulatorConfig(requests_per_second=2)) as server:
        host, _, port = server.url.rpartition(":")
        works = {
            "conn_type": "isvapp",
            "host": host,
            "port": int(port),
            "login": server.client_id,
            "password": server.client_secret,
        }
        connections = {
            **dict.fromkeys(("isvapp_default", *COPIES), works),
            "isvapp_other_secret": works | {"password": "sentinel-wrong-secret"},
            "isvapp_nowhere": works | {"port": 9},
            "some_database": {"conn_type": "postgres", "host": "127.0.0.1", "password": "sentinel-other-secret"},
        }
        token = airflow.token("admin")
        for conn_id, fields in connections.items():
            status, response = airflow.call(
                "POST",
                "/api/v2/connections",
                token=token,
                body={"connection_id": conn_id, **fields},  # type: ignore[dict-item]
            )
            assert status == 201, response
        yield server


@pytest.fixture
def history(emulator: Emulator) -> Iterator[Emulator]:
    """The emulator, which lists the history of exports from now on."""
    emulator.clear_faults()
    records = export_history(now=datetime.now(UTC))
    emulator.inject(Fault(endpoint="list_exports", kind="edit", times=None, replace={"data": records}))
    yield emulator
    emulator.clear_faults()


@pytest.fixture(scope="session")
def session_of(browser: Browser, airflow: AirflowUi) -> Iterator[Callable[[str], BrowserContext]]:
    """Sign a role's user in, once: a new session would load all of Airflow's UI again."""
    sessions: dict[str, BrowserContext] = {}

    def session_of(role: str) -> BrowserContext:
        if role not in sessions:
            context = browser.new_context(base_url=airflow.url, locale="en-GB", timezone_id="UTC")
            context.set_default_timeout(MILLISECONDS_TO_ANSWER)
            context.add_cookies([{"name": "_token", "value": airflow.token(role), "url": airflow.url}])
            sessions[role] = context
        return sessions[role]

    yield session_of
    for context in sessions.values():
        context.close()


@pytest.fixture
def new_page(session_of: Callable[[str], BrowserContext]) -> Iterator[NewPage]:
    """Open a window for a signed-in user: ``new_page("viewer", width=400, dark=True)``."""
    pages: list[Page] = []

    def new_page(role: str = "op", *, width: int = 1280, height: int = 900, dark: bool = False) -> Page:
        page = session_of(role).new_page()
        pages.append(page)
        page.set_viewport_size({"width": width, "height": height})
        # Where Airflow's UI keeps the choice between light and dark.
        page.add_init_script(f"localStorage.setItem('theme', '{'dark' if dark else 'light'}')")
        return page

    yield new_page
    for page in pages:
        page.close()


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where the tests put pictures of what they see, for people to look at. Git ignores the usual folder."""
    folder = Path(os.environ.get("ISVAPP_PICTURES") or ROOT / ".pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
