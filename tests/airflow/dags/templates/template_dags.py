# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Two DAGs that get their ids from templates: rendered natively and mapped, and rendered to text."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow import DAG

from airflow_provider_isvapp.checks import MaxChange
from airflow_provider_isvapp.operators.isvapp import (
    IsvappCreateExportOperator,
    IsvappDownloadExportOperator,
    IsvappExportOperator,
)
from airflow_provider_isvapp.sensors.isvapp import IsvappExportSensor

LAKE = os.environ["ISVAPP_LAKE"]
IDS = ["t-1", "t-2"]
CHECKS = [MaxChange(), lambda candidate: None]
ARGUMENTS = {"schedule": None, "start_date": datetime(2024, 1, 1, tzinfo=UTC), "params": {"ids": IDS}}

with DAG("native_templates", render_template_as_native_obj=True, **ARGUMENTS):
    create = IsvappCreateExportOperator.partial(
        task_id="create", taxonomy_ids="{{ params.ids }}", extra_request={"note": "{{ params.ids | length }}"}
    ).expand(timeframe=["2024-01", "2024-02"])
    wait = IsvappExportSensor.partial(task_id="wait", poke_interval=0.2).expand(export_id=create.output)
    download = IsvappDownloadExportOperator.partial(
        task_id="download", path=LAKE + "/native-{{ ti.map_index }}.ndjson", checks=CHECKS
    ).expand(export_id=create.output)
    wait >> download

with DAG("text_templates", **ARGUMENTS):
    IsvappExportOperator(
        task_id="export",
        timeframe="2024-02",
        taxonomy_ids="{{ params.ids | tojson }}",
        path=LAKE + "/{{ ds }}.ndjson",
        checks=CHECKS,
        deferrable=False,
        poll_interval=0.2,
    )
