# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The page "ISVapp exports" as people see it. Each window costs a second or more, so a test looks at several things."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_isvapp.emulator import Emulator, Fault
from airflow_provider_isvapp.plugins.export_list import KEEP_SECONDS
from tests.system.browser.conftest import NewPage
from tests.system.browser.export_history import DOWNLOAD_TOKEN, EXPIRED, FAILED, FAILURES, READY, TOTAL, WAITING

if TYPE_CHECKING:
    from playwright.sync_api import Page, Response

PAGE = "/plugin/isvapp-exports"
AT_ONCE = 50


def show(page: Page, query: str = "") -> Page:
    page.goto(PAGE + query, wait_until="commit")
    page.locator(".isvapp-exports :is(table, .notice)").first.wait_for()
    return page


def rows(page: Page) -> int:
    return page.locator(".isvapp-exports tbody tr").count()


def wait_for_rows(page: Page, number: int) -> None:
    page.wait_for_function("number => document.querySelectorAll('tbody tr').length === number", arg=number)


def let_readings_grow_old() -> None:
    time.sleep(KEEP_SECONDS + 0.2)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_shows_table_and_charts_in_both_themes(
    dark: bool, new_page: NewPage, history: Emulator, pictures: Path
) -> None:
    page = show(new_page(dark=dark))
    page.screenshot(path=pictures / f"exports-page-{'dark' if dark else 'light'}.png")

    text = brightness(page, page.locator(".isvapp-exports h1").evaluate("heading => getComputedStyle(heading).color"))
    assert text > 0.8 if dark else text < 0.2
    assert page.get_by_role("main").get_by_role("heading", name="ISVapp exports").count() == 1
    headers = page.get_by_role("columnheader").all_inner_texts()
    assert headers == ["State", "Export", "Created", "Duration", "Compressed", "Plain", "Expires", "Message"]
    charts = page.get_by_role("img", name="of 48 exports").evaluate_all("all => all.map(svg => svg.ariaLabel)")
    assert [label.split()[0] for label in charts] == ["Duration", "Size"]
    assert rows(page) == AT_ONCE
    page.get_by_role("button", name="Show more").click()
    wait_for_rows(page, TOTAL)


def test_times_are_in_the_zone_that_the_user_chose(new_page: NewPage, history: Emulator) -> None:
    page = show(new_page())
    time = page.locator("tbody time").first
    expected = """(node, timeZone) => new Date(node.dateTime).toLocaleString("sv-SE", {timeZone}).slice(0, 16)"""
    assert time.locator(".muted").inner_text() == time.evaluate(expected, "UTC")

    page.evaluate("""() => {
        localStorage.setItem("timezone", JSON.stringify("Asia/Tokyo"));
        dispatchEvent(new StorageEvent("local-storage", {key: "timezone"}));
    }""")

    assert time.locator(".muted").inner_text() == time.evaluate(expected, "Asia/Tokyo")
    page.evaluate("localStorage.removeItem('timezone')")  # all pages of a user share it


def test_is_found_in_the_menu(new_page: NewPage, history: Emulator) -> None:
    page = new_page()
    page.goto("/")
    page.get_by_role("button", name="Browse").click()
    page.get_by_role("menuitem", name="ISVapp exports").click()

    page.locator(".isvapp-exports table").wait_for()


def test_filters_by_state_and_text_with_mouse_and_keyboard(new_page: NewPage, history: Emulator) -> None:
    page = show(new_page())
    states = page.get_by_role("group", name="State")
    shown = [button.inner_text() for button in states.get_by_role("button").all()]
    assert shown == [
        f"All {TOTAL}",
        f"Waiting {WAITING}",
        f"Ready {READY}",
        f"Failed {FAILED}",
        f"Expired {EXPIRED}",
    ]

    states.get_by_role("button", name="Failed").click()
    wait_for_rows(page, FAILED)
    assert states.get_by_role("button", pressed=True).all_inner_texts() == [f"Failed {FAILED}"]
    assert page.get_by_role("status").inner_text() == f"{FAILED} of {TOTAL} exports shown"

    page.get_by_label("Id or message").fill("Taxonomy")
    wait_for_rows(page, 1)
    assert FAILURES[2] in page.locator("tbody").inner_text()

    page.get_by_label("Id or message").fill("nothing like it")
    page.get_by_role("heading", name="No export matches").wait_for()
    page.get_by_role("button", name="Show all").click()
    wait_for_rows(page, AT_ONCE)

    page.get_by_label("Connection").focus()
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.innerText || document.activeElement.type"))
    assert reached == ["checkbox", "Refresh", *shown, "search"]
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    wait_for_rows(page, FAILED)


