# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The exports page names the task that created an export and leads to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.emulator import Emulator
from airflow_provider_isvapp.links.isvapp import export_url
from tests.support import ROOT
from tests.system.browser.airflow_ui import AirflowUi
from tests.system.browser.conftest import NewPage

# The first test that needs Airflow's UI waits until it has started.
pytestmark = pytest.mark.timeout(400)
DAG_ID = "monthly_sync"
RUN_ID = "scheduled__2026-03-05T06:00:00+00:00"

# Airflow's models write to the configured database: a separate process, configured for the UI's database.
LEAVE = """
import json, sys
from tests.support.stored_links import forget_links, leave_link
for arguments in json.loads(sys.argv[1]):
    leave_link(**arguments) if "export_id" in arguments else forget_links(*arguments["forget"])
"""


def in_database(airflow: AirflowUi, *steps: dict[str, Any]) -> None:
    variables = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{airflow.home}/airflow.db"}
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LEAVE, json.dumps(steps)],
        env=os.environ | variables,
        cwd=ROOT,
        check=True,
    )


@pytest.fixture
def export_ids(airflow: AirflowUi, history: Emulator) -> Iterator[list[str]]:
    """The exports of the history: the first was created by a mapped task, the second is known to a sensor alone."""
    path = "/isvapp-exports/connections/isvapp_default/exports"
    exports = json.loads(airflow.call("GET", path, token=airflow.token("op"))[1])["exports"]
    ids = [row["id"] for row in exports]
    task = {"dag_id": DAG_ID, "run_id": RUN_ID}
    in_database(
        airflow,
        {"export_id": ids[0], "task_id": "create_export", "map_index": 2, "map_label": "2026-02", **task},
        {"export_id": ids[0], "task_id": "download", "operator": "IsvappDownloadExportOperator", **task},
        {"export_id": ids[1], "task_id": "wait", "operator": "IsvappExportSensor", **task},
        {"export_id": ids[2], "task_id": "elsewhere", "conn_id": "isvapp_other", **task},
    )
    yield ids
    in_database(airflow, {"forget": [DAG_ID]})


def test_names_the_task_and_leads_to_it(new_page: NewPage, export_ids: list[str], pictures: Path) -> None:
    page = new_page()
    page.goto("/plugin/isvapp-exports", wait_until="commit")
    page.locator(".isvapp-exports table").wait_for()
    page.screenshot(path=pictures / "exports-page-created-by.png")

    assert page.locator(".isvapp-exports").evaluate("page => page.scrollWidth <= page.clientWidth")
    headers = page.get_by_role("columnheader").all_inner_texts()
    assert headers[-3:] == ["Expires", "Created by", "Message"]
    cells = page.locator("td.task").all_inner_texts()[:3]
    assert [cell.split() for cell in cells] == [
        [f"{DAG_ID}.create_export[2026-02]", RUN_ID],
        ["used", "by", f"{DAG_ID}.wait", RUN_ID],
        [],
    ]
    page.get_by_role("link", name=f"{DAG_ID}.create_export[2026-02]").click()
    page.wait_for_url(f"**/dags/{DAG_ID}/runs/*/tasks/create_export/mapped/2*")


def test_a_tasks_link_shows_its_export_alone(new_page: NewPage, export_ids: list[str]) -> None:
    page = new_page(width=390)
    page.goto(export_url("isvapp_default", export_ids[1]), wait_until="commit")
    page.locator(".isvapp-exports table").wait_for()

    assert page.locator("tbody a").all_inner_texts() == [export_ids[1], f"{DAG_ID}.wait"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
