# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The links that the UI reads from the database after a run."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.models.serialized_dag import SerializedDagModel

from airflow_provider_isvapp.emulator import Emulator
from airflow_provider_isvapp.links.isvapp import export_url
from airflow_provider_isvapp.operators import base
from airflow_provider_isvapp.version_compat import shows_guarded_pages
from tests.airflow.dags.conftest import parse, run

DAG_FILE = """
import pendulum
from airflow import DAG
from airflow_provider_isvapp.operators.isvapp import IsvappCreateExportOperator, IsvappFetchSalesforceAccountsOperator

with DAG("linked", schedule=None, start_date=pendulum.datetime(2026, 1, 1, tz="UTC")):
    IsvappFetchSalesforceAccountsOperator(task_id="accounts", path="{lake}/accounts")
    IsvappCreateExportOperator.partial(task_id="create", timeframe="LATEST_COMPLETED_MONTH").expand(
        taxonomy_ids=[["one"], ["two"]]
    )
"""


@pytest.mark.usefixtures("airflow_database")
def test_the_ui_finds_the_links_of_single_and_of_mapped_tasks(
    isvapp: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow.settings.DAGS_FOLDER", str(tmp_path))
    monkeypatch.setattr(base, "WITHOUT_CONSOLE", ("nowhere",))
    monkeypatch.setattr(base, "console_url", lambda *_, **__: "https://console.example.com/object")
    (tmp_path / "linked.py").write_text(DAG_FILE.format(lake=tmp_path))
    dag = parse("linked", folder=tmp_path)

    ended = run(dag, at=datetime(2026, 3, 20, tzinfo=UTC))

    assert ended.state == "success"
    stored = as_the_ui_reads_it("linked")

    def link(name: str, task_id: str, map_index: int = -1) -> str:
        instance = ended.get_task_instance(task_id, map_index=map_index)
        return str(stored.get_task(task_id).get_extra_links(instance, name))

    assert link("Written object", "accounts") == "https://console.example.com/object"
    if shows_guarded_pages():
        # Mapped tasks run in any order.
        export_of = {record["request"]["ids"][0]: export_id for export_id, record in isvapp.exports.items()}
        for map_index, taxonomy_id in enumerate(["one", "two"]):
            url = export_url("isvapp_default", export_of[taxonomy_id])
            assert link("ISVapp export", "create", map_index) == url
    else:
        assert stored.get_task("create").extra_links == []


def as_the_ui_reads_it(dag_id: str) -> Any:
    """Load a DAG from the database.

    Deserializing it here could lose the links: Airflow keeps the decision whether to load them in a class attribute,
    which the last reader of a stored DAG in this process has set.
    """
    stored = SerializedDagModel.get(dag_id)
    assert stored is not None
    return stored.dag