def test_a_url_leads_to_one_export_and_back(new_page: NewPage, history: Emulator) -> None:
    page = show(new_page())
    link = page.locator("tbody a").nth(2)
    export_id, url = link.inner_text(), link.get_attribute("href")
    assert url == f"{PAGE}?export={export_id}"

    link.click()
    wait_for_rows(page, 1)
    assert page.locator(".only code").inner_text() == export_id
    page.go_back()
    wait_for_rows(page, AT_ONCE)

    show(page, f"?connection=isvapp_default&export={export_id}")
    assert page.locator("tbody a").all_inner_texts() == [export_id]
    show(page, "?connection=isvapp_default&export=not-there")
    assert "Export not-there is not among the 60" in page.locator(".notice").inner_text()


def test_refreshing_twice_costs_one_request(new_page: NewPage, history: Emulator) -> None:
    page, other = show(new_page()), show(new_page())
    let_readings_grow_old()
    before = len(history.requests)

    for window in (page, other):
        window.get_by_role("button", name="Refresh").click()
        window.get_by_role("status").filter(has_text=f"{TOTAL} exports, read at ").wait_for(state="attached")

    assert [request.endpoint for request in history.requests[before:]] == ["list_exports"]


def test_a_failed_refresh_shows_the_reason_and_keeps_the_list(
    new_page: NewPage, history: Emulator, pictures: Path
) -> None:
    page = show(new_page(), "?connection=isvapp_copy_1")
    let_readings_grow_old()
    history.inject(Fault(endpoint="list_exports", kind="html", times=None))
    page.get_by_role("button", name="Refresh").click()
    page.get_by_role("alert").wait_for()
    page.screenshot(path=pictures / "exports-page-failed-refresh.png")

    assert "What is shown was read at" in page.get_by_role("alert").inner_text()
    assert rows(page) == AT_ONCE


def test_a_wrong_secret_is_explained_and_none_reaches_the_browser(
    new_page: NewPage, history: Emulator, pictures: Path
) -> None:
    page = new_page()
    responses: list[Response] = []
    page.on("response", lambda response: responses.append(response))
    show(page, "?connection=isvapp_other_secret")
    page.screenshot(path=pictures / "exports-page-wrong-secret.png")

    alert = page.get_by_role("alert").inner_text()
    assert "The exports of isvapp_other_secret could not be read" in alert
    assert "Check the connection's login and password" in alert
    assert page.locator("table").count() == 0

    page.get_by_label("Connection").select_option("isvapp_default")
    wait_for_rows(page, AT_ONCE)
    assert page.get_by_role("alert").count() == 0

    ours = {
        response.url.partition("/isvapp-exports/")[2]: response.text()
        for response in responses
        if "/isvapp-exp" in response.url
    }
    assert '"state":"expired"' in ours["connections/isvapp_default/exports"]
    assert ours["page/main.js"]
    for secret in (DOWNLOAD_TOKEN, "sentinel-wrong-secret", history.client_secret):
        assert not [path for path, body in ours.items() if secret in body]


def test_an_empty_list_shows_the_next_step(new_page: NewPage, history: Emulator, pictures: Path) -> None:
    history.clear_faults()
    history.inject(Fault(endpoint="list_exports", kind="edit", times=None, replace={"data": []}))
    page = show(new_page(), "?connection=isvapp_copy_2")
    page.screenshot(path=pictures / "exports-page-no-exports.png")
    assert page.get_by_role("heading", name="No exports yet").count() == 1

    page.route("**/isvapp-exports/connections", lambda route: route.fulfill(json={"connections": []}))
    show(page)
    page.screenshot(path=pictures / "exports-page-no-connection.png")
    page.get_by_label("Connection id").fill("isvapp_copy_2")
    page.get_by_role("button", name="Show its exports").click()
    page.get_by_role("heading", name="No exports yet").wait_for()


def test_a_narrow_page_does_not_scroll_sideways(new_page: NewPage, history: Emulator, pictures: Path) -> None:
    page = show(new_page(width=390))
    for width in (390, 760):
        page.set_viewport_size({"width": width, "height": 900})
        page.screenshot(path=pictures / f"exports-page-{width}.png")
        for element in ("document.documentElement", "document.querySelector('.isvapp-exports')"):
            assert page.evaluate(f"{element}.scrollWidth") <= page.evaluate(f"{element}.clientWidth")
    # As cards, the rows are still those of a table for users who do not see them.
    assert page.locator("tbody tr").first.evaluate("row => getComputedStyle(row).display") == "grid"
    assert page.get_by_role("columnheader").count() == 8
    assert page.get_by_role("cell", name=FAILURES[2]).count() == 1


def test_a_viewer_sees_no_page(new_page: NewPage, history: Emulator, pictures: Path) -> None:
    page = new_page("viewer")
    page.goto(PAGE)
    page.get_by_role("heading", name="404").wait_for()
    page.screenshot(path=pictures / "exports-page-viewer.png")

    assert page.locator(".isvapp-exports").count() == 0


def brightness(page: Page, colour: str) -> float:
    """Return how bright a CSS colour is, from 0 to 1."""
    red, green, blue = page.evaluate(
        """colour => {
            const context = new OffscreenCanvas(1, 1).getContext("2d");
            context.fillStyle = colour;
            context.fillRect(0, 0, 1, 1);
            return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
        }""",
        colour,
    )
    return float(0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255
