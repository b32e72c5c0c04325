# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_provider_isvapp.emulator import Emulator
from airflow_provider_isvapp.hooks.productiv import ProductivHook
from airflow_provider_isvapp.operators.productiv import ProductivFetchAppsOperator
from airflow_provider_isvapp.version_compat import AirflowException, AirflowFailException, Asset
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
    assert written == {
        "path": str(file),
        "rows": len(expected),
        "bytes": file.stat().st_size,
        "as_of_date": expected.as_of_date,
    }


def test_a_list_that_did_not_change_is_not_written_again(productiv: Emulator, tmp_path: Path) -> None:
    operator = ProductivFetchAppsOperator(task_id="apps", path=str(tmp_path / "apps"))
    first = operator.execute(task_context())
    before = (tmp_path / "apps").stat()

    again = operator.execute(task_context())

    assert again == first
    assert (tmp_path / "apps").stat().st_ino == before.st_ino
    assert [item.written for item in operator._published] == [False]


def test_fewer_apps_than_the_fewest_are_refused(productiv: Emulator, tmp_path: Path) -> None:
    (tmp_path / "apps").write_bytes(b"old\n")
    operator = ProductivFetchAppsOperator(task_id="apps", path=str(tmp_path / "apps"), min_rows=1_000_000)

    with pytest.raises(AirflowException, match="min_rows is 1000000") as caught:
        operator.execute(task_context())
    assert not isinstance(caught.value, AirflowFailException)
    assert (tmp_path / "apps").read_bytes() == b"old\n"


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


def test_a_wrong_path_is_refused_before_anything_is_asked(productiv: Emulator) -> None:
    with pytest.raises(AirflowFailException, match="is relative"):
        ProductivFetchAppsOperator(task_id="apps", path="apps.ndjson").execute(task_context())
    assert productiv.requests == []


def test_the_outlets_event_carries_the_date(productiv: Emulator, tmp_path: Path) -> None:
    asset = Asset(uri="s3://lake/apps")
    context = task_context()

    written = ProductivFetchAppsOperator(task_id="apps", path=str(tmp_path / "apps"), outlets=[asset]).execute(context)

    assert context["outlet_events"][asset].extra == written
    assert written["as_of_date"]
