# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The lineage of a task at its start, at its end and when it fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.emulator import Emulator, Fault
from airflow_provider_isvapp.operators.isvapp import (
    IsvappDownloadExportOperator,
    IsvappFetchSalesforceAccountsOperator,
)
from airflow_provider_isvapp.operators.productiv import ProductivFetchAppsOperator
from airflow_provider_isvapp.version_compat import AirflowException, AssetAlias
from tests.support.airflow_connections import SetConnection
from tests.support.task_context import task_context


def inputs(lineage: Any) -> list[tuple[str, str]]:
    return [(item.namespace, item.name) for item in lineage.inputs]


def outputs(lineage: Any) -> list[str]:
    return [item.name for item in lineage.outputs]


def test_at_the_start_there_is_no_output(isvapp: Emulator, ready: str, tmp_path: Path) -> None:
    operator = IsvappDownloadExportOperator(task_id="x", export_id=ready, path=str(tmp_path / "usage"))

    start = operator.get_openlineage_facets_on_start()
    operator.execute(task_context())
    complete = operator.get_openlineage_facets_on_complete(None)

    assert inputs(start) == inputs(complete) == [(isvapp.url, "exports/feature_usage")]
    assert outputs(start) == []
    assert outputs(complete) == [str(tmp_path / "usage")]
    assert complete.run_facets["externalQuery"].externalQueryId == ready


def test_a_failed_task_has_no_output(
    isvapp: Emulator, ready: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_isvapp.transfer.resume._FIRST_WAIT", 0.0)
    isvapp.inject(Fault(endpoint="download", kind="flip", at=-8, times=None))
    operator = IsvappDownloadExportOperator(task_id="x", export_id=ready, path=str(tmp_path / "usage"))

    with pytest.raises(AirflowException, match="damaged"):
        operator.execute(task_context())

    failure = operator.get_openlineage_facets_on_failure(None)
    # Without inputs and outputs, the provider would report the task's outlets.
    assert inputs(failure) == [(isvapp.url, "exports/feature_usage")]
    assert outputs(failure) == []
    assert failure.run_facets["externalQuery"].externalQueryId == ready


def test_a_task_that_fails_after_the_publication_has_its_output(isvapp: Emulator, ready: str, tmp_path: Path) -> None:
    class NoEvents:
        def __getitem__(self, _: object) -> Any:
            raise RuntimeError("no events today")

    operator = IsvappDownloadExportOperator(
        task_id="x", export_id=ready, path=str(tmp_path / "usage"), outlets=[AssetAlias("usage")]
    )

    with pytest.raises(RuntimeError, match="no events today"):
        operator.execute(task_context() | {"outlet_events": NoEvents()})

    assert (tmp_path / "usage").exists()
    assert outputs(operator.get_openlineage_facets_on_failure(None)) == [str(tmp_path / "usage")]


def test_an_object_that_was_there_is_an_output_without_statistics(isvapp: Emulator, ready: str, tmp_path: Path) -> None:
    def lineage() -> Any:
        operator = IsvappDownloadExportOperator(task_id="x", export_id=ready, path=str(tmp_path / "usage"))
        operator.execute(task_context())
        return operator.get_openlineage_facets_on_complete(None)

    (written,), (found,) = lineage().outputs, lineage().outputs
    assert written.name == found.name
    assert (written.outputFacets["outputStatistics"].rowCount, found.outputFacets) == (200, {})


def test_an_existing_object_that_stays_is_not_an_output(isvapp: Emulator, ready: str, tmp_path: Path) -> None:
    (tmp_path / "usage").write_bytes(b"something else")
    operator = IsvappDownloadExportOperator(
        task_id="x", export_id=ready, path=str(tmp_path / "usage"), if_exists="skip"
    )

    operator.execute(task_context())

    assert outputs(operator.get_openlineage_facets_on_complete(None)) == []


class TestOrigin:
    """The namespace of an input is the vendor's origin, from the connection."""

    @pytest.mark.parametrize(
        ("host", "namespace"),
        [
            (None, "https://api.isvapp.com"),
            ("https://API.example.com:443/some/path", "https://api.example.com"),
            ("http://proxy.example.com:8080", "http://proxy.example.com:8080"),
        ],
    )
    def test_of_a_connection(self, set_connection: SetConnection, host: str | None, namespace: str) -> None:
        set_connection("isvapp_default", conn_type="isvapp", host=host, login="client", password="secret")
        operator = IsvappFetchSalesforceAccountsOperator(task_id="x", path="/lake/accounts")

        assert inputs(operator.get_openlineage_facets_on_start()) == [(namespace, "salesforce_accounts")]

    def test_without_a_connection_it_is_the_vendors(self) -> None:
        accounts = IsvappFetchSalesforceAccountsOperator(task_id="x", path="/lake/x", isvapp_conn_id="missing")
        apps = ProductivFetchAppsOperator(task_id="y", path="/lake/y", productiv_conn_id="missing")

        assert inputs(accounts.get_openlineage_facets_on_start()) == [("https://api.isvapp.com", "salesforce_accounts")]
        assert inputs(apps.get_openlineage_facets_on_start()) == [("https://public-api.productiv.com", "apps")]
