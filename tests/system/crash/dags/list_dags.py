# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Lists in runs of the past, which catch-up starts when the DAG is unpaused."""

from __future__ import annotations

import os
from datetime import timedelta

import pendulum
from airflow import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_isvapp.operators.isvapp import IsvappFetchSalesforceAccountsOperator
from airflow_provider_isvapp.operators.productiv import ProductivFetchAppsOperator

LAKE = f"file://{os.environ['CRASH_LAKE']}"
MONTH = "{{ data_interval_start.strftime('%Y-%m') }}"

with DAG(
    dag_id="late_lists",
    schedule=CronDataIntervalTimetable("0 6 6 * *", timezone="UTC"),
    start_date=pendulum.datetime(2024, 2, 1, tz="UTC"),
    end_date=pendulum.datetime(2024, 3, 31, tz="UTC"),
    catchup=True,
    is_paused_upon_creation=True,
    default_args={"retries": 2, "retry_delay": timedelta(hours=1)},
):
    for name, operator in (
        ("accounts", IsvappFetchSalesforceAccountsOperator),
        ("apps", ProductivFetchAppsOperator),
    ):
        operator(task_id=f"{name}_by_month", path=f"{LAKE}/{name}/month={MONTH}")
        operator(task_id=f"{name}_by_date", path=f"{LAKE}/{name}/{{snapshot_date}}")
