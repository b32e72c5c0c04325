# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""
### The ten most used features of a month

Runs whenever `isvapp_monthly_sync` has published a month, and reads the file that it announces. To report on another
file, trigger it by hand with `path`.
"""

from __future__ import annotations

import json
from collections import Counter

import pendulum
from airflow.providers.common.compat.sdk import DAG, Asset, ObjectStoragePath, Param, task

with DAG(
    dag_id="isvapp_usage_report",
    schedule=[Asset("isvapp_feature_usage")],
    start_date=pendulum.datetime(2024, 1, 1, tz="UTC"),
    catchup=False,
    params={"path": Param(None, type=["null", "string"], description="an ndjson file of feature usage")},
    doc_md=__doc__,
    tags=["isvapp"],
):

    @task
    def find_usage(**context) -> str:
        """Return the path that was given, else the one that the asset event carries."""
        if context["params"]["path"]:
            return context["params"]["path"]
        # Airflow 2.11 calls assets datasets.
        events = context.get("triggering_asset_events") or context.get("triggering_dataset_events")
        newest = [event for asset_events in events.values() for event in asset_events][-1]
        return newest.extra["path"]

    @task
    def top_features(path: str) -> dict[str, int]:
        """Add up the users of each feature over all customers, reading one row at a time."""
        users: Counter[str] = Counter()
        usage = ObjectStoragePath(path)
        # Not usage.open(): what it returns on Airflow 2.11 cannot be read line by line.
        with usage.fs.open(usage.path, "rb") as lines:
            for row in map(json.loads, lines):
                # ISVapp sends counters as strings of digits.
                users[row["taxonomy_item_label"]] += int(row["unique_users"])
        return dict(users.most_common(10))

    top_features(find_usage())
