# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""DAGs whose tasks are killed. Each run writes ``<CRASH_LAKE>/<run_id>.ndjson``."""

from __future__ import annotations

import os
import signal
from datetime import timedelta

import pendulum
from airflow import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

import airflow_provider_isvapp
from airflow_provider_isvapp.operators import creation
from airflow_provider_isvapp.operators.isvapp import (
    IsvappCreateExportOperator,
    IsvappDownloadExportOperator,
    IsvappExportOperator,
    IsvappFetchSalesforceAccountsOperator,
)
from airflow_provider_isvapp.sensors.isvapp import IsvappExportSensor

if record := os.environ.get("CRASH_IMPORTED"):
    with open(record, "a") as imported:
        imported.write(f"{os.path.dirname(os.path.dirname(airflow_provider_isvapp.__file__))}\n")

creation.REQUEST_INTERVAL = timedelta(seconds=3)

PATH = f"file://{os.environ['CRASH_LAKE']}/{{{{ run_id }}}}.ndjson"
REQUEST = {"timeframe": "{{ dag_run.conf.get('timeframe', 'LATEST_COMPLETED_MONTH') }}", "taxonomy_ids": ["taxonomy"]}


class KilledAfterCreate(IsvappExportOperator):
    """Dies by SIGKILL in its first try, after the export is created and saved."""

    def _wait(self, *arguments):
        if os.environ.get("AIRFLOW_CTX_TRY_NUMBER") == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._wait(*arguments)


def dag(dag_id: str, schedule: object = None, end_date: pendulum.DateTime | None = None) -> DAG:
    return DAG(
        dag_id=dag_id,
        schedule=schedule,
        start_date=pendulum.datetime(2024, 1, 1, tz="UTC"),
        end_date=end_date,
        catchup=False,
        default_args={"retries": 2, "retry_delay": timedelta(seconds=1)},
    )


with dag("killed_after_create"):
    KilledAfterCreate(task_id="export", path=PATH, deferrable=True, **REQUEST)

with dag("deferred"):
    IsvappExportOperator(
        task_id="export", path=PATH, deferrable=True, poll_interval=2, wait_for_month=timedelta(days=45), **REQUEST
    )

with dag("poking"):
    IsvappExportOperator(task_id="export", path=PATH, deferrable=False, poll_interval=2, **REQUEST)

with dag("single_tasks"):
    create = IsvappCreateExportOperator(task_id="create", deferrable=True, wait_for_month=timedelta(days=45), **REQUEST)
    wait = IsvappExportSensor(task_id="wait", export_id=create.output, deferrable=True, poke_interval=2)
    wait >> IsvappDownloadExportOperator(task_id="export", export_id=create.output, path=PATH)

with dag("monthly", CronDataIntervalTimetable("0 6 6 * *", timezone="UTC"), pendulum.datetime(2024, 12, 31, tz="UTC")):
    IsvappExportOperator(
        task_id="export",
        taxonomy_ids=["taxonomy"],
        path=f"file://{os.environ['CRASH_LAKE']}/{{{{ data_interval_start.strftime('%Y-%m') }}}}.ndjson",
        deferrable=True,
        poll_interval=2,
    )
    IsvappFetchSalesforceAccountsOperator(
        task_id="accounts", path=f"file://{os.environ['CRASH_LAKE']}/backfilled_accounts/{{snapshot_date}}"
    )

try:
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import Asset, AssetWatcher

    from airflow_provider_isvapp.triggers.isvapp import IsvappExportCompletedTrigger
except ImportError:
    pass  # Airflow 2.11
else:
    watch = AssetWatcher(name="completed", trigger=IsvappExportCompletedTrigger(poll_interval=2))
    with dag("started_by_export", [Asset(name="completed_exports", watchers=[watch])]):
        EmptyOperator(task_id="start")
