# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""
### The ten most used features of a month

Runs whenever `isvapp_monthly_sync` has published a month, and reads the files in the asset's events. To report on
another file, trigger it by hand with `path`.
"""

from __future__ import annotations

import json
from collections import Counter

import pendulum

try:
    from airflow.sdk import DAG, Asset, ObjectStoragePath, Param, task
except ImportError:  # Airflow 2.11
    from airflow import DAG
    from airflow.datasets import Dataset as Asset
    from airflow.decorators import task
    from airflow.io.path import ObjectStoragePath
    from airflow.models.param import Param

with DAG(
    dag_id="isvapp_usage_report",
    schedule=[Asset("isvapp_feature_usage")],
    start_date=pendulum.datetime(2024, 1, 1, tz="UTC"),
    catchup=False,
    params={"path": Param(None, type=["null", "string"], description="an ndjson file of feature usage")},
    is_paused_upon_creation=True,
    doc_md=__doc__,
    tags=["isvapp"],
):

    @task
    def find_usage(**context) -> list[str]:
        """Return the given path, or else the distinct paths in the asset events."""
        if context["params"]["path"]:
            return [context["params"]["path"]]
        # Airflow 2.11 calls assets datasets.
        events = context.get("triggering_asset_events") or context.get("triggering_dataset_events")
        return list(dict.fromkeys(event.extra["path"] for of_one in events.values() for event in of_one))

    @task(multiple_outputs=False)  # one XCom: Airflow 3.0 cannot store one whose key is a path
    def top_features(paths: list[str]) -> dict[str, dict[str, int]]:
        """Add up the users of each feature over all customers, for each file and reading one row at a time."""
        tops = {}
        for path in paths:
            users: Counter[str] = Counter()
            usage = ObjectStoragePath(path)
            # Not usage.open(): what it returns on Airflow 2.11 cannot be read line by line.
            with usage.fs.open(usage.path, "rb") as lines:
                for row in map(json.loads, lines):
                    # ISVapp sends counters as strings of digits.
                    users[row["taxonomy_item_label"]] += int(row["unique_users"])
            tops[path] = dict(users.most_common(10))
        return tops

    top_features(find_usage())
