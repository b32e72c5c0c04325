# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""
### Twelve months of ISVapp usage, one export and one file per month

Trigger it by hand. `last_month` (`YYYY-MM`) is the newest month to fetch; empty means the newest one that ISVapp has
completed. Files go to the paths of `isvapp_monthly_sync`, and replace existing files once they are complete.

**On call:** each month is a separate task group. Clear the `create_export` of a failed month; the others stay.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pendulum

try:
    from airflow.sdk import DAG, Param, task, task_group
except ImportError:  # Airflow 2.11
    from airflow import DAG
    from airflow.decorators import task, task_group
    from airflow.models.param import Param

from airflow_provider_isvapp.operators.isvapp import IsvappCreateExportOperator, IsvappDownloadExportOperator
from airflow_provider_isvapp.sensors.isvapp import IsvappExportSensor

LAKE = os.environ.get("ISVAPP_LAKE") or (Path.home() / "isvapp-lake").as_uri()
TAXONOMY_IDS = os.environ.get("ISVAPP_TAXONOMY_IDS", "main-product-taxonomy").split(",")

with DAG(
    dag_id="isvapp_backfill_twelve_months",
    schedule=None,
    start_date=pendulum.datetime(2024, 1, 1, tz="UTC"),
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
    params={"last_month": Param(None, type=["null", "string"], pattern=r"^\d{4}-(0[1-9]|1[0-2])$")},
    is_paused_upon_creation=True,
    doc_md=__doc__,
    tags=["isvapp"],
):

    @task
    def twelve_months(**context) -> list[dict[str, str]]:
        """List the months with the path of each, oldest first."""
        last_month = context["params"]["last_month"]
        if last_month:
            last = pendulum.from_format(last_month, "YYYY-MM")
        else:
            # On the 6th the month before is complete.
            last = pendulum.now("UTC").subtract(days=5).start_of("month").subtract(months=1)
        months = [last.subtract(months=age).strftime("%Y-%m") for age in reversed(range(12))]
        return [{"month": month, "path": f"{LAKE}/isvapp/feature_usage/month={month}/usage.ndjson"} for month in months]

    @task_group
    def one_month(month: str, path: str) -> None:
        """Export, wait and download."""
        create = IsvappCreateExportOperator(task_id="create_export", timeframe=month, taxonomy_ids=TAXONOMY_IDS)
        wait = IsvappExportSensor(task_id="wait_for_export", export_id=create.output, deferrable=True)
        wait >> IsvappDownloadExportOperator(task_id="download_export", export_id=create.output, path=path)

    one_month.expand_kwargs(twelve_months())
