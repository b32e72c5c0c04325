# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The DAGs of the guide to partitions, unchanged, below ``CRASH_LAKE``; paused until their test.

A run of the first one is late after a second.
"""

from __future__ import annotations

import os

from airflow import __version__ as airflow_version

from tests.airflow.docs.pages import GUIDES, blocks_of

PAUSED = """catchup=False,
    is_paused_upon_creation=True,
    end_date=pendulum.datetime(2024, 12, 31, tz="UTC"),"""
DEADLINE = """
from datetime import timedelta
from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference
from airflow_provider_isvapp.metrics import report_late_month
LATE = DeadlineAlert(DeadlineReference.DAGRUN_QUEUED_AT, timedelta(seconds=1), AsyncCallback(report_late_month))
"""
CHANGES = {
    "file:///tmp/lake": f"file://{os.environ['CRASH_LAKE']}/partitions",
    "catchup=False,": PAUSED,
    'dag_id="monthly_usage",': 'dag_id="monthly_usage",\n    deadline=LATE,',
}

if not airflow_version.startswith("2."):
    for block in blocks_of(GUIDES / "partitions.md"):
        if block.language == "python":
            text = block.text
            for old, new in CHANGES.items():
                text = text.replace(old, new)
            exec(compile(DEADLINE + text, __file__, "exec", dont_inherit=True))
