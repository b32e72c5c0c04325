# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""
### Many months of ISVapp usage at once, with the accounts and the apps

One mapped task an export. The first one holds the latest twelve months and is larger than a part of a multipart upload;
the others hold one month each, the latest first, and begin again with another taxonomy when the months are used up.
"""

from __future__ import annotations

import os
from datetime import timedelta

import pendulum
from airflow.sdk import DAG, Param, task

from airflow_provider_isvapp.operators.isvapp import IsvappExportOperator, IsvappFetchSalesforceAccountsOperator
from airflow_provider_isvapp.operators.productiv import ProductivFetchAppsOperator

LAKE = os.environ["ISVAPP_LAKE"]
MONTHS = 120

with DAG(
    dag_id="isvapp_history",
    schedule=None,
    start_date=pendulum.datetime(2024, 1, 1, tz="UTC"),
    default_args={"retries": 3, "retry_delay": timedelta(seconds=10)},
    params={"exports": Param(100, type="integer", minimum=1)},
    doc_md=__doc__,
    tags=["isvapp", "productiv"],
):

    @task
    def orders(**context) -> list[dict[str, str | list[str]]]:
        """List the arguments of each mapped task."""
        # On the 6th the month before is complete.
        last = pendulum.now("UTC").subtract(days=5).start_of("month").subtract(months=1)
        found = [("LATEST_12_COMPLETED_MONTHS", "taxonomy-0", "latest_12_months")]
        for number in range(context["params"]["exports"] - 1):
            month = last.subtract(months=number % MONTHS).strftime("%Y-%m")
            found.append((month, f"taxonomy-{number // MONTHS}", f"month={month}"))
        return [
            {
                "timeframe": timeframe,
                "taxonomy_ids": [taxonomy],
                "path": f"{LAKE}/isvapp/feature_usage/{taxonomy}/{folder}/usage.ndjson",
            }
            for timeframe, taxonomy, folder in found
        ]

    IsvappExportOperator.partial(task_id="export", deferrable=True).expand_kwargs(orders())
    IsvappFetchSalesforceAccountsOperator(task_id="fetch_accounts", path=f"{LAKE}/isvapp/salesforce_accounts.ndjson")
    ProductivFetchAppsOperator(task_id="fetch_apps", path=f"{LAKE}/productiv/apps.ndjson")
