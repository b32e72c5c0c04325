# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""From nothing to a month of usage, all of it in Airflow's UI: a first evening with this package.

Both connections are created in the form and tried with the Test button, the example DAG is triggered, and the link of
its task leads to the page of exports. A month of which half is gone is refused, and accepted in the form. The steps are
fixtures, each made once; the tests look at what came of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import pytest

from airflow_provider_isvapp.checks import MaxChange
from airflow_provider_isvapp.emulator import Emulator, Fault
from airflow_provider_isvapp.transfer.destination import local_destination
from tests.support.downloads import download_with
from tests.support.file_server import FileResponse, FileServer, gzip_bytes, ndjson
from tests.system.browser.airflow_ui import AirflowUi
from tests.system.browser.conftest import NewPage
from tests.system.browser.connections_page import fill_in, press_test, save

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page, Route

pytestmark = pytest.mark.timeout(420)
DAG_ID = "isvapp_monthly_sync"
TASKS = ("create_export", "wait_for_export", "download_export", "fetch_accounts", "fetch_apps")
SECONDS_TO_RUN = 240
# Of a month, as the emulator makes them.
ROWS = 1000


@pytest.fixture(scope="module")
def responses() -> list[tuple[str, bytes]]:
    """All responses that the API server has sent to the window so far, with their URLs."""
    return []


@pytest.fixture(scope="module")
def window(session_of: Callable[[str], BrowserContext], responses: list[tuple[str, bytes]]) -> Iterator[Page]:
    """The window in which all of it happens, of an engineer on call."""
    from playwright.sync_api import Error

    def note(route: Route) -> None:
        # A page that was left no longer receives its responses.
        with suppress(Error):
            response = route.fetch()
            responses.append((route.request.url, response.body()))
            route.fulfill(response=response)

    page = session_of("op").new_page()
    page.set_viewport_size({"width": 1280, "height": 1000})
    page.add_init_script("localStorage.setItem('theme', 'light')")
    page.route(re.compile("/(api/v2|ui|isvapp-exports)/"), note)
    yield page
    page.unroute_all(behavior="ignoreErrors")
    page.close()


@pytest.fixture(scope="module")
def vendors(airflow: AirflowUi, emulator: Emulator) -> Emulator:
    """Both vendors without faults, and no connection to them under the ids that the example uses."""
    emulator.clear_faults()
    for conn_id in ("isvapp_default", "productiv_default"):
        assert airflow.call("DELETE", f"/api/v2/connections/{conn_id}", token=airflow.token("admin"))[0] in (204, 404)
    return emulator


@pytest.fixture(scope="module")
def isvapp(window: Page, vendors: Emulator, pictures: Path) -> str:
    """The connection to ISVapp, as a new user fills in the form."""
    host, _, port = vendors.url.rpartition(":")
    labels = ("Base URL", "Port", "Client ID", "Client secret or API key")
    form = fill_in(
        window,
        "isvapp_default",
        "ISVapp",
        dict(zip(labels, (host, port, vendors.client_id, vendors.client_secret), strict=True)),
        {"Authentication": "OAuth2 (client ID and secret)", "Requests per second": "2"},
    )
    window.screenshot(path=pictures / "story-connection-isvapp.png")
    for masked in (form.locator("[name=password]"), form.locator("[name=element_rate_limit_storage]")):
        assert masked.get_attribute("type") == "password"
    save(window, form, "isvapp_default")
    return "isvapp_default"


@pytest.fixture(scope="module")
def productiv(window: Page, vendors: Emulator, pictures: Path) -> str:
    """The connection to Productiv, in the same way."""
    host, _, port = vendors.url.rpartition(":")
    labels = ("Base URL", "Port", "Client ID", "Client secret")
    values = (host, port, vendors.productiv_client_id, vendors.productiv_client_secret)
    form = fill_in(
        window,
        "productiv_default",
        "Productiv",
        dict(zip(labels, values, strict=True)),
        {"Authentication URL": vendors.productiv_token_url, "API version": "v2"},
    )
    window.screenshot(path=pictures / "story-connection-productiv.png")
    save(window, form, "productiv_default")
    return "productiv_default"


@pytest.fixture(scope="module")
def run_id(window: Page, airflow: AirflowUi, isvapp: str, productiv: str, pictures: Path) -> str:
    """The successful run of the example DAG, triggered by hand."""
    airflow.start_scheduling(DAG_ID)
    # It is paused, and the dialog offers to change that.
    run_id, state = run_by_form(window, airflow)
    window.get_by_text(f"{len(TASKS)} Task Instances").wait_for()
    window.screenshot(path=pictures / "monthly-run.png")
    assert state == "Success", airflow.logs()
    return run_id


