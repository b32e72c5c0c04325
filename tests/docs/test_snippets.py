# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What the pages tell a reader to type does what they say: every Python block runs, and connections can be read."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from textwrap import indent
from urllib.parse import urlsplit

import pytest

from airflow_provider_isvapp.emulator import Emulator
from tests.dags.conftest import parse, run

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# The emulator's page belongs to tests/emulator, which needs no Airflow.
PYTHON_PAGES = [page for page in PAGES if page.name != "emulator.md"]
LAKE = "file:///tmp/lake"


@dataclass(frozen=True)
class Block:
    page: Path
    number: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.stem}-{self.number}"


def blocks(language: str, pages: list[Path]) -> list[Block]:
    found = []
    for page in pages:
        for number, match in enumerate(re.finditer(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.M | re.S), 1):
            if match[1] == language:
                found.append(Block(page, number, match[1], match[2]))
    return found


SNIPPETS = blocks("python", PYTHON_PAGES)
# A page need not repeat its imports in every block: a block that makes no DAG of its own is the inside of this one.
FRAGMENT_HEAD = """
from datetime import timedelta
import pendulum
from airflow.providers.common.compat.sdk import DAG, Asset, task
from airflow.timetables.interval import CronDataIntervalTimetable
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.hooks.productiv import ProductivHook
from airflow_provider_isvapp.operators.isvapp import *
from airflow_provider_isvapp.operators.productiv import ProductivFetchAppsOperator

with DAG(
    dag_id="fragment",
    schedule=CronDataIntervalTimetable("0 6 6 * *", timezone="UTC"),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
):
"""


def test_there_is_a_first_dag() -> None:
    assert "README" in {block.page.stem for block in SNIPPETS}


@pytest.mark.usefixtures("airflow_database")
@pytest.mark.parametrize("block", SNIPPETS, ids=str)
def test_it_runs(block: Block, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, lake = tmp_path / "dags", tmp_path / "lake"
    folder.mkdir()
    monkeypatch.setattr("airflow.settings.DAGS_FOLDER", str(folder))
    text = block.text if "dag_id=" in block.text else FRAGMENT_HEAD + indent(block.text, "    ")
    # Two pages may show a DAG of the same name, and the database outlives the test.
    dag_id = str(block).replace("-", "_")
    text = re.sub(r'dag_id="\w+"', f'dag_id="{dag_id}"', text)
    (folder / f"{dag_id}.py").write_text(text.replace(LAKE, lake.as_uri()))

    ended = run(parse(dag_id, folder=folder), at=datetime(2026, 3, 20, tzinfo=UTC))

    assert ended.state == "success"
    assert emulator.requests
    written = [path for path in lake.rglob("*") if path.is_file()]
    assert bool(written) == (LAKE in text)
    assert all(path.stat().st_size for path in written)
    if "data_interval_start" in text:
        assert all("month=2026-02" in str(path) for path in written)


EXPORTS = [block for block in blocks("bash", PAGES) if "export AIRFLOW_CONN_" in block.text]


@pytest.mark.parametrize("block", EXPORTS, ids=str)
def test_connections_can_be_read(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_provider_isvapp.hooks.isvapp import IsvappHook
    from airflow_provider_isvapp.hooks.productiv import ProductivHook

    shell = subprocess.run(["bash", "-c", f"{block.text}\nenv -0"], capture_output=True, text=True, check=True)
    for line in shell.stdout.split("\0"):
        if line.startswith("AIRFLOW_CONN_"):
            monkeypatch.setenv(*line.split("=", 1))

    assert IsvappHook().get_client() is not None
    assert ProductivHook().get_client() is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        address = urlsplit(target)
        if not address.scheme:
            assert (page.parent / address.path).exists(), f"{page.name} links to {target}"
