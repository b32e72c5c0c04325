# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.links.isvapp import IsvappExportLink, export_of, export_url
from airflow_provider_isvapp.plugins import export_list
from airflow_provider_isvapp.plugins.export_list import ExportTask, tasks_of
from airflow_provider_isvapp.version_compat import shows_guarded_pages
from tests.support.stored_links import KEY, forget_links, leave_link

pytestmark = [
    pytest.mark.skipif(not shows_guarded_pages(), reason="Airflow before 3.1.1 shows no guarded pages"),
    # Airflow's models warn when they are first loaded.
    pytest.mark.filterwarnings("ignore"),
]

NOW = datetime(2026, 3, 6, 9, 0, tzinfo=UTC)
RUN = "scheduled__2026-03-05T06:00:00+00:00"
DAGS = {"monthly_sync", "another_dag"}


@pytest.fixture(autouse=True)
def database(airflow_database: None) -> Iterator[None]:
    yield
    forget_links("monthly_sync", "another_dag", "secret_dag")


def export(export_id: str = "e1", *, created_at: datetime | None = NOW) -> Export:
    created = created_at.isoformat() if created_at else None
    return Export.from_record({"id": export_id, "status": "PENDING", "created_at": created})


def task(**changes: Any) -> ExportTask:
    fields = {"dag_id": "monthly_sync", "run_id": RUN, "task_id": "create_export", "map_index": -1, "created": True}
    return ExportTask(**fields | {"map_label": str(changes.get("map_index", -1))} | changes)


def find(*exports: Export, dag_ids: set[str] = DAGS) -> dict[str, ExportTask]:
    return tasks_of(exports or [export()], conn_id="isvapp_default", dag_ids=dag_ids)


def test_the_key_is_that_of_the_link() -> None:
    assert IsvappExportLink().xcom_key == export_list._LINK_KEY == KEY


def test_the_task_that_created_an_export_is_found() -> None:
    leave_link("e1", at=NOW)
    leave_link("e2", at=NOW, task_id="mapped", map_index=3, operator="IsvappExportOperator")
    leave_link("e4", at=NOW, task_id="mapped", map_index=4, map_label="2026-02", operator="IsvappExportOperator")

    assert find(export("e1"), export("e2"), export("e3"), export("e4")) == {
        "e1": task(),
        "e2": task(task_id="mapped", map_index=3),
        "e4": task(task_id="mapped", map_index=4, map_label="2026-02"),
    }


def test_the_creator_comes_before_those_that_wait_and_download_whatever_the_order() -> None:
    leave_link("e1", at=NOW, task_id="wait", operator="IsvappExportSensor")
    # Pushed again by a retry.
    leave_link("e1", at=NOW + timedelta(minutes=5))
    leave_link("e1", at=NOW + timedelta(minutes=6), task_id="download", operator="IsvappDownloadExportOperator")

    assert find() == {"e1": task()}


def test_without_a_known_creator_the_first_user_is_named() -> None:
    leave_link("e1", at=NOW + timedelta(minutes=6), task_id="download", operator="IsvappDownloadExportOperator")
    leave_link("e1", at=NOW, task_id="wait", operator="IsvappExportSensor")

    assert find() == {"e1": task(task_id="wait", created=False)}


def test_a_dag_that_the_user_may_not_read_is_not_named() -> None:
    leave_link("e1", at=NOW, dag_id="secret_dag")
    leave_link("e1", at=NOW, dag_id="another_dag", task_id="wait", operator="IsvappExportSensor")

    assert find() == {"e1": task(dag_id="another_dag", task_id="wait", created=False)}
    assert find(dag_ids=set()) == {}


def test_the_same_id_at_another_connection_is_another_export() -> None:
    leave_link("e1", at=NOW, conn_id="isvapp_other")

    assert find() == {}


@pytest.mark.parametrize(
    "value",
    [
        "",
        "https://elsewhere.example.com/?connection=isvapp_default&export=e1",
        "/plugin/isvapp-exports?export=e1",
        "//[/plugin/isvapp-exports",
        {"connection": "isvapp_default", "export": "e1"},
        7,
        # Airflow's own decoder would import a class for it, or raise an error.
        '{"__classname__": "elsewhere.Class", "__version__": 1, "__data__": {}}',
        {"__classname__": "elsewhere.Class", "__version__": 1, "__data__": {}},
        "[" * 100_000,
    ],
)
def test_links_to_anything_else_are_skipped(value: Any) -> None:
    leave_link("e1", at=NOW, value=value)

    assert find() == {}


def test_other_xcoms_are_not_read() -> None:
    leave_link("e1", at=NOW, key="return_value")

    assert find() == {}


def test_links_from_before_the_oldest_export_are_not_read() -> None:
    leave_link("e1", at=NOW - timedelta(days=2))
    leave_link("e2", at=NOW - timedelta(hours=20), task_id="later")

    assert set(find(export("e1"), export("e2"))) == {"e2"}


def test_exports_of_unknown_age_cost_no_query(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_list, "_newest_links", None)

    assert find(export(created_at=None)) == {}
    assert tasks_of([], conn_id="isvapp_default", dag_ids=DAGS) == {}


def test_only_the_newest_links_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_list, "MOST_LINKS", 2)
    for number in range(3):
        leave_link(f"e{number}", at=NOW + timedelta(minutes=number), task_id=f"create_{number}")

    assert set(find()) == {"e1", "e2"}


def test_one_query_finds_them_all_by_the_index_of_the_keys() -> None:
    from airflow import settings
    from sqlalchemy import event

    leave_link("e1", at=NOW)
    leave_link("e2", at=NOW, task_id="again")
    statements: list[tuple[str, Any]] = []

    def note(_: object, __: object, statement: str, parameters: Any, ___: object, ____: object) -> None:
        statements.append((statement, parameters))

    event.listen(settings.engine, "before_cursor_execute", note)
    try:
        assert len(find(export("e1"), export("e2"))) == 2
    finally:
        event.remove(settings.engine, "before_cursor_execute", note)

    ((statement, parameters),) = statements
    with settings.engine.connect() as connection:  # type: ignore[union-attr]
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    steps = [step[-1] for step in plan]
    assert any("USING INDEX idx_xcom_key" in step for step in steps)
    # In Airflow 3.4 a view of the old and new tables, not a table.
    found = {"SCAN xcom"} if "MATERIALIZE xcom" in steps else set()
    assert {step for step in steps if step.startswith("SCAN")} == found


@pytest.mark.parametrize("conn_id", ["isvapp_default", "with space & more", "Ü"])
def test_the_url_of_a_link_can_be_parsed(conn_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://example.com/some/airflow/")

    assert export_of(export_url(conn_id, "e=1")) == (conn_id, "e=1")
