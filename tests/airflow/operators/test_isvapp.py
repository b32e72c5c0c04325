# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp import errors
from airflow_provider_isvapp.api.isvapp import export_state
from airflow_provider_isvapp.emulator import Emulator, Fault, ManualClock
from airflow_provider_isvapp.hooks import isvapp as isvapp_hook
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.operators.isvapp import (
    IsvappCreateExportOperator,
    IsvappDownloadExportOperator,
    IsvappFetchSalesforceAccountsOperator,
)
from airflow_provider_isvapp.version_compat import AirflowException, AirflowFailException, Asset, ObjectStoragePath
from tests.support.task_context import task_context

OLD_CONTENT = b'{"what was": "here before"}\n'


class TestCreate:
    def test_the_result_is_the_exports_id(self, isvapp: Emulator, logs: Callable[[], str]) -> None:
        operator = IsvappCreateExportOperator(
            task_id="create",
            timeframe="LATEST_COMPLETED_MONTH",
            taxonomy_level_ids=["level-1", "level-2"],
            salesforce_account_ids=["0014x000FVCAPXF", "0014x000FVCAPXFAY5"],
        )

        export_id = operator.execute(task_context())

        assert list(isvapp.exports) == [export_id]
        log_text = logs()
        assert (
            "Requesting an export (TAXONOMY_ITEM, MONTHLY) of the latest completed month: all items of 2 taxonomy "
            "levels (level-1, level-2); only 2 accounts (0014x000FVCAPXF, 0014x000FVCAPXFAY5)" in log_text
        )
        assert f"Export {export_id} is created and PENDING" in log_text

    def test_an_author_can_template_what_changes_by_run(self) -> None:
        assert set(IsvappCreateExportOperator.template_fields) == {
            "timeframe",
            "taxonomy_ids",
            "taxonomy_level_ids",
            "taxonomy_item_ids",
            "salesforce_account_ids",
            "extra_request",
            "isvapp_conn_id",
        }

    def test_the_constructor_takes_templates_without_reading_them(self) -> None:
        operator = IsvappCreateExportOperator(
            task_id="create", timeframe="{{ ds_nodash }}", taxonomy_ids="{{ params.taxonomies }}"
        )

        assert operator.timeframe == "{{ ds_nodash }}"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"timeframe": "2024-2"}, "timeframe: '2024-2' is neither a month"),
            ({"timeframe": ""}, "timeframe: '' is neither a month"),
            ({"taxonomy_ids": "c9d7ddb"}, "taxonomy_ids: must be a list of ids, not str 'c9d7ddb'"),
            ({"taxonomy_ids": None}, "Exactly one of .* is needed; none was given"),
            ({"taxonomy_item_ids": ["item"]}, "taxonomy_ids and taxonomy_item_ids were given"),
            ({"taxonomy_ids": [""]}, "taxonomy_ids: element 0 must be a non-empty string"),
            ({"salesforce_account_ids": ["0014x000FVCAPXFA"]}, "15 or 18 letters and digits"),
        ],
    )
    def test_a_wrong_argument_is_named_and_nothing_is_sent(
        self, isvapp: Emulator, arguments: dict[str, Any], message: str
    ) -> None:
        operator = IsvappCreateExportOperator(
            **{"task_id": "create", "timeframe": "2024-02", "taxonomy_ids": ["taxonomy"], **arguments}
        )

        with pytest.raises(AirflowFailException, match=message):
            operator.execute(task_context())
        assert isvapp.requests == []

    def test_an_incomplete_month_is_refused_with_the_vendors_message(self, isvapp: Emulator) -> None:
        isvapp.inject(Fault(endpoint="create_export", kind="month_incomplete"))
        operator = IsvappCreateExportOperator(task_id="create", timeframe="2024-02", taxonomy_ids=["taxonomy"])

        with pytest.raises(AirflowFailException, match="2024-02"):
            operator.execute(task_context())
        assert isvapp.exports == {}

    def test_a_request_without_a_response_is_not_sent_again(self, isvapp: Emulator) -> None:
        isvapp.inject(Fault(endpoint="create_export", kind="reset"))
        operator = IsvappCreateExportOperator(
            task_id="create", timeframe="LATEST_COMPLETED_MONTH", taxonomy_ids=["taxonomy"]
        )

        with pytest.raises(AirflowException, match="may have been carried out") as caught:
            operator.execute(task_context())
        assert isinstance(caught.value.__context__, errors.OutcomeUnknown)
        assert not isinstance(caught.value, AirflowFailException)
        assert isvapp.request_counts()["create_export"] == 1


