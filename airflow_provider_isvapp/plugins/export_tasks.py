# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Which task an export belongs to, by the links to exports that tasks leave in Airflow's database. Blocks."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.links.isvapp import IsvappExportLink, export_of

# A look at the page costs no more than reading this many rows, however many tasks there were.
MOST_LINKS = 10_000
# Exports are dated by the vendor's clock, links by the database's.
_CLOCKS_APART = timedelta(days=1)

_LINK_KEY = f"_link_{IsvappExportLink.__name__}"
# By the name of the operator's class. What a subclass with another name does, nobody knows here.
_CREATING = frozenset({"IsvappExportOperator", "IsvappCreateExportOperator"})


@dataclass(frozen=True, kw_only=True)
class ExportTask:
    """A task that an export belongs to.

    :param map_index: of a mapped task; -1 of others.
    :param map_label: what the UI calls the mapped task: the rendered ``map_index_template``, else the index.
    :param created: whether the task requests exports, and so has created this one; else it has waited for it or
        downloaded it.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    map_label: str
    created: bool


def tasks_of(exports: Iterable[Export], *, conn_id: str, dag_ids: Collection[str]) -> dict[str, ExportTask]:
    """Find the tasks of exports, in one query.

    It goes by the index of the XComs' keys, to none that is older than the oldest of the exports.

    :param conn_id: the connection that the exports were read with.
    :param dag_ids: the DAGs that may be named.
    :return: for the id of each export that has one, the task that created it, else the first one that used it.
    """
    created = [export.created_at for export in exports if export.created_at]
    if not created or not dag_ids:
        return {}
    found: dict[str, ExportTask] = {}
    for task, address in reversed(_newest_links(since=min(created) - _CLOCKS_APART, dag_ids=dag_ids)):
        conn_and_export = export_of(address)
        if conn_and_export is None or conn_and_export[0] != conn_id:
            continue
        known = found.setdefault(conn_and_export[1], task)
        if task.created and not known.created:
            found[conn_and_export[1]] = task
    return found


def _newest_links(*, since: datetime, dag_ids: Collection[str]) -> list[tuple[ExportTask, object]]:
    from airflow.models.taskinstance import TaskInstance  # the database's models
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import and_, select

    # Airflow 3.4 keeps the XComs of each attempt, and shows those of old and new tables as one that knows the attempt.
    same_task = (
        TaskInstance.id == XComModel.task_instance_id
        if hasattr(XComModel, "task_instance_id")
        else and_(
            TaskInstance.dag_id == XComModel.dag_id,
            TaskInstance.run_id == XComModel.run_id,
            TaskInstance.task_id == XComModel.task_id,
            TaskInstance.map_index == XComModel.map_index,
        )
    )
    newest = (
        select(
            XComModel.dag_id,
            XComModel.run_id,
            XComModel.task_id,
            XComModel.map_index,
            XComModel.value,
            TaskInstance.operator,
            TaskInstance.rendered_map_index.label("map_label"),  # type: ignore[attr-defined] # a hybrid property
        )
        .join(TaskInstance, same_task)
        .where(XComModel.key == _LINK_KEY, XComModel.timestamp >= since, XComModel.dag_id.in_(dag_ids))
        .order_by(XComModel.timestamp.desc())
        .limit(MOST_LINKS)
    )
    with create_session() as session:
        return [
            (
                ExportTask(
                    dag_id=row.dag_id,
                    run_id=row.run_id,
                    task_id=row.task_id,
                    map_index=row.map_index,
                    map_label=row.map_label or str(row.map_index),
                    created=row.operator in _CREATING,
                ),
                _plain(row.value),
            )
            for row in session.execute(newest)
        ]


def _plain(value: object) -> object:
    """Read a stored value as JSON and no further: a link is a string, and an XCom of a DAG can name any class."""
    try:
        return json.loads(value)  # type: ignore[arg-type]
    except (ValueError, TypeError, RecursionError):
        return value
