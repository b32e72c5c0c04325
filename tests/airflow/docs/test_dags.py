# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Every Python block of the pages runs as a DAG; the log and XCom match the guide."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
from airflow import __version__ as airflow_version

from airflow_provider_isvapp.emulator import Emulator
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from tests.airflow.dags.conftest import parse, run
from tests.airflow.docs.pages import GUIDES, Block, blocks, blocks_of

# As many as the pages show.
pytestmark = pytest.mark.isvapp_emulator(rows=300)

LAKE = "file:///tmp/lake"
# tests/unit/emulator covers the emulator's page without Airflow; test_your_dags.py covers the other one.
# The pages of the storages write to places that a test cannot reach.
SNIPPETS = [
    block
    for block in blocks("python", "py")
    if block.page.name not in ("emulator.md", "test-your-dags.md") and block.page.parent.name != "storage"
]
# A page need not repeat its imports in every block: a block without a DAG is the inside of this one.
FRAGMENT_HEAD = """
from datetime import timedelta
import pendulum
from airflow import DAG
from airflow_provider_isvapp.version_compat import Asset
try:
    from airflow.sdk import task
except ImportError:
    from airflow.decorators import task
from airflow.timetables.interval import CronDataIntervalTimetable
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.hooks.productiv import ProductivHook
from airflow_provider_isvapp.operators.isvapp import *
from airflow_provider_isvapp.operators.productiv import ProductivFetchAppsOperator
from airflow_provider_isvapp.sensors.isvapp import IsvappExportSensor

with DAG(
    dag_id="fragment",
    schedule=CronDataIntervalTimetable("0 6 6 * *", timezone="UTC"),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
):
"""


def shown_after(block: Block) -> tuple[list[str], dict[str, Any]]:
    """Return a guide's claims about the DAG above: lines of its log, and XCom by task."""
    log: list[str] = []
    xcom: dict[str, Any] = {}
    if GUIDES not in block.page.parents:
        return log, xcom
    for later in blocks_of(block.page)[block.number :]:
        if later.language in ("python", "py"):
            break
        if later.language == "text":
            log += later.text.splitlines()
        elif later.language == "json":
            xcom[re.search(r"XCom of `(\w+)`", later.before)[1]] = json.loads(later.text)  # type: ignore[index]
    return log, xcom


def test_guides_show_the_output_of_their_dags() -> None:
    shown = [shown_after(block) for block in SNIPPETS]
    assert sum(bool(log) for log, _ in shown) >= 7
    assert sum(bool(xcom) for _, xcom in shown) >= 4


@pytest.fixture
def completed_exports(emulator: Emulator) -> Iterator[None]:
    """Two exports of another client, for a DAG that a completed export starts."""
    with IsvappHook() as hook:
        for _ in range(2):
            hook.create_export(timeframe="2026-02", taxonomy_ids=["any"])
        hook.list_exports()  # the emulator completes an export once it was polled
    yield
    assert emulator.request_counts()["download"] == 2


@pytest.mark.usefixtures("airflow_database")
@pytest.mark.parametrize("block", SNIPPETS, ids=str)
def test_it_runs_and_shows_what_the_page_says(
    block: Block,
    emulator: Emulator,
    logs: Callable[[], str],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "AssetWatcher" in block.text:
        if airflow_version.startswith("2."):
            pytest.skip("AssetWatcher came with Airflow 3")
        request.getfixturevalue("completed_exports")
    if re.search("Partition|partition_events|DeadlineAlert", block.text) and airflow_version.startswith("2."):
        pytest.skip("deadlines came with Airflow 3.1, partitions with 3.2")
    folder, lake = tmp_path / "dags", tmp_path / "lake"
    folder.mkdir()
    monkeypatch.setattr("airflow.settings.DAGS_FOLDER", str(folder))
    text = block.text if "dag_id=" in block.text else FRAGMENT_HEAD + indent(block.text, "    ")
    # Two pages may show a DAG of the same name, and the database outlives the test.
    dag_id = str(block).replace("-", "_")
    text = re.sub(r'dag_id="\w+"', f'dag_id="{dag_id}"', text)
    text = re.sub(r"poke_interval=\d+", "poke_interval=0.1", text)
    (folder / f"{dag_id}.py").write_text(text.replace(LAKE, lake.as_uri()))

    dag = parse(dag_id, folder=folder)
    if "Partition" in block.text:
        return  # tests/system/crash runs it: dag.test() knows no partitions
    ended = run(dag, at=datetime(2026, 3, 20, tzinfo=UTC))

    assert ended.state == "success"
    # The consumer of an asset may need nothing of this package.
    assert emulator.requests or "airflow_provider_isvapp" not in text
    written = [path for path in lake.rglob("*") if path.is_file()]
    assert bool(written) == (LAKE in text)
    assert all(path.stat().st_size for path in written)
    if "data_interval_start" in text:
        assert all("month=2026-02" in str(path) for path in written)
    log, xcom = shown_after(block)
    assert_in_order(log, logs().replace(lake.as_uri(), LAKE))
    for task_id, value in xcom.items():
        pulled = ended.get_task_instance(task_id).xcom_pull(task_ids=task_id)
        assert kinds(pulled) == kinds(value), f"XCom of {task_id} is {json.dumps(pulled, indent=2)}"
        assert "rows" not in value or pulled["rows"] == value["rows"]


def assert_in_order(lines: list[str], log: str) -> None:
    """Find each line below the one before; "…" matches anything."""
    position = 0
    for line in lines:
        pattern = ".*?".join(map(re.escape, line.split("…")))
        found = re.compile(pattern).search(log, position)
        assert found, f"not in the log, or not after the line before: {line}\n\n{log}"
        position = found.end()


def kinds(value: Any) -> Any:
    """Reduce a value to its fields and their types, since ids, times and sizes differ in each run."""
    if isinstance(value, dict):
        return {name: kinds(item) for name, item in value.items()}
    if isinstance(value, list):
        return [kinds(item) for item in value]
    return type(value).__name__