@pytest.fixture(scope="module")
def export_id(vendors: Emulator, run_id: str) -> str:
    """The export that the run has made."""
    (export_id,) = vendors.exports
    return export_id


def test_the_form_stores_what_was_filled_in(airflow: AirflowUi, vendors: Emulator, isvapp: str, productiv: str) -> None:
    host, _, port = vendors.url.rpartition(":")
    stored = {}
    for conn_id in (isvapp, productiv):
        _, body = airflow.call("GET", f"/api/v2/connections/{conn_id}", token=airflow.token("op"))
        stored[conn_id] = json.loads(body)
        assert {"host": host, "port": int(port), "password": "***"}.items() <= stored[conn_id].items()
    extras = {conn_id: json.loads(connection["extra"]) for conn_id, connection in stored.items()}

    assert extras[isvapp] | {"authentication": "oauth2", "requests_per_second": 2} == extras[isvapp]
    productiv_extra = {"auth_url": vendors.productiv_token_url, "api_version": "v2"}
    assert extras[productiv] | productiv_extra == extras[productiv]


def test_the_test_button_accepts_a_working_connection(
    window: Page, vendors: Emulator, isvapp: str, productiv: str, pictures: Path
) -> None:
    before = vendors.request_counts()
    for conn_id in (isvapp, productiv):
        button = press_test(window, conn_id)
        button.locator("svg[color=green]").wait_for()
    window.screenshot(path=pictures / "connections-tested.png")

    counts = vendors.request_counts() - before
    assert counts["account"] == counts["productiv_token"] == 1


def test_the_test_button_shows_the_error(window: Page, airflow: AirflowUi, vendors: Emulator, pictures: Path) -> None:
    host, _, port = vendors.url.rpartition(":")
    labels = ("Base URL", "Port", "Client ID", "Client secret or API key")
    values = (host, port, vendors.client_id, "sentinel-mistyped-secret")
    save(window, fill_in(window, "mistyped", "ISVapp", dict(zip(labels, values, strict=True)), {}), "mistyped")

    button = press_test(window, "mistyped")
    button.locator("svg[color=red]").wait_for()
    toast = window.locator("[data-scope=toast][data-part=root]").filter(has_text="Test Connection Failed")
    window.screenshot(path=pictures / "connection-test-failed.png")
    message = toast.inner_text()
    assert airflow.call("DELETE", "/api/v2/connections/mistyped", token=airflow.token("op"))[0] == 204

    assert "ISVapp refused the token for scope" in message
    assert "Check the connection's login and password" in message
    assert "sentinel" not in message


def test_the_run_writes_the_month(airflow: AirflowUi, vendors: Emulator, export_id: str) -> None:
    (usage,) = airflow.lake_of(airflow.home).rglob("usage.ndjson")

    assert usage.read_bytes() == vendors.export_bytes(export_id)


def test_the_log_of_a_task_has_each_step(window: Page, run_id: str, export_id: str, pictures: Path) -> None:
    window.goto(task_page(run_id, "download_export"))
    window.get_by_text(f"Downloading export {export_id}").wait_for()
    window.screenshot(path=pictures / "task-log.png")

    assert window.get_by_text("Wrote file://").count() == 1