class TestDownload:
    def test_writes_the_rows_as_sent_and_returns_the_result(
        self, isvapp: Emulator, ready: str, tmp_path: Path, logs: Callable[[], str]
    ) -> None:
        path = tmp_path / "month=2024-02" / "usage.ndjson"
        operator = IsvappDownloadExportOperator(task_id="download", export_id=ready, path=f"file://{path}")

        written = operator.execute(task_context())

        expected = isvapp.export_bytes(ready)
        assert path.read_bytes() == expected
        record = isvapp.exports[ready]
        assert written["path"] == f"file://{path}"
        assert written["export_id"] == ready
        assert written["rows"] == expected.count(b"\n") == 200
        assert written["bytes"] == len(expected)
        assert written["compressed_bytes"] == record["download_size_compressed_bytes"]
        assert sum(written["months"].values()) == 200
        assert json.loads(json.dumps(written)) == written
        assert f"Downloading export {ready} to file://{path}" in logs()
        assert f"Wrote file://{path}: 200 rows" in logs()

    @pytest.mark.parametrize("as_object", [False, True])
    def test_takes_a_plain_path_and_an_object_storage_path(
        self, isvapp: Emulator, ready: str, tmp_path: Path, as_object: bool
    ) -> None:
        file = tmp_path / "usage.ndjson"
        path = ObjectStoragePath(f"file://{file}") if as_object else str(file)

        IsvappDownloadExportOperator(task_id="download", export_id=ready, path=path).execute(task_context())

        assert file.read_bytes() == isvapp.export_bytes(ready)

    def test_a_wrong_path_is_refused_before_any_request(self, isvapp: Emulator) -> None:
        operator = IsvappDownloadExportOperator(task_id="download", export_id="export-1", path="/lake/usage/")

        with pytest.raises(AirflowFailException, match="names a folder"):
            operator.execute(task_context())
        assert isvapp.requests == []

    @pytest.mark.parametrize("export_id", ["", None])
    def test_an_export_id_that_is_none_is_named(self, isvapp: Emulator, tmp_path: Path, export_id: Any) -> None:
        operator = IsvappDownloadExportOperator(task_id="download", export_id=export_id, path=str(tmp_path / "usage"))

        with pytest.raises(AirflowFailException, match="export_id: must be "):
            operator.execute(task_context())

    def test_a_pending_export_cannot_be_downloaded(self, isvapp: Emulator, tmp_path: Path) -> None:
        with IsvappHook() as hook:
            export_id = hook.create_export(timeframe="LATEST_COMPLETED_MONTH", taxonomy_ids=["taxonomy"]).id
        operator = IsvappDownloadExportOperator(task_id="download", export_id=export_id, path=str(tmp_path / "usage"))

        with pytest.raises(AirflowException, match=r"still PENDING .* Wait for it with IsvappExportSensor"):
            operator.execute(task_context())
        assert list(tmp_path.iterdir()) == []

    def test_an_expired_export_is_a_permanent_error(
        self, isvapp: Emulator, ready: str, clock: ManualClock, tmp_path: Path
    ) -> None:
        with IsvappHook() as hook:
            hook.get_export(ready)
        clock.advance(3700)
        operator = IsvappDownloadExportOperator(task_id="download", export_id=ready, path=str(tmp_path / "usage"))

        with pytest.raises(AirflowFailException, match="expired") as caught:
            operator.execute(task_context())
        assert isinstance(caught.value.__context__, errors.ExportExpired)

    def test_an_export_that_has_not_appeared_yet_is_requested_again(
        self,
        isvapp: Emulator,
        ready: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        logs: Callable[[], str],
    ) -> None:
        monkeypatch.setattr(isvapp_hook, "SECONDS_BETWEEN_POLLS", 0.02)
        isvapp.inject(Fault(endpoint="show_export", kind="status", status=404, message="not found", times=3))
        operator = IsvappDownloadExportOperator(task_id="download", export_id=ready, path=str(tmp_path / "usage"))

        assert operator.execute(task_context())["outcome"] == "written"
        # Airflow 2.11 logs each line to two places.
        assert "since the export may be new: ISVapp refused" in logs()
        assert [(r.endpoint, r.status) for r in isvapp.requests].count(("show_export", 404)) == 3

    def test_an_export_that_never_appears_is_a_permanent_error(
        self, isvapp: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(isvapp_hook, "SECONDS_BETWEEN_POLLS", 0.02)
        monkeypatch.setattr(export_state, "NOT_FOUND_GRACE", timedelta(seconds=1.5))
        operator = IsvappDownloadExportOperator(task_id="download", export_id="nowhere", path=str(tmp_path / "usage"))

        with pytest.raises(AirflowFailException, match="404") as caught:
            operator.execute(task_context())
        assert isinstance(caught.value.__context__, errors.NotFound)
        assert isvapp.request_counts()["show_export"] > 1

    def test_a_damaged_file_publishes_nothing_and_keeps_the_retries(
        self, isvapp: Emulator, ready: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("airflow_provider_isvapp.transfer.resume._FIRST_WAIT", 0.0)
        isvapp.inject(Fault(endpoint="download", kind="flip", at=-8, times=None))
        file = tmp_path / "usage.ndjson"
        file.write_bytes(OLD_CONTENT)
        operator = IsvappDownloadExportOperator(task_id="download", export_id=ready, path=str(file))

        with pytest.raises(AirflowException, match="damaged") as caught:
            operator.execute(task_context())
        assert not isinstance(caught.value, AirflowFailException)
        assert isinstance(caught.value.__context__, errors.DamagedDownload)
        assert file.read_bytes() == OLD_CONTENT
        assert list(tmp_path.iterdir()) == [file]

    def test_a_killed_task_stops_and_publishes_nothing(self, isvapp: Emulator, ready: str, tmp_path: Path) -> None:
        isvapp.inject(Fault(endpoint="download", kind="slow", bytes_per_second=200, times=None))
        file = tmp_path / "usage.ndjson"
        file.write_bytes(OLD_CONTENT)
        operator = IsvappDownloadExportOperator(task_id="download", export_id=ready, path=str(file))
        killing = threading.Timer(0.5, operator.on_kill)
        killing.start()

        started = time.monotonic()
        with pytest.raises(AirflowException, match="stopped; nothing was published"):
            operator.execute(task_context())
        # Airflow kills it five seconds after on_kill; this bound allows for a slow machine; the file takes minutes.
        assert time.monotonic() - started < 15.0
        assert file.read_bytes() == OLD_CONTENT
        assert list(tmp_path.iterdir()) == [file]

    def test_the_event_of_an_outlet_has_the_result(self, isvapp: Emulator, ready: str, tmp_path: Path) -> None:
        asset = Asset(uri="s3://lake/usage")
        operator = IsvappDownloadExportOperator(
            task_id="download", export_id=ready, path=str(tmp_path / "usage"), outlets=[asset]
        )
        context = task_context()

        written = operator.execute(context)

        assert context["outlet_events"][asset].extra == written

    def test_no_secret_is_in_the_result_the_fields_or_the_log(
        self, emulator: Emulator, ready: str, download_url: str, tmp_path: Path, logs: Callable[[], str]
    ) -> None:
        emulator.inject(Fault(endpoint="download", kind="status", status=500))
        operator = IsvappDownloadExportOperator(task_id="download", export_id=ready, path=str(tmp_path / "usage"))
        context = task_context()

        with pytest.raises(AirflowException) as caught:
            operator.execute(context)
        written = operator.execute(context)

        fields = {name: getattr(operator, name) for name in operator.template_fields}
        outputs = [json.dumps(written), json.dumps(fields), repr(vars(operator)), logs()]
        error: BaseException | None = caught.value
        while error is not None:
            outputs.append(repr(error))
            error = error.__cause__ or error.__context__
        for secret in (download_url.rpartition("/")[2], emulator.client_secret):
            assert secret not in "\n".join(outputs)


class TestFetchSalesforceAccounts:
    @pytest.mark.parametrize(("health_scores", "subscriber_orgs"), [(False, False), (True, False), (True, True)])
    def test_writes_the_accounts_as_sent(
        self, isvapp: Emulator, tmp_path: Path, health_scores: bool, subscriber_orgs: bool
    ) -> None:
        file = tmp_path / "accounts.ndjson"
        operator = IsvappFetchSalesforceAccountsOperator(
            task_id="accounts",
            path=str(file),
            include_health_scores=health_scores,
            include_subscriber_orgs=subscriber_orgs,
        )

        written = operator.execute(task_context())

        with IsvappHook() as hook:
            expected = hook.list_salesforce_accounts(
                include_health_scores=health_scores, include_subscriber_orgs=subscriber_orgs
            )
        assert [json.loads(line) for line in file.read_bytes().splitlines()] == expected
        assert ("health_scores" in expected[0], "subscriber_orgs" in expected[0]) == (health_scores, subscriber_orgs)
        assert (written["rows"], written["bytes"]) == (len(expected), file.stat().st_size)

    def test_a_refusal_leaves_the_old_object(self, isvapp: Emulator, tmp_path: Path) -> None:
        isvapp.inject(Fault(endpoint="salesforce_accounts", kind="status", status=403, message="not for you"))
        file = tmp_path / "accounts.ndjson"
        file.write_bytes(OLD_CONTENT)

        with pytest.raises(AirflowFailException, match="not for you"):
            IsvappFetchSalesforceAccountsOperator(task_id="accounts", path=str(file)).execute(task_context())
        assert file.read_bytes() == OLD_CONTENT

    def test_a_wrong_path_is_refused_before_any_request(self, isvapp: Emulator) -> None:
        with pytest.raises(AirflowFailException, match="no file system for ftpx://"):
            IsvappFetchSalesforceAccountsOperator(task_id="accounts", path="ftpx://h/x").execute(task_context())
        assert isvapp.requests == []
