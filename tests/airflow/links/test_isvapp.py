# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The link to the exports page: when it is stored, and how Airflow reads it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.api.isvapp import export_state
from airflow_provider_isvapp.emulator import Emulator, Fault, ManualClock
from airflow_provider_isvapp.links.isvapp import export_url
from airflow_provider_isvapp.operators.isvapp import (
    IsvappCreateExportOperator,
    IsvappDownloadExportOperator,
    IsvappExportOperator,
    IsvappFetchSalesforceAccountsOperator,
)
from airflow_provider_isvapp.operators.productiv import ProductivFetchAppsOperator
from airflow_provider_isvapp.sensors.isvapp import IsvappExportSensor
from airflow_provider_isvapp.version_compat import AirflowException, shows_guarded_pages
from tests.support.task_context import TaskDeferred, TaskStateStore, task_context

KEY = "_link_IsvappExportLink"
PAGE = "ISVapp export"
OBJECT = "Written object"
REQUEST: dict[str, Any] = {"timeframe": "LATEST_COMPLETED_MONTH", "taxonomy_ids": ["taxonomy"]}

has_page = pytest.mark.skipif(not shows_guarded_pages(), reason="this Airflow cannot show the page")


def names(operator: type) -> list[str]:
    return [link.name for link in operator.operator_extra_links]  # type: ignore[attr-defined]


@has_page
def test_every_task_has_its_links() -> None:
    assert names(IsvappCreateExportOperator) == names(IsvappExportSensor) == [PAGE]
    assert names(IsvappDownloadExportOperator) == names(IsvappExportOperator) == [PAGE, OBJECT]
    assert names(IsvappFetchSalesforceAccountsOperator) == names(ProductivFetchAppsOperator) == [OBJECT]


@pytest.mark.parametrize(
    ("path", "has_link"),
    [
        ("s3://conn@bucket/key", True),
        ("gs://bucket/key", True),
        ("{{ params.lake }}/key", True),
        ("/lake/key", False),
        ("file:///lake/key", False),
        ("abfss://conn@container/key", False),
    ],
)
def test_a_storage_without_a_console_has_no_link(path: str, has_link: bool) -> None:
    operator = IsvappFetchSalesforceAccountsOperator(task_id="x", path=path)
    assert [link.name for link in operator.operator_extra_links] == ([OBJECT] if has_link else [])


@pytest.mark.skipif(shows_guarded_pages(), reason="this Airflow shows the page")
def test_there_is_no_link_without_the_page(isvapp: Emulator) -> None:
    assert names(IsvappCreateExportOperator) == names(IsvappExportSensor) == []
    assert names(IsvappDownloadExportOperator) == names(IsvappExportOperator) == [OBJECT]

    context = task_context()
    IsvappCreateExportOperator(task_id="create", **REQUEST).execute(context)
    assert context["ti"].xcoms == {}


def test_the_url_is_that_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    assert export_url("isvapp_default", "export-1") == (
        "/plugin/isvapp-exports?connection=isvapp_default&export=export-1"
    )
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://data.example.com/airflow/")
    assert export_url("a b&c", "x/y?z") == "/airflow/plugin/isvapp-exports?connection=a+b%26c&export=x%2Fy%3Fz"


@has_page
class TestEarly:
    """The link exists as soon as the export is known, even if the task fails later."""

    def link(self, context: Any) -> Any:
        return context["ti"].xcoms.get(KEY)

    def test_when_the_creation_is_done(self, isvapp: Emulator) -> None:
        context = task_context()

        export_id = IsvappCreateExportOperator(task_id="create", **REQUEST).execute(context)

        assert self.link(context) == export_url("isvapp_default", export_id)

    def test_when_the_whole_task_defers(self, isvapp: Emulator, tmp_path: Path) -> None:
        context = task_context()

        with pytest.raises(TaskDeferred):
            IsvappExportOperator(task_id="x", path=str(tmp_path / "x"), deferrable=True, **REQUEST).execute(context)

        assert self.link(context) == export_url("isvapp_default", *isvapp.exports)

    def test_while_the_whole_task_polls(
        self, isvapp: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        context = task_context()
        seen = []

        def open_the_link(_: float) -> None:
            seen.append(self.link(context))
            raise KeyboardInterrupt

        monkeypatch.setattr("airflow_provider_isvapp.operators.creation.time.sleep", open_the_link)
        with pytest.raises(KeyboardInterrupt):
            IsvappExportOperator(task_id="x", path=str(tmp_path / "x"), deferrable=False, **REQUEST).execute(context)

        assert seen == [export_url("isvapp_default", *isvapp.exports)]

    def test_when_a_retry_takes_the_export_over(self, isvapp: Emulator) -> None:
        # Airflow deletes a task's XComs before a retry.
        store = TaskStateStore()
        first = IsvappCreateExportOperator(task_id="create", **REQUEST).execute(task_context(store))
        context = task_context(store)

        assert IsvappCreateExportOperator(task_id="create", **REQUEST).execute(context) == first
        assert self.link(context) == export_url("isvapp_default", first)

    @pytest.fixture(autouse=True)
    def no_grace_for_new_exports(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(export_state, "NOT_FOUND_GRACE", timedelta(0))

    @pytest.mark.parametrize("deferrable", [True, False])
    def test_before_the_sensor_polls(self, isvapp: Emulator, deferrable: bool) -> None:
        isvapp.inject(Fault(endpoint="show_export", kind="status", status=404))
        context = task_context()

        with pytest.raises(AirflowException):
            IsvappExportSensor(task_id="wait", export_id="export-1", deferrable=deferrable).execute(context)

        assert self.link(context) == export_url("isvapp_default", "export-1")

    def test_when_a_download_fails(self, isvapp: Emulator, tmp_path: Path, clock: ManualClock) -> None:
        context = task_context()

        with pytest.raises(AirflowException):
            IsvappDownloadExportOperator(task_id="x", export_id="gone", path=str(tmp_path / "x")).execute(context)

        assert self.link(context) == export_url("isvapp_default", "gone")

    @pytest.mark.parametrize("export_id", ["", None])
    def test_not_without_an_export(self, isvapp: Emulator, tmp_path: Path, export_id: Any) -> None:
        context = task_context()

        with pytest.raises(AirflowException):
            IsvappDownloadExportOperator(task_id="x", export_id=export_id, path=str(tmp_path / "x")).execute(context)

        assert context["ti"].xcoms == {}


@has_page
def test_airflow_reads_the_key_that_the_task_writes() -> None:
    (link,) = IsvappExportSensor.operator_extra_links
    assert link.xcom_key == KEY
