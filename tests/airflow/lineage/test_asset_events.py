# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The asset events that a DAG scheduled on an asset or an alias gets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.emulator import Emulator, Fault, ManualClock
from airflow_provider_isvapp.operators.isvapp import IsvappExportOperator, IsvappFetchSalesforceAccountsOperator
from airflow_provider_isvapp.operators.productiv import ProductivFetchAppsOperator
from airflow_provider_isvapp.version_compat import AirflowFailException, Asset, AssetAlias
from tests.support.task_context import AirflowSkipException, alias_events, run_to_its_end, task_context

ALIAS = AssetAlias("usage")
ASSET = Asset("feature_usage")


@pytest.fixture
def export(
    isvapp: Emulator, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[dict[str, Any], Any]]:
    monkeypatch.setattr("airflow_provider_isvapp.triggers.isvapp.EARLIEST_EVENT", 0.0)
    monkeypatch.setattr("airflow_provider_isvapp.triggers.waiters.FIRST_INTERVAL", 0.02)

    def run(path: Path, *, run_id: str = "run", **arguments: Any) -> tuple[dict[str, Any], Any]:
        context = task_context()
        context["ti"].run_id = run_id
        made = {
            "timeframe": "LATEST_COMPLETED_MONTH",
            "taxonomy_ids": ["taxonomy"],
            "deferrable": True,
            "outlets": [ALIAS, ASSET],
            "path": str(path),
            **arguments,
        }
        written = run_to_its_end(
            lambda: IsvappExportOperator(task_id="export", **made), context, deferred=lambda _: clock.advance(61)
        )
        return written, context

    return run


Export = Callable[..., tuple[dict[str, Any], Any]]


def test_an_alias_gets_only_the_months_that_changed(
    export: Export, isvapp: Emulator, tmp_path: Path, logs: Callable[[], str]
) -> None:
    options = {
        "path": tmp_path / "{reference_date}",
        "timeframe": "LATEST_12_COMPLETED_MONTHS",
        "partition_by": "reference_date",
        "if_changed": "publish",
    }
    first, context = export(**options, run_id="may")
    assert len(alias_events(context, ALIAS)) == len(first["objects"]) == 12

    with pytest.raises(AirflowSkipException, match=r"No month at .* has changed"):
        export(**options, run_id="june")

    march = list(first["months"])[-1]
    isvapp.inject(
        Fault(endpoint="create_export", kind="month_restated", month=march, restatement="rows_lost", times=None)
    )
    written, context = export(**options, run_id="july")
    lost, events = written["changes"][march], alias_events(context, ALIAS)
    assert (lost["status"], lost["differences"]["rows"]) == ("restated", -100)
    assert [change["status"] for change in written["changes"].values()] == ["unchanged"] * 11 + ["restated"]
    assert list(events) == [f"file://{tmp_path}/{march}"]
    assert events[f"file://{tmp_path}/{march}"]["changes"] == {march: lost}
    assert [item["reference_date"] for item in written["objects"]] == [march]
    assert context["outlet_events"][ASSET].extra == written
    log_text = logs()
    assert "Compared with the stored months: 11 unchanged, 1 restated" in log_text
    assert f"{march} is restated (-100 rows" in log_text
    assert f"1 of 12 months: {march}" in log_text

    # A try that died after its last manifest has announced nothing.
    again, context = export(**options, run_id="july", partition_events=True)
    assert partition_keys(context, ASSET) == (
        {march} if hasattr(context["outlet_events"][ASSET], "add_partitions") else set()
    )
    assert again["outcome"] == "unchanged"
    assert again["changes"] == written["changes"]
    assert list(alias_events(context, ALIAS)) == list(events)
    with pytest.raises(AirflowSkipException):
        export(**options, run_id="august")

    isvapp.inject(Fault(endpoint="create_export", kind="month_missing", month=march))
    with pytest.raises(AirflowSkipException):
        export(**options, run_id="september")
    assert f"{march} is stored, and the export has no rows for it: it stays as it is." in logs()


def test_an_alias_gets_the_object_that_was_written(export: Export, tmp_path: Path) -> None:
    written, context = export(tmp_path / "usage")

    assert alias_events(context, ALIAS) == {f"file://{tmp_path}/usage": written}
    assert context["outlet_events"][ASSET].extra == written
    assert written["rows"] == 200
    assert json.loads(json.dumps(written)) == written


def test_an_alias_gets_an_asset_for_each_month(export: Export, tmp_path: Path) -> None:
    written, context = export(
        tmp_path / "{reference_date}" / "usage.gz",
        timeframe="LATEST_12_COMPLETED_MONTHS",
        partition_by="reference_date",
        compression="gzip",
    )

    events = alias_events(context, ALIAS)
    assert len(events) == 12
    for month, rows in written["months"].items():
        file = tmp_path / month / "usage.gz"
        event = events[f"file://{file}"]
        assert event["path"] == str(file)
        assert (event["rows"], event["bytes"]) == (rows, file.stat().st_size)
        assert (event["reference_date"], event["months"]) == (month, {month: rows})
        assert event["export_id"] == written["export_id"]
    assert context["outlet_events"][ASSET].extra == written


