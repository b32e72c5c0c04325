# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Airflow's page of connections, used as a user does: by its visible labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page


def fill_in(page: Page, conn_id: str, kind: str, fields: Mapping[str, str], extra: Mapping[str, str]) -> Locator:
    """Open the form for a new connection and fill it in.

    :param kind: the connection type's name.
    :param fields: values by the labels of Airflow's own fields.
    :param extra: the same of the type's own fields; a select's value is one of its choices.
    :return: the form.
    """
    page.goto("/connections")
    page.get_by_role("button", name="Add Connection").first.click()
    form = page.get_by_role("dialog")
    form.locator("input[name=connection_id]").fill(conn_id)
    form.get_by_role("combobox").first.click()
    page.get_by_role("option", name=kind, exact=True).click()
    for label, value in fields.items():
        form.get_by_label(label, exact=True).fill(value)
    form.get_by_role("button", name="Extra Fields", exact=True).click()
    for label, value in extra.items():
        # Airflow does not tie these labels to their fields.
        field = form.get_by_role("group").filter(has=page.locator("label", has_text=re.compile(f"^{re.escape(label)}")))
        field.wait_for()
        choose = field.locator("[role=combobox]")
        if choose.count():
            choose.click()
            page.get_by_role("option", name=value, exact=True).click()
        else:
            field.locator("input").fill(value)
    return form


def save(page: Page, form: Locator, conn_id: str) -> None:
    """Save the form, and wait until the list shows the connection."""
    form.get_by_role("button", name="Save").click()
    row(page, conn_id).wait_for()
    form.wait_for(state="hidden")


def row(page: Page, conn_id: str) -> Locator:
    """Return a connection's row in the list."""
    return page.get_by_role("row").filter(has=page.get_by_text(conn_id, exact=True))


def press_test(page: Page, conn_id: str) -> Locator:
    """Press a connection's Test button, whose icon becomes green or red, and return it."""
    page.goto("/connections")
    button = row(page, conn_id).get_by_role("button", name="Test Connection")
    button.click()
    return button
