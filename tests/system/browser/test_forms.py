# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The connection forms as Airflow draws them. Their pictures are those of the pages in docs/."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_isvapp.hooks.connection_form import ISVAPP_FORM, PRODUCTIV_FORM, ConnectionForm
from tests.system.browser.airflow_ui import AirflowUi
from tests.system.browser.conftest import NewPage
from tests.system.browser.connections_page import fill_in, save

if TYPE_CHECKING:
    from playwright.sync_api import Page

# The first test that needs Airflow's UI waits until it has started.
pytestmark = pytest.mark.timeout(400)
CONN_ID = "isvapp_by_form"


def stored(airflow: AirflowUi) -> dict[str, object]:
    """Return the extra of the connection, and remove it."""
    path, token = f"/api/v2/connections/{CONN_ID}", airflow.token("admin")
    status, response = airflow.call("GET", path, token=token)
    assert status == 200, response
    airflow.call("DELETE", path, token=token)
    extra: dict[str, object] = json.loads(json.loads(response)["extra"])
    return extra


def options(page: Page, label: str) -> list[str]:
    page.get_by_label(label).click()
    return page.get_by_role("option").all_inner_texts()


@pytest.mark.parametrize(
    ("name", "kind", "form"), [("isvapp", "ISVapp", ISVAPP_FORM), ("productiv", "Productiv", PRODUCTIV_FORM)]
)
def test_every_field_has_its_label_and_help(
    name: str, kind: str, form: ConnectionForm, new_page: NewPage, pictures: Path
) -> None:
    # High enough for all of the form.
    page = new_page(height=1500)
    dialog = fill_in(page, f"{name}_default", kind, {}, {})
    dialog.get_by_label(form.fields[-1].label).wait_for()
    dialog.screenshot(path=pictures / f"connection-form-{name}.png")

    for field in form.fields:
        assert dialog.get_by_text(field.help, exact=True).is_visible()
        if field.choices:
            assert options(page, field.label) == list(field.choices.values())
    assert "null" not in dialog.inner_text()
    dialog.get_by_role("button", name="Standard Fields", exact=True).click()
    for standard, label in form.labels.items():
        if standard != "extra":
            assert dialog.get_by_label(label, exact=True).get_attribute("placeholder") == form.placeholders[standard]
    dialog.screenshot(path=pictures / f"connection-form-{name}-standard.png", animations="disabled")


def test_a_select_that_is_left_alone_or_cleared_stores_nothing(new_page: NewPage, airflow: AirflowUi) -> None:
    page = new_page(height=1500)
    save(page, fill_in(page, CONN_ID, "ISVapp", {}, {"Requests per second": "1"}), CONN_ID)
    assert stored(airflow)["authentication"] is None

    dialog = fill_in(page, CONN_ID, "ISVapp", {}, {"Authentication": "API key"})
    save(page, dialog, CONN_ID)
    assert stored(airflow)["authentication"] == "api_key"

    dialog = fill_in(page, CONN_ID, "ISVapp", {}, {"Authentication": "API key"})
    page.keyboard.press("Backspace")
    save(page, dialog, CONN_ID)
    assert stored(airflow)["authentication"] is None
