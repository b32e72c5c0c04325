# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Finished tasks in the metadata database, with their links."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow_provider_isvapp.links.isvapp import export_url

KEY = "_link_IsvappExportLink"


def leave_link(
    export_id: str,
    *,
    conn_id: str = "isvapp_default",
    dag_id: str = "monthly_sync",
    run_id: str = "scheduled__2026-03-05T06:00:00+00:00",
    task_id: str = "create_export",
    map_index: int = -1,
    map_label: str | None = None,
    operator: str = "IsvappCreateExportOperator",
    at: datetime | None = None,
    key: str = KEY,
    value: Any = None,
) -> None:
    """Add a task instance with the XCom of its link, and its DAG and run if they are missing."""
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import insert, select

    table = _xcom_table()
    at = at or datetime.now(UTC)
    task = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "map_index": map_index}
    with create_session() as session:
        if session.get(DagBundleModel, "tests") is None:
            session.add(DagBundleModel(name="tests"))
            session.flush()
        if session.get(DagModel, dag_id) is None:
            session.add(DagModel(dag_id=dag_id, bundle_name="tests"))
            session.flush()
        run = select(DagRun.id).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)
        if session.scalar(run) is None:
            session.execute(
                insert(DagRun).values(dag_id=dag_id, run_id=run_id, run_type="scheduled", run_after=at, state="success")
            )
        task_instance = insert(TaskInstance).values(
            **task,
            _rendered_map_index=map_label,
            operator=operator,
            state="success",
            pool="default_pool",
            pool_slots=1,
            start_date=at,
        )
        task_instance_id = session.scalar(task_instance.returning(TaskInstance.id))
        session.execute(
            insert(table).values(
                **(
                    {"task_instance_id": task_instance_id}
                    if hasattr(table, "task_instance_id")
                    else {**task, "dag_run_id": session.scalar(run)}
                ),
                key=key,
                value=export_url(conn_id, export_id) if value is None else value,
                timestamp=at,
            )
        )


def forget_links(*dag_ids: str) -> None:
    """Remove DAGs with their runs, tasks and XComs."""
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        for model in (TaskInstance, DagRun, DagModel):  # XComs go with their task instance
            session.execute(delete(model).where(model.dag_id.in_(dag_ids)))


def _xcom_table() -> Any:
    """Return the model that stores XComs; that of Airflow 3.4 belongs to an attempt."""
    from airflow.models import xcom

    return getattr(xcom, "XComModelV2", None) or xcom.XComModel
