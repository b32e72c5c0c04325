# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The operator for a whole export, deferred and in the worker, and its retries."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_isvapp import errors
from airflow_provider_isvapp.api.isvapp import export_state
from airflow_provider_isvapp.emulator import Emulator, Fault, ManualClock
from airflow_provider_isvapp.operators import creation
from airflow_provider_isvapp.operators.creation import MONTH_OF_RUN
from airflow_provider_isvapp.operators.isvapp import (
    IsvappDownloadExportOperator,
    IsvappExportOperator,
)
from airflow_provider_isvapp.version_compat import AirflowException, AirflowFailException, AirflowSensorTimeout, Asset
from tests.airflow.operators.conftest import create_operator, export_to
from tests.support.airflow_connections import SetConnection, isvapp_fields
from tests.support.task_context import TaskDeferred, TaskStateStore, run_to_its_end, task_context

pytestmark = pytest.mark.usefixtures("quick_polls")
NO_DURATIONS = [0, -1, float("nan"), float("inf"), "30", None, True]
BOTH_MODES = pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "poking"])


@BOTH_MODES
class TestOneTask:
    def test_does_what_the_three_single_operators_do(
        self, isvapp: Emulator, tmp_path: Path, deferrable: bool, finish_exports: Callable[[Any], None]
    ) -> None:
        file = tmp_path / "usage.ndjson"
        context = task_context()

        written = run_to_its_end(lambda: export_to(file, deferrable=deferrable), context, deferred=finish_exports)

        (export_id,) = isvapp.exports
        assert file.read_bytes() == isvapp.export_bytes(export_id)
        single = IsvappDownloadExportOperator(
            task_id="download", export_id=export_id, path=str(tmp_path / "single.ndjson")
        ).execute(task_context())
        different = {"path", "objects"}
        assert {name: value for name, value in written.items() if name not in different} == {
            name: value for name, value in single.items() if name not in different
        }
        assert written["path"] == str(file)
        assert json.loads(json.dumps(written)) == written

    def test_no_more_requests_are_sent_than_needed(
        self, isvapp: Emulator, tmp_path: Path, deferrable: bool, finish_exports: Callable[[Any], None]
    ) -> None:
        run_to_its_end(
            lambda: export_to(tmp_path / "usage", deferrable=deferrable), task_context(), deferred=finish_exports
        )

        counts = isvapp.request_counts()
        # The response to the creation is the poll before the wait; a download reads the record for its URL.
        assert counts["create_export"] == counts["download"] == 1
        assert counts.get("list_exports", 0) + counts["show_export"] == 2

    def test_waits_for_an_export_that_has_not_appeared_yet(
        self,
        isvapp: Emulator,
        tmp_path: Path,
        deferrable: bool,
        finish_exports: Callable[[Any], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(export_state, "NOT_FOUND_GRACE", timedelta(seconds=60))
        unknown = Fault(endpoint="show_export", kind="status", status=404, message="not found", times=2)
        isvapp.inject(unknown)
        isvapp.inject(Fault(endpoint="list_exports", kind="edit", replace={"data": []}, times=2))

        written = run_to_its_end(
            lambda: export_to(tmp_path / "usage", deferrable=deferrable), task_context(), deferred=finish_exports
        )

        assert written["outcome"] == "written"

    def test_a_key_that_is_rotated_while_it_waits_is_read_again(
        self,
        emulator: Emulator,
        set_connection: SetConnection,
        tmp_path: Path,
        deferrable: bool,
        clock: ManualClock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        key = isvapp_fields(emulator) | {"login": None}
        set_connection("isvapp_default", **key | {"password": emulator.api_key})

        def rotate(*_: Any) -> None:
            emulator.rotate_credentials(client_secret="new-secret", api_key="new-key")
            set_connection("isvapp_default", **key | {"password": "new-key"})
            clock.advance(61)

        monkeypatch.setattr(creation, "time", SimpleNamespace(**vars(time) | {"sleep": rotate}))

        written = run_to_its_end(
            lambda: export_to(tmp_path / "usage", deferrable=deferrable), task_context(), deferred=rotate
        )

        assert written["outcome"] == "written"

    @pytest.mark.parametrize("event", [None, "success", [], {"export_id": 7}, {"export_id": "another", "export": {}}])
    def test_an_unknown_event_downloads_nothing(
        self, isvapp: Emulator, tmp_path: Path, deferrable: bool, clock: ManualClock, event: Any
    ) -> None:
        store = TaskStateStore()
        operator = export_to(tmp_path / "usage", deferrable=True)
        with pytest.raises(TaskDeferred):
            operator.execute(task_context(store))
        clock.advance(61)

        with pytest.raises(AirflowException, match="an event that this version does not understand"):
            operator.execute_complete(task_context(store if deferrable else None), event)
        assert "download" not in isvapp.request_counts()

    def test_an_event_about_the_export_of_another_task_downloads_nothing(
        self, isvapp: Emulator, tmp_path: Path, deferrable: bool, clock: ManualClock
    ) -> None:
        other = create_operator().execute(task_context())
        store = TaskStateStore()
        operator = export_to(tmp_path / "usage", deferrable=True)
        with pytest.raises(TaskDeferred):
            operator.execute(task_context(store))
        clock.advance(61)
        event = {"export_id": other, "export": {"id": other, "status": "COMPLETED"}}

        with pytest.raises(AirflowException, match="an event that this version does not understand"):
            operator.execute_complete(task_context(store), event)
        assert "download" not in isvapp.request_counts()

    @pytest.mark.parametrize("name", ["poll_interval", "timeout"])
    @pytest.mark.parametrize("value", NO_DURATIONS)
    def test_an_invalid_duration_is_named_before_anything_is_sent(
        self, isvapp: Emulator, tmp_path: Path, deferrable: bool, name: str, value: Any
    ) -> None:
        operator = export_to(tmp_path / "usage", deferrable=deferrable, **{name: value})

        with pytest.raises(AirflowFailException, match=f"{name}: must be a timedelta or a number") as caught:
            operator.execute(task_context())
        assert isinstance(caught.value.__context__, errors.InvalidArgument)
        assert isvapp.requests == []

    def test_the_event_of_an_outlet_has_the_result(
        self, isvapp: Emulator, tmp_path: Path, deferrable: bool, finish_exports: Callable[[Any], None]
    ) -> None:
        asset = Asset(uri="s3://lake/usage")
        context = task_context()

        written = run_to_its_end(
            lambda: export_to(tmp_path / "usage", deferrable=deferrable, outlets=[asset]),
            context,
            deferred=finish_exports,
        )

        assert context["outlet_events"][asset].extra == written

    @pytest.mark.parametrize(
        ("fault", "cause", "message"),
        [
            (
                {"kind": "export_errors", "message": "the warehouse is closed"},
                errors.ExportFailed,
                r"warehouse is closed.* A retry of this task creates a new export\.$",
            ),
            (
                {"kind": "export_expires"},
                errors.ExportExpired,
                r"^Export \S+ expired before .* downloaded it\. A retry of this task creates a new export\.$",
            ),
        ],
        ids=["errored", "expired"],
    )
    def test_a_lost_export_fails_and_a_retry_creates_another(
        self,
        isvapp: Emulator,
        tmp_path: Path,
        deferrable: bool,
        finish_exports: Callable[[Any], None],
        fault: dict[str, Any],
        cause: type[errors.ExportError],
        message: str,
    ) -> None:
        isvapp.inject(Fault(endpoint="create_export", **fault))
        context = task_context(TaskStateStore())

        def run() -> Any:
            return run_to_its_end(
                lambda: export_to(tmp_path / "usage", deferrable=deferrable), context, deferred=finish_exports
            )

        with pytest.raises(AirflowException, match=message) as e:
            run()
        assert not isinstance(e.value, AirflowFailException)
        assert isinstance(e.value.__context__, errors.ExportError)
        assert isinstance(e.value.__context__.__cause__, cause)
        assert run()["rows"] == 200
        assert isvapp.request_counts()["create_export"] == 2

    def test_a_timeout_is_final(
        self, isvapp: Emulator, tmp_path: Path, deferrable: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        operator = export_to(
            tmp_path / "usage", deferrable=deferrable, timeout=0.2, poll_interval=timedelta(seconds=0.05)
        )

        with pytest.raises(AirflowSensorTimeout, match="last seen PENDING"):
            run_to_its_end(lambda: operator, task_context())

    def test_a_failed_poll_is_not_a_failed_export(
        self, isvapp: Emulator, tmp_path: Path, deferrable: bool, finish_exports: Callable[[Any], None]
    ) -> None:
        isvapp.inject(Fault(endpoint="list_exports" if deferrable else "show_export", kind="status", status=503))

        written = run_to_its_end(
            lambda: export_to(tmp_path / "usage", deferrable=deferrable), task_context(), deferred=finish_exports
        )

        assert written["rows"] == 200


@pytest.mark.parametrize("event", [None, {}, {"export_id": "export-1"}, "export-1"])
def test_an_event_without_a_result_fails_the_task(isvapp: Emulator, tmp_path: Path, event: Any) -> None:
    with pytest.raises(AirflowException, match="an event that this version does not understand"):
        export_to(tmp_path / "usage").execute_complete(task_context(), event)
    assert list(tmp_path.iterdir()) == []


class TestBeforeAnythingIsRequested:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"path": "/lake/usage/"}, "names a folder"),
            ({"timeframe": "2024-2"}, "neither a month"),
            ({"timeframe": "no data interval"}, "no partition key and no data interval"),
            ({"wait_for_month": 3}, "wait_for_month: must be a timedelta"),
            ({"partition_by": "reference_date"}, "must contain {reference_date}"),
            ({"output_format": "csv"}, "output_format must be"),
        ],
    )
    def test_a_wrong_argument_is_named(
        self, isvapp: Emulator, tmp_path: Path, arguments: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(AirflowFailException, match=message):
            export_to(tmp_path / "usage", **arguments).execute(task_context())
        assert isvapp.requests == []


class TestAuthoring:
    def test_the_constructor_takes_templates_and_default_args(self) -> None:
        operator = export_to(
            Path("/lake/usage"),
            path="{{ params.path }}",
            default_args={
                "isvapp_conn_id": "other",
                "poll_interval": 5,
                "if_exists": "skip",
                "taxonomy_item_ids": ["x"],
            },
        )

        assert operator.path == "{{ params.path }}"
        assert (operator.isvapp_conn_id, operator.poll_interval, operator.if_exists) == ("other", 5, "skip")
        assert operator.taxonomy_item_ids == ["x"]

    def test_the_month_of_the_run_is_the_default(self) -> None:
        operator = IsvappExportOperator(task_id="export", taxonomy_ids=["taxonomy"], path="/lake/usage")

        assert operator.timeframe == MONTH_OF_RUN
        assert {"timeframe", "taxonomy_ids", "path", "isvapp_conn_id"} <= set(operator.template_fields)


class TestRetry:
    """A retry is another execution with the same store; nothing else survives a crash."""

    def test_a_retry_continues_with_the_export(self, isvapp: Emulator, logs: Callable[[], str]) -> None:
        store = TaskStateStore()
        first = create_operator().execute(task_context(store))

        assert create_operator().execute(task_context(store)) == first
        assert list(isvapp.exports) == [first]
        assert f"Resuming export {first} (PENDING) from an earlier try" in logs()

    @BOTH_MODES
    def test_after_a_crash_in_the_wait_continues_with_the_same_export(
        self, isvapp: Emulator, tmp_path: Path, deferrable: bool, finish_exports: Callable[[Any], None]
    ) -> None:
        store = TaskStateStore()
        with pytest.raises(TaskDeferred):
            export_to(tmp_path / "usage", deferrable=True).execute(task_context(store))

        written = run_to_its_end(
            lambda: export_to(tmp_path / "usage", deferrable=deferrable), task_context(store), deferred=finish_exports
        )

        assert list(isvapp.exports) == [written["export_id"]]

    def test_after_a_crash_in_the_download_fetches_the_completed_export_without_a_wait(
        self, isvapp: Emulator, tmp_path: Path, clock: ManualClock
    ) -> None:
        store = TaskStateStore()
        with pytest.raises(TaskDeferred):
            export_to(tmp_path / "usage", deferrable=True).execute(task_context(store))
        clock.advance(61)

        written = export_to(tmp_path / "usage", deferrable=True).execute(task_context(store))

        assert list(isvapp.exports) == [written["export_id"]]

    def test_without_a_store_each_try_creates_an_export(self, isvapp: Emulator) -> None:
        assert create_operator().execute(task_context()) != create_operator().execute(task_context())
        assert len(isvapp.exports) == 2

    def test_a_clear_creates_a_new_export(self, isvapp: Emulator, logs: Callable[[], str]) -> None:
        store = TaskStateStore()
        first = create_operator().execute(task_context(store, max_tries=3))

        second = create_operator().execute(task_context(store, max_tries=4))

        assert list(isvapp.exports) == [first, second]
        assert f"Export {first} of an earlier try is not used: the task was cleared since" in logs()

    def test_another_request_gets_another_export(self, isvapp: Emulator) -> None:
        store = TaskStateStore()

        exports = [create_operator(taxonomy_ids=[name]).execute(task_context(store)) for name in ("one", "two", "two")]

        assert exports[0] != exports[1] == exports[2]

    @pytest.mark.parametrize("kind", ["export_errors", "export_expires"])
    def test_a_lost_export_is_replaced_once(self, isvapp: Emulator, clock: ManualClock, kind: str) -> None:
        store = TaskStateStore()
        first = create_operator().execute(task_context(store))
        clock.advance(61)
        isvapp.inject(Fault(endpoint="show_export", kind=kind, message="broken" if kind == "export_errors" else None))

        exports = [create_operator().execute(task_context(store)) for _ in range(2)]

        assert first != exports[0] == exports[1]

    def test_an_unknown_export_is_replaced(self, isvapp: Emulator) -> None:
        store = TaskStateStore()
        first = create_operator().execute(task_context(store))
        isvapp.inject(Fault(endpoint="show_export", kind="status", status=404, message="not found"))

        assert create_operator().execute(task_context(store)) != first

    def test_an_export_that_has_not_appeared_yet_is_not_replaced(
        self, isvapp: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(export_state, "NOT_FOUND_GRACE", timedelta(seconds=60))
        store = TaskStateStore()
        first = create_operator().execute(task_context(store))
        isvapp.inject(Fault(endpoint="show_export", kind="status", status=404, message="not found", times=2))

        assert create_operator().execute(task_context(store)) == first

    def test_creates_nothing_while_the_vendor_does_not_respond(self, isvapp: Emulator) -> None:
        store = TaskStateStore()
        first = create_operator().execute(task_context(store))
        isvapp.inject(Fault(endpoint="show_export", kind="status", status=503))

        with pytest.raises(AirflowException):
            create_operator().execute(task_context(store))
        assert create_operator().execute(task_context(store)) == first

    def test_a_retry_does_not_continue_with_a_damaged_file(
        self, isvapp: Emulator, tmp_path: Path, finish_exports: Callable[[Any], None]
    ) -> None:
        isvapp.inject(Fault(endpoint="download", kind="flip", at=-8, times=5))
        context = task_context(TaskStateStore())

        def run() -> Any:
            return run_to_its_end(lambda: export_to(tmp_path / "usage", deferrable=False), context)

        with pytest.raises(AirflowException, match="damaged"):
            run()
        assert run()["rows"] == 200
        assert isvapp.request_counts()["create_export"] == 2

    def test_the_store_holds_no_secret(self, isvapp: Emulator, tmp_path: Path) -> None:
        store = TaskStateStore()
        export_id = create_operator().execute(task_context(store))

        (kept,) = map(json.loads, store.values.values())
        assert kept == {
            "export_id": export_id,
            "request_hash": kept["request_hash"],
            "max_tries": 3,
            "known_since": kept["known_since"],
        }
        assert isinstance(kept["known_since"], float)


def last_month() -> str:
    return (datetime.now(UTC).replace(day=1) - timedelta(days=1)).strftime("%Y-%m")


class TestWaitForMonth:
    @pytest.fixture(autouse=True)
    def short_request_interval(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("airflow_provider_isvapp.operators.creation.REQUEST_INTERVAL", timedelta(seconds=0.05))

    def wait(self, **arguments: Any) -> Any:
        return lambda: create_operator(timeframe=last_month(), wait_for_month=timedelta(days=45), **arguments)

    @BOTH_MODES
    def test_a_month_that_is_refused_twice_is_exported_at_the_third_request(
        self, isvapp: Emulator, deferrable: bool, logs: Callable[[], str]
    ) -> None:
        isvapp.inject(Fault(endpoint="create_export", kind="month_incomplete", times=2))
        deferrals: list[Any] = []

        export_id = run_to_its_end(self.wait(deferrable=deferrable), task_context(), deferred=deferrals.append)

        assert list(isvapp.exports) == [export_id]
        assert isvapp.request_counts()["create_export"] == 3
        assert [deferral.method_name for deferral in deferrals] == (["execute_complete"] * 2 if deferrable else [])
        assert f"{last_month()} counts as not complete yet, since it ended less than 45 days" in logs()

    @pytest.mark.parametrize("status", [401, 403, 409])
    def test_another_refusal_is_final_and_has_the_vendors_message(self, isvapp: Emulator, status: int) -> None:
        isvapp.inject(
            Fault(endpoint="create_export", kind="status", status=status, message="the contract has ended", times=None)
        )

        with pytest.raises(AirflowFailException, match="the contract has ended"):
            self.wait(deferrable=True)().execute(task_context())

    def test_the_refusal_of_an_old_month_is_final(self, isvapp: Emulator) -> None:
        isvapp.inject(Fault(endpoint="create_export", kind="month_incomplete"))
        operator = create_operator(timeframe="2020-02", wait_for_month=timedelta(days=10), deferrable=True)

        with pytest.raises(AirflowFailException, match=r"2020-02.*wait_for_month ended at 2020-03-11"):
            operator.execute(task_context())
        assert isvapp.request_counts()["create_export"] == 1

    def test_the_deferral_times_out_without_a_triggerer(self, isvapp: Emulator) -> None:
        isvapp.inject(Fault(endpoint="create_export", kind="month_incomplete"))

        with pytest.raises(TaskDeferred) as caught:
            self.wait(deferrable=True)().execute(task_context())

        assert caught.value.timeout == pytest.approx(creation._TRIGGERER_GRACE, abs=timedelta(seconds=1))

    def test_no_event_comes_before_airflow_has_stored_the_deferral(
        self, isvapp: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(creation, "EARLIEST_EVENT", 5.0)
        isvapp.inject(Fault(endpoint="create_export", kind="month_incomplete"))

        with pytest.raises(TaskDeferred) as caught:
            self.wait(deferrable=True)().execute(task_context())

        path, arguments = caught.value.trigger.serialize()
        assert path.endswith(".temporal.DateTimeTrigger")
        assert arguments["moment"] - datetime.now(UTC) == pytest.approx(timedelta(seconds=5), abs=timedelta(seconds=1))

    def test_the_export_operator_waits_for_its_month_too(
        self, isvapp: Emulator, tmp_path: Path, clock: ManualClock
    ) -> None:
        isvapp.inject(Fault(endpoint="create_export", kind="month_incomplete", times=2))
        file = tmp_path / "usage"

        def make() -> IsvappExportOperator:
            return export_to(file, timeframe=last_month(), wait_for_month=timedelta(days=45), deferrable=True)

        methods: list[str] = []

        def deferred(deferral: Any) -> None:
            methods.append(deferral.method_name)
            clock.advance(61)

        written = run_to_its_end(make, task_context(), deferred=deferred)

        assert file.read_bytes() == isvapp.export_bytes(written["export_id"])
        assert len(isvapp.exports) == 1
        assert methods == ["execute_creation", "execute_creation", "execute_complete"]