def test_the_event_of_a_month_equals_that_of_an_export_of_this_month(export: Export, tmp_path: Path) -> None:
    _, divided = export(tmp_path / "{reference_date}" / "usage", partition_by="reference_date")
    _, single = export(tmp_path / "single")

    (of_month,) = alias_events(divided, ALIAS).values()
    (of_export,) = alias_events(single, ALIAS).values()
    assert set(of_month) - {"reference_date"} <= set(of_export)
    for same in ("rows", "bytes", "crc32", "months", "outcome"):
        assert of_month[same] == of_export[same]


def test_an_object_of_an_earlier_attempt_gets_an_event_again(export: Export, isvapp: Emulator, tmp_path: Path) -> None:
    """A crash between the publication and the end of the task has sent no event."""
    from airflow_provider_isvapp.operators.isvapp import IsvappDownloadExportOperator

    written, _ = export(tmp_path / "usage")
    context = task_context()
    again = IsvappDownloadExportOperator(
        task_id="again", export_id=written["export_id"], path=str(tmp_path / "usage"), outlets=[ALIAS]
    ).execute(context)

    assert again["outcome"] == "unchanged"
    assert alias_events(context, ALIAS) == {f"file://{tmp_path}/usage": again}


def test_an_object_left_in_place_gets_no_event_on_an_alias(export: Export, tmp_path: Path) -> None:
    (tmp_path / "usage").write_bytes(b"something else\n")

    written, context = export(tmp_path / "usage", if_exists="skip")

    assert written["outcome"] == "skipped"
    assert alias_events(context, ALIAS) == {}
    assert context["outlet_events"][ASSET].extra["outcome"] == "skipped"


def partition_keys(context: Any, asset: Any) -> set[str]:
    return set(getattr(context["outlet_events"][asset], "partition_keys", ()))


@pytest.mark.parametrize("divided", [True, False])
def test_each_month_is_a_partition_where_airflow_can(
    export: Export, tmp_path: Path, divided: bool, caplog: pytest.LogCaptureFixture
) -> None:
    name = "{reference_date}" if divided else "usage"
    arguments = {"partition_by": "reference_date"} if divided else {}
    timeframe = "LATEST_12_COMPLETED_MONTHS"
    written, context = export(tmp_path / name, timeframe=timeframe, partition_events=True, **arguments)
    _, repeated = export(tmp_path / name, timeframe=timeframe, partition_events=True, **arguments)

    assert len(written["months"]) == 12
    paths = {month: str(tmp_path / name.replace("{reference_date}", month)) for month in written["months"]}
    if not hasattr(context["outlet_events"][ASSET], "add_partitions"):
        assert context["outlet_events"][ASSET].extra == written
        assert "partition_events=True has no effect before Airflow 3.3" in caplog.text
        return
    assert context["outlet_events"][ASSET].extra == written | {"paths": paths}
    assert partition_keys(context, ASSET) == partition_keys(repeated, ASSET) == set(paths)
    assert len(alias_events(context, ALIAS)) == (12 if divided else 1)


def test_no_event_has_a_partition_unless_it_is_wanted(export: Export, tmp_path: Path) -> None:
    written, context = export(tmp_path / "{reference_date}", partition_by="reference_date")

    assert partition_keys(context, ASSET) == set()
    assert context["outlet_events"][ASSET].extra == written


def test_an_existing_month_that_stays_sends_no_partition_event(export: Export, tmp_path: Path) -> None:
    (tmp_path / "usage").write_bytes(b"something else\n")

    _, context = export(tmp_path / "usage", if_exists="skip", partition_events=True)

    assert partition_keys(context, ASSET) == set()


@pytest.mark.parametrize("outlets", [[], [ALIAS]])
def test_partitions_without_an_asset_are_refused_before_anything_is_requested(
    export: Export, isvapp: Emulator, tmp_path: Path, outlets: list[Any]
) -> None:
    from airflow_provider_isvapp.operators.isvapp import IsvappDownloadExportOperator

    with pytest.raises(AirflowFailException, match="partition_events=True needs an Asset among the task's outlets"):
        export(tmp_path / "usage", partition_events=True, outlets=outlets)
    download = IsvappDownloadExportOperator(
        task_id="download", export_id="any", path=str(tmp_path / "usage"), partition_events=True, outlets=outlets
    )
    with pytest.raises(AirflowFailException, match="partition_events=True needs an Asset among the task's outlets"):
        download.execute(task_context())
    assert isvapp.requests == []


def test_accounts(isvapp: Emulator, tmp_path: Path) -> None:
    context = task_context()

    written = IsvappFetchSalesforceAccountsOperator(
        task_id="accounts", path=str(tmp_path / "accounts"), outlets=[ALIAS, ASSET]
    ).execute(context)

    assert alias_events(context, ALIAS) == {f"file://{tmp_path}/accounts": written}
    assert context["outlet_events"][ASSET].extra == written


def test_apps_with_their_date(productiv: Emulator, tmp_path: Path) -> None:
    context = task_context()

    written = ProductivFetchAppsOperator(task_id="apps", path=str(tmp_path / "apps"), outlets=[ALIAS, ASSET]).execute(
        context
    )

    assert alias_events(context, ALIAS) == {f"file://{tmp_path}/apps": written}
    assert context["outlet_events"][ASSET].extra["snapshot_date"] == written["snapshot_date"]
