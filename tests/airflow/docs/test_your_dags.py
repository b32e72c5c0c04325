# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The tests of "Test your DAGs" pass as a user copies them: in a separate process and AIRFLOW_HOME."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from airflow import __version__ as airflow_version

from airflow_provider_isvapp.emulator import Fault
from tests.airflow.docs.pages import GUIDES, blocks_of
from tests.support.airflow_environment import DAGS_FOLDER

PAGE = GUIDES / "test-your-dags.md"
COUNTS = "import sys\nbefore = set(sys.modules)\nimport airflow_provider_isvapp.pytest_plugin\n" + (
    "print({name.partition('.')[0] for name in set(sys.modules) - before})"
)


def python_blocks() -> list[str]:
    return [block.text for block in blocks_of(PAGE) if block.language == "python"]


# Three whole runs of a DAG; a busy machine needs long.
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("airflow_database")
def test_the_three_tests_pass(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(Path(os.environ["AIRFLOW_HOME"]) / "airflow.db", home)
    program = python_blocks()[0]
    if "DagBag" in program and tuple(map(int, airflow_version.split(".")[:2])) < (3, 2):
        program = program.replace("airflow.dag_processing.dagbag", "airflow.models.dagbag")
    if airflow_version.startswith("2."):
        program = program.replace("logical_date=", "execution_date=")
    (tmp_path / "test_isvapp_monthly_sync.py").write_text(program)
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTEST"))}
    variables |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS_FOLDER),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
    }

    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout
    assert "3 passed" in ended.stdout


def test_the_faults_and_options_on_the_page_exist() -> None:
    faults = re.findall(r"`(Fault\(.*?\))`", PAGE.read_text())
    assert len(faults) == 8
    assert all(isinstance(eval(fault), Fault) for fault in faults)


@pytest.mark.isvapp_emulator(isvapp_conn_id="usage", productiv_conn_id="apps", rows=7, taxonomy_ids="main other")
def test_a_marker_chooses_options_and_connections(isvapp_emulator, monkeypatch) -> None:
    assert (isvapp_emulator.config.rows, isvapp_emulator.config.taxonomy_ids) == (7, "main other")
    assert {"AIRFLOW_CONN_USAGE", "AIRFLOW_CONN_APPS"} <= set(os.environ)
    assert "AIRFLOW_CONN_ISVAPP_DEFAULT" not in os.environ


def test_loading_it_imports_neither_airflow_nor_the_emulator() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "import pytest\n" + COUNTS], capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "{'airflow_provider_isvapp'}"


def test_a_missing_extra_names_the_line_that_installs_it(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(isvapp_emulator): pass\n")
    program = f"import sys, pytest\nsys.modules['aiohttp'] = None\nsys.exit(pytest.main(['-q', {str(tmp_path)!r}]))"
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "pip install 'airflow-provider-isvapp[emulator]'" in ended.stdout
