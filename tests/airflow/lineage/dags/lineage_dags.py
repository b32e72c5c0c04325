# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""DAGs for the tests of lineage. Each task writes below ``LINEAGE_LAKE``."""

from __future__ import annotations

import os

import pendulum
from airflow import DAG

from airflow_provider_isvapp.operators.isvapp import (
    IsvappExportOperator,
    IsvappFetchSalesforceAccountsOperator,
)
from airflow_provider_isvapp.operators.productiv import ProductivFetchAppsOperator
from airflow_provider_isvapp.version_compat import Asset, AssetAlias, BaseOperator, Context

LAKE = f"file://{os.environ['LINEAGE_LAKE']}"
DEFAULTS = {"schedule": None, "start_date": pendulum.datetime(2024, 1, 1, tz="UTC"), "catchup": False}

with DAG("written", **DEFAULTS):
    divided = IsvappExportOperator(
        task_id="export",
        timeframe="LATEST_12_COMPLETED_MONTHS",
        taxonomy_ids=["taxonomy"],
        path=f"{LAKE}/usage/{{reference_date}}.ndjson",
        partition_by="reference_date",
        deferrable=True,
        poll_interval=2,
        outlets=[AssetAlias("usage_by_month"), Asset("usage")],
    )
    accounts = IsvappFetchSalesforceAccountsOperator(
        task_id="accounts", path=f"{LAKE}/accounts.ndjson", include_health_scores=True
    )
    divided >> accounts >> ProductivFetchAppsOperator(task_id="apps", path=f"{LAKE}/apps.ndjson")

with DAG("twelve_months", **DEFAULTS):
    IsvappExportOperator(
        task_id="export",
        timeframe="LATEST_12_COMPLETED_MONTHS",
        taxonomy_ids=["taxonomy"],
        path=f"{LAKE}/true/{{reference_date}}.ndjson",
        partition_by="reference_date",
        if_changed="publish",
        deferrable=False,
        poll_interval=2,
        outlets=[AssetAlias("changed_months")],
    )

with DAG("changed", **(DEFAULTS | {"schedule": [AssetAlias("changed_months")]})):

    class Compute(BaseOperator):
        """The reaction to a month that changed."""

        def execute(self, context: Context) -> None:
            pass

    Compute(task_id="compute")

with DAG("failed", **DEFAULTS):
    IsvappExportOperator.partial(
        task_id="export", timeframe="LATEST_COMPLETED_MONTH", deferrable=False, outlets=[Asset("never_written")]
    ).expand_kwargs([{"taxonomy_ids": ["taxonomy"], "path": f"{LAKE}/never.ndjson"}])
