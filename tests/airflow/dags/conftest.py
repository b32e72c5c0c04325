# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Run the example DAGs as in a user's Airflow: parsed from the DAGs folder, with connections and a database."""

from __future__ import annotations

import inspect
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from airflow import __version__ as airflow_version

from airflow_provider_isvapp.emulator import Emulator
from tests.support.airflow_environment import DAGS_FOLDER


@pytest.fixture
def emulator(isvapp_emulator: Emulator) -> Emulator:
    """Both vendors and connections to them, from this package's pytest plugin."""
    return isvapp_emulator


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the environment gives to the DAG files; use this fixture before ``parse``."""
    monkeypatch.setenv("ISVAPP_LAKE", tmp_path.as_uri())
    return tmp_path


def parse(dag_id: str, *, folder: Path = DAGS_FOLDER) -> Any:
    """Let Airflow parse the DAG file of that name and return its DAG."""
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # before Airflow 3.2
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef]

    bag = DagBag(dag_folder=str(folder / f"{dag_id}.py"))
    assert bag.import_errors == {}
    assert list(bag.dags) == [dag_id]
    if airflow_version.startswith("2."):
        bag.sync_to_db()  # type: ignore[attr-defined]  # dag.test() of Airflow 3 does so itself; without it, no dataset event is kept
    return bag.dags[dag_id]


def run(dag: Any, *, at: datetime, conf: dict[str, Any] | None = None) -> Any:
    """Run a DAG in this process, as if triggered for the logical date ``at``, and return its run."""
    if airflow_version.startswith("3.0."):
        activate_assets(dag)
    # dag.test() of Airflow 3.3.2 looks for the deadline in its database, which has none, and raises.
    dag.deadline = None
    # Airflow 2.11 still says execution_date.
    name = "logical_date" if "logical_date" in inspect.signature(dag.test).parameters else "execution_date"
    return dag.test(**{name: at}, run_conf=conf)


def activate_assets(dag: Any) -> None:
    """Register the DAG's assets, as the scheduler does; without them, dag.test() of Airflow 3.0 refuses the task."""
    from airflow.models.asset import AssetActive, AssetModel
    from airflow.utils.session import create_session

    assets = {(asset.name, asset.uri) for task in dag.tasks for asset in task.outlets if hasattr(asset, "uri")}
    with create_session() as session:
        known = {(asset.name, asset.uri) for asset in session.query(AssetModel)}
        session.add_all(AssetModel(name=name, uri=uri, group="asset") for name, uri in assets - known)
        active = {(asset.name, asset.uri) for asset in session.query(AssetActive)}
        session.add_all(AssetActive(name=name, uri=uri) for name, uri in assets - active)
