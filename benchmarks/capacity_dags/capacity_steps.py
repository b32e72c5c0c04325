# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Tasks that do what those of an export do, without the requests: for ``benchmarks/capacity_calibrate.py``."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG, BaseOperator

from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.operators.destination_path import destination_of
from airflow_provider_isvapp.triggers.moment import MomentTrigger

STARTS = 40
DEFERRED_SECONDS = 10.0
FIRST_DAY = pendulum.datetime(2024, 1, 1, tz="UTC")
# On a machine that has much else to do, Airflow itself may lose a task.
RETRIES = {"retries": 2, "retry_delay": timedelta(seconds=1)}


class Start(BaseOperator):
    """Get ready to send and to write; every other one writes, as the second of an export's two processes does."""

    def __init__(self, *, number: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.number = number

    def execute(self, context: Any) -> None:
        from airflow_provider_isvapp.transfer.lines import write_lines  # as the operators: only when it runs

        destination = destination_of(f"{os.environ['ISVAPP_LAKE']}/capacity/{self.number}.ndjson")
        with IsvappHook() as hook:
            hook.get_client()
            if self.number % 2:
                write_lines([b"{}"] * 1000, destination)


class Defer(Start):
    """The same twice, with a deferral between."""

    def execute(self, context: Any) -> None:
        super().execute(context)
        self.defer(trigger=MomentTrigger(moment=time.time() + DEFERRED_SECONDS), method_name="resume")

    def resume(self, context: Any, event: Any = None) -> None:
        super().execute(context)


with DAG(dag_id="capacity_starts", schedule=None, start_date=FIRST_DAY, default_args=RETRIES):
    Start.partial(task_id="start").expand(number=list(range(STARTS)))

with DAG(dag_id="capacity_hops", schedule=None, start_date=FIRST_DAY, default_args=RETRIES):
    Defer(task_id="defer")
