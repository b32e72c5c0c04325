# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The documented fields are those of the rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_provider_isvapp.api.schema.fields import lineage_fields
from airflow_provider_isvapp.api.schema.isvapp import TaxonomyItemRow, salesforce_account
from airflow_provider_isvapp.api.schema.productiv import AppDetails, AppSummary
from airflow_provider_isvapp.emulator import Emulator
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.hooks.productiv import ProductivHook
from airflow_provider_isvapp.operators.isvapp import IsvappDownloadExportOperator
from tests.support.task_context import task_context

JSON_TYPES = {str: "string", bool: "boolean", list: "array", dict: "object", int: "number", float: "number"}


def types_in(rows: list[dict[str, object]]) -> dict[str, str]:
    return {name: JSON_TYPES[type(value)] for row in rows for name, value in row.items() if value is not None}


def test_of_usage(isvapp: Emulator, ready: str) -> None:
    rows = [json.loads(line) for line in isvapp.export_bytes(ready).splitlines()]

    assert types_in(rows) == dict(lineage_fields(TaxonomyItemRow))


def test_of_usage_as_parquet(isvapp: Emulator, ready: str, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed here")
    file = tmp_path / "usage.parquet"
    IsvappDownloadExportOperator(task_id="download", export_id=ready, path=str(file), output_format="parquet").execute(
        task_context()
    )

    types = {"string": "string", "int64": "int64", "date32[day]": "date"}
    assert [(column.name, types[str(column.type)]) for column in pq.read_schema(file)] == list(
        lineage_fields(TaxonomyItemRow, "parquet")
    )


@pytest.mark.parametrize(("health_scores", "subscriber_orgs"), [(False, False), (True, False), (False, True)])
def test_of_accounts(isvapp: Emulator, health_scores: bool, subscriber_orgs: bool) -> None:
    with IsvappHook() as hook:
        rows = hook.list_salesforce_accounts(
            include_health_scores=health_scores, include_subscriber_orgs=subscriber_orgs
        )

    assert types_in(rows) == dict(
        lineage_fields(salesforce_account(health_scores=health_scores, subscriber_orgs=subscriber_orgs))
    )


@pytest.mark.parametrize("verbose", [False, True])
def test_of_apps(productiv: Emulator, verbose: bool) -> None:
    with ProductivHook() as hook:
        rows = list(hook.list_apps(include_inactive=True, verbose=verbose))

    assert types_in(rows) == dict(lineage_fields(AppDetails if verbose else AppSummary))
