# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""
### Last month's ISVapp usage, Salesforce accounts and app portfolio

ISVapp completes a month around the 5th of the next one, so this DAG runs on the 6th at 06:00 UTC. It requests the month
in which its data interval starts; the trigger form can name another one. Everything goes below `ISVAPP_LAKE`, one JSON
object per line: usage in a folder per month; accounts and apps, of which the vendors send only today's, in a folder per
date that they describe.

**On call**

- Clear `create_export` and its downstream tasks to request a new export. A file of an earlier run stays in place until
  the new one is complete and verified.
- `create_export` says that the month is not complete: ISVapp is late. Clear it again in some hours.
- A run that has not succeeded four days after it was queued, on the 10th, is counted as `isvapp.late_months` (Airflow
  3.1 and later), which an alert can watch.
- `download_export` did not pass its checks: rows or operations differ by more than 30 % from the month before. The
  refused file is below `rejected_feature_usage`, and the existing file stays. If the month is right, trigger the DAG
  with its *Month* and *Accept this month*.
- `wait_for_export` timed out: exports take up to ten minutes. ISVapp has trouble, or the export was huge.
- A clear, a backfill or a catch-up of a past month fetches that month's usage again, but today's accounts and apps.
- `download_export` says that the export expired: its file is kept for about an hour. Clear `create_export`.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pendulum

try:
    from airflow.sdk import DAG, Asset, Param
except ImportError:  # Airflow 2.11
    from airflow import DAG
    from airflow.datasets import Dataset as Asset
    from airflow.models.param import Param
try:
    from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference
except ImportError:  # deadlines came with Airflow 3.1
    DeadlineAlert = None
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_isvapp.checks import MaxChange
from airflow_provider_isvapp.metrics import report_late_month
from airflow_provider_isvapp.operators.isvapp import (
    IsvappCreateExportOperator,
    IsvappDownloadExportOperator,
    IsvappFetchSalesforceAccountsOperator,
)
from airflow_provider_isvapp.operators.productiv import ProductivFetchAppsOperator
from airflow_provider_isvapp.sensors.isvapp import IsvappExportSensor

# Any URL that Airflow's object storage knows, for example s3://connection_id@bucket/folder.
LAKE = os.environ.get("ISVAPP_LAKE") or (Path.home() / "isvapp-lake").as_uri()
TAXONOMY_IDS = os.environ.get("ISVAPP_TAXONOMY_IDS", "main-product-taxonomy").split(",")
MONTH = "{{ params.month or data_interval_start.strftime('%Y-%m') }}"
FIRST_DAY = "(macros.datetime.strptime(params.month, '%Y-%m') if params.month else data_interval_start).replace(day=1)"
MONTH_BEFORE = f"{{{{ ({FIRST_DAY} - macros.timedelta(days=1)).strftime('%Y-%m') }}}}"
USAGE = f"{LAKE}/isvapp/feature_usage"
LATE = {}
if DeadlineAlert is not None:
    # Counted from queuing, since a partitioned run has no logical date: from the 6th to the 10th.
    LATE["deadline"] = DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(days=4),
        callback=AsyncCallback(report_late_month),
    )

with DAG(
    dag_id="isvapp_monthly_sync",
    # A plain cron string has no data interval in Airflow 3; this timetable covers the month before, on 2.11 and 3.
    schedule=CronDataIntervalTimetable("0 6 6 * *", timezone="UTC"),
    start_date=pendulum.datetime(2024, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5), "retry_exponential_backoff": True},
    # The trigger form of a manual run has a field for each.
    params={
        "month": Param(
            None,
            type=["null", "string"],
            pattern=r"^\d{4}-(0[1-9]|1[0-2])$",
            title="Month",
            description="A complete month as YYYY-MM; empty means that of the run's data interval.",
        ),
        "taxonomy_ids": Param(
            TAXONOMY_IDS,
            type="array",
            items={"type": "string", "minLength": 1},
            minItems=1,
            title="Taxonomies",
            description="The ids of the taxonomies to export, one per line.",
        ),
        "accept": Param(
            False,
            type="boolean",
            title="Accept this month",
            description="Publish it even if its rows or operations differ by more than 30 % from the month before.",
        ),
    },
    is_paused_upon_creation=True,
    doc_md=__doc__,
    tags=["isvapp", "productiv"],
    **LATE,
):
    create = IsvappCreateExportOperator(
        task_id="create_export", timeframe=MONTH, taxonomy_ids="{{ params.taxonomy_ids | tojson }}"
    )
    wait = IsvappExportSensor(task_id="wait_for_export", export_id=create.output, deferrable=True)
    download = IsvappDownloadExportOperator(
        task_id="download_export",
        export_id=create.output,
        path=f"{USAGE}/month={MONTH}/usage.ndjson",
        expected_months=MONTH,
        checks=[MaxChange(rows=0.3, operations=0.3)],
        baseline=f"{USAGE}/month={MONTH_BEFORE}/usage.ndjson",
        skip_checks="{{ params.accept }}",
        rejected_path=f"{LAKE}/isvapp/rejected_feature_usage/month={MONTH}/usage.ndjson",
        outlets=[Asset("isvapp_feature_usage")],
    )
    wait >> download

    IsvappFetchSalesforceAccountsOperator(
        task_id="fetch_accounts",
        path=f"{LAKE}/isvapp/salesforce_accounts/snapshot_date={{snapshot_date}}/accounts.ndjson",
        include_health_scores=True,
    )
    ProductivFetchAppsOperator(
        task_id="fetch_apps",
        path=f"{LAKE}/productiv/apps/snapshot_date={{snapshot_date}}/apps.ndjson",
    )