@pytest.mark.parametrize("task_id", ["create_export", "wait_for_export", "download_export"])
def test_the_link_of_a_task_leads_to_its_export(
    task_id: str, window: Page, run_id: str, export_id: str, pictures: Path
) -> None:
    window.goto(f"{task_page(run_id, task_id)}/details")
    link = window.get_by_role("link", name="ISVapp export")
    link.wait_for()
    window.screenshot(path=pictures / f"task-link-{task_id}.png")
    link.click()
    window.wait_for_url(f"**/plugin/isvapp-exports?connection=isvapp_default&export={export_id}")
    window.locator(".isvapp-exports table").wait_for()

    assert window.locator("tbody a").all_inner_texts() == [export_id, f"{DAG_ID}.create_export"]
    assert window.locator("tbody tr").get_by_text("Ready").count() == 1


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)])
def test_the_page_shows_the_export_in_a_table_and_a_chart(
    width: int, dark: bool, new_page: NewPage, export_id: str, pictures: Path
) -> None:
    page = new_page(width=width, dark=dark)
    page.goto(f"/plugin/isvapp-exports?connection=isvapp_default&export={export_id}")
    page.locator(".isvapp-exports table").wait_for()
    page.screenshot(path=pictures / f"story-export-{width}-{'dark' if dark else 'light'}.png")

    assert page.locator("tbody tr").count() == 1
    charts = page.locator(".isvapp-exports svg[role=img]").evaluate_all("all => all.map(svg => svg.ariaLabel)")
    assert [label.split()[0] for label in charts] == ["Duration", "Size"]
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.fixture(scope="module")
def halved(airflow: AirflowUi, vendors: Emulator, export_id: str) -> Iterator[str]:
    """The month that the run has brought; the vendor sends half of it from now on, and the month before is whole."""
    (usage,) = airflow.lake_of(airflow.home).rglob("usage.ndjson")
    month = usage.parent.name.removeprefix("month=")
    last_day = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC) - timedelta(days=1)
    before = usage.parent.with_name(f"month={last_day:%Y-%m}") / usage.name
    before.parent.mkdir()
    with FileServer(FileResponse(gzip_bytes(ndjson(ROWS, [f"{last_day:%Y-%m}"])))) as server:
        download_with(server.source(), local_destination(str(before)), checks=[MaxChange()])
    fault = Fault(endpoint="create_export", kind="month_restated", month=month, restatement="rows_lost", times=None)
    vendors.inject(fault)
    yield month
    vendors.clear_faults()


def test_a_month_that_halves_is_refused_and_accepted_in_the_form(
    window: Page, airflow: AirflowUi, halved: str, pictures: Path
) -> None:
    usage = airflow.lake_of(airflow.home) / f"isvapp/feature_usage/month={halved}/usage.ndjson"
    whole = usage.read_bytes()
    assert whole.count(b"\n") == ROWS

    refused, state = run_by_form(window, airflow, month=halved)

    assert state == "Failed", airflow.logs()
    assert usage.read_bytes() == whole
    window.goto(task_page(refused, "download_export"))
    window.get_by_text(f"Check MaxChange: failed: it has {ROWS // 2} rows, 50% fewer than the {ROWS:,} of").wait_for()
    window.screenshot(path=pictures / "refused-month.png")
    assert window.get_by_text("To publish it anyway, set skip_checks='MaxChange'").count() == 1

    accepted, state = run_by_form(window, airflow, month=halved, accept=True, picture=pictures / "accept-month.png")

    assert state == "Success", airflow.logs()
    assert usage.read_bytes().count(b"\n") == ROWS // 2
    window.goto(task_page(accepted, "download_export"))
    window.get_by_text("Check MaxChange: skipped").wait_for()


def test_no_response_to_the_browser_held_a_secret(
    window: Page, responses: list[tuple[str, bytes]], vendors: Emulator, run_id: str, export_id: str
) -> None:
    window.goto(f"{task_page(run_id, 'download_export')}/rendered_templates")
    window.get_by_text(export_id).first.wait_for()

    # The search sees what the pages show.
    assert [url for url, body in responses if export_id.encode() in body]
    for secret in (vendors.client_secret, vendors.productiv_client_secret, vendors.token_mark):
        assert [url for url, body in responses if secret.encode() in body] == []


def run_by_form(
    window: Page, airflow: AirflowUi, *, month: str = "", accept: bool = False, picture: Path | None = None
) -> tuple[str, str]:
    """Trigger a run and wait for its end; return its id and the state that its page shows."""
    window.goto(f"/dags/{DAG_ID}")
    window.get_by_role("button", name="Trigger").first.click()
    form = window.get_by_role("dialog")
    form.locator("[name=element_month]").fill(month)
    switch = form.locator("[name=element_accept]")
    if accept:
        # Airflow hides the field itself behind what it draws.
        switch.locator("xpath=..").click()
    assert switch.is_checked() == accept
    if picture is not None:
        window.screenshot(path=picture)
    form.get_by_role("button", name="Trigger", exact=True).click()
    window.wait_for_url(f"**/dags/{DAG_ID}/runs/*")
    state = window.get_by_test_id("header-card").get_by_test_id("state-badge")
    ended = state.filter(has_text=re.compile("Success|Failed"))
    airflow.wait_for("the run", ended.is_visible, seconds=SECONDS_TO_RUN)
    return unquote(window.url.rpartition("/")[2]), ended.inner_text()


def task_page(run_id: str, task_id: str) -> str:
    return f"/dags/{DAG_ID}/runs/{quote(run_id)}/tasks/{task_id}"
