# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""DAGs that are counted. Each run writes below ``METRICS_LAKE``."""

from __future__ import annotations

import os
from datetime import timedelta

import pendulum
from airflow import DAG

from airflow_provider_isvapp.operators.isvapp import (
    IsvappCreateExportOperator,
    IsvappDownloadExportOperator,
    IsvappExportOperator,
    IsvappFetchSalesforceAccountsOperator,
)
from airflow_provider_isvapp.operators.productiv import ProductivFetchAppsOperator
from airflow_provider_isvapp.sensors.isvapp import IsvappExportSensor

LAKE = f"file://{os.environ['METRICS_LAKE']}"
REQUEST = {"timeframe": "LATEST_COMPLETED_MONTH", "taxonomy_ids": ["taxonomy"]}


def dag(dag_id: str) -> DAG:
    return DAG(
        dag_id=dag_id,
        schedule=None,
        start_date=pendulum.datetime(2024, 1, 1, tz="UTC"),
        catchup=False,
        default_args={"retries": 1, "retry_delay": timedelta(0)},
    )


for name, deferrable in (("deferred", True), ("poking", False)):
    with dag(f"one_task_{name}"):
        IsvappExportOperator(
            task_id="export", path=f"{LAKE}/one_{name}.ndjson", deferrable=deferrable, poll_interval=2, **REQUEST
        )

    with dag(f"three_tasks_{name}"):
        create = IsvappCreateExportOperator(task_id="create", **REQUEST)
        wait = IsvappExportSensor(
            task_id="wait", export_id=create.output, deferrable=deferrable, poke_interval=2, mode="poke"
        )
        wait >> IsvappDownloadExportOperator(
            task_id="download", export_id=create.output, path=f"{LAKE}/three_{name}.ndjson"
        )

with dag("accounts_and_apps"):
    IsvappFetchSalesforceAccountsOperator(task_id="accounts", path=f"{LAKE}/accounts.ndjson")
    ProductivFetchAppsOperator(task_id="apps", path=f"{LAKE}/apps.ndjson")
