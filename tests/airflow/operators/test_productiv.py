# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_provider_isvapp.emulator import Emulator, Fault
from airflow_provider_isvapp.hooks.productiv import ProductivHook
from airflow_provider_isvapp.operators.productiv import ProductivFetchAppsOperator
from airflow_provider_isvapp.version_compat import AirflowFailException
from tests.support.task_context import task_context


@pytest.mark.parametrize(("inactive", "verbose"), [(False, False), (True, False), (False, True)])
def test_writes_the_apps_as_sent_and_keeps_their_date(
    productiv: Emulator, tmp_path: Path, inactive: bool, verbose: bool
) -> None:
    file = tmp_path / "apps.ndjson"
    operator = ProductivFetchAppsOperator(task_id="apps", path=str(file), include_inactive=inactive, verbose=verbose)

    written = operator.execute(task_context())

    with ProductivHook() as hook:
        expected = hook.list_apps(include_inactive=inactive, verbose=verbose)
    assert [json.loads(line) for line in file.read_bytes().splitlines()] == list(expected)
    assert (written["rows"], written["bytes"]) == (len(expected), file.stat().st_size)
    assert written["snapshot_date"] == expected.as_of_date


@pytest.mark.parametrize("as_of_date", ["2026-3-1", "2026-02-30", "2026-03-01T00:00:00Z", "yesterday/../x"])
def test_a_date_that_is_none_publishes_nothing(productiv: Emulator, tmp_path: Path, as_of_date: str) -> None:
    productiv.inject(Fault(endpoint="productiv_apps", kind="edit", replace={"AsOfDate": as_of_date}))
    operator = ProductivFetchAppsOperator(task_id="apps", path=str(tmp_path / "{snapshot_date}"))

    with pytest.raises(AirflowFailException, match=r"'AsOfDate' .* which is not a date \(YYYY-MM-DD\)"):
        operator.execute(task_context())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("api_version", "path"), [(None, "/pull/v1/apps"), ("v3", "/pull/v3/apps")])
def test_the_version_is_the_connections_or_the_tasks(
    productiv: Emulator, tmp_path: Path, api_version: str | None, path: str
) -> None:
    ProductivFetchAppsOperator(task_id="apps", path=str(tmp_path / "apps"), api_version=api_version).execute(
        task_context()
    )

    assert [record.path for record in productiv.requests if record.endpoint == "productiv_apps"] == [path]


def test_an_unknown_version_is_named_and_nothing_is_sent(productiv: Emulator, tmp_path: Path) -> None:
    operator = ProductivFetchAppsOperator(task_id="apps", path=str(tmp_path / "apps"), api_version="v9")

    with pytest.raises(AirflowFailException, match="api_version: must be one of v1, v2, v3, not 'v9'"):
        operator.execute(task_context())
    assert productiv.requests == []


def test_a_wrong_path_is_refused_before_any_request(productiv: Emulator) -> None:
    with pytest.raises(AirflowFailException, match="is relative"):
        ProductivFetchAppsOperator(task_id="apps", path="apps.ndjson").execute(task_context())
    assert productiv.requests == []
