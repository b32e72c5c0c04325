# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The sensor in its three modes, against the emulator."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow import __version__ as airflow_version
from airflow.exceptions import AirflowRescheduleException

from airflow_provider_isvapp import errors
from airflow_provider_isvapp.api.isvapp import export_state
from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.emulator import Emulator, Fault, ManualClock
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.sensors.isvapp import IsvappExportSensor
from airflow_provider_isvapp.triggers import isvapp as isvapp_triggers
from airflow_provider_isvapp.triggers import waiters
from airflow_provider_isvapp.triggers.isvapp import IsvappExportTrigger, failure_event
from airflow_provider_isvapp.version_compat import AirflowException, AirflowFailException, AirflowSensorTimeout
from tests.support.airflow_connections import SetConnection, isvapp_fields
from tests.support.task_context import AirflowSkipException, TaskDeferred

MODES = ["poke", "reschedule", "deferrable"]


class TaskInstance:
    """The part of a task instance that a rescheduling sensor needs: the time of this try's first poll."""

    task_id, dag_id, run_id, map_index, try_number, max_tries = "wait", "dag", "run", -1, 1, 0

    def __init__(self) -> None:
        self.first_poll: datetime | None = None

    def xcom_push(self, key: str, value: Any) -> None:
        """Accept the extra link, which tests/airflow/links covers."""

    def get_first_reschedule_date(self, context: Any) -> datetime | None:
        return self.first_poll


CONTEXT: Any = {"ti": TaskInstance(), "task": SimpleNamespace()}


@pytest.fixture(autouse=True)
def task_instance(monkeypatch: pytest.MonkeyPatch) -> TaskInstance:
    ti = TaskInstance()
    if airflow_version.startswith("2."):
        # Airflow 2.11 asks its database instead.
        monkeypatch.setattr("airflow.sensors.base._orig_start_date", lambda **_: ti.first_poll)
    monkeypatch.setattr(isvapp_triggers, "EARLIEST_EVENT", 0.0)
    monkeypatch.setattr(waiters, "FIRST_INTERVAL", 0.02)
    monkeypatch.setattr(export_state, "NOT_FOUND_GRACE", timedelta(0))
    return ti


@pytest.fixture
def pending(isvapp: Emulator) -> str:
    with IsvappHook() as hook:
        return hook.create_export(timeframe="LATEST_COMPLETED_MONTH", taxonomy_ids=["taxonomy"]).id


@pytest.fixture
def ready(pending: str, clock: ManualClock) -> str:
    clock.advance(61)
    return pending


def sensor_for(export_id: Any, mode: str = "poke", **arguments: Any) -> IsvappExportSensor:
    waiting = {"deferrable": True} if mode == "deferrable" else {"deferrable": False, "mode": mode}
    return IsvappExportSensor(
        **{"task_id": "wait", "export_id": export_id, "poke_interval": 0.02, "timeout": 30, **waiting, **arguments}
    )


def run_to_its_end(sensor: IsvappExportSensor, ti: TaskInstance) -> Any:
    """Run the sensor as Airflow does, in any mode."""
    context: Any = {"ti": ti, "task": SimpleNamespace()}
    while True:
        try:
            return sensor.execute(context)
        except AirflowRescheduleException as again:
            ti.first_poll = ti.first_poll or datetime.now(UTC)
            time.sleep(max((again.reschedule_date - datetime.now(UTC)).total_seconds(), 0))
        except TaskDeferred as deferred:
            return sensor.resume_execution(deferred.method_name, {"event": event_of(deferred.trigger)}, context)


def event_of(trigger: Any) -> Any:
    assert isinstance(trigger, IsvappExportTrigger)
    _, arguments = json.loads(json.dumps(trigger.serialize()))

    async def all_events() -> list[Any]:
        return [event.payload async for event in IsvappExportTrigger(**arguments).run()]

    (payload,) = asyncio.run(asyncio.wait_for(all_events(), timeout=20))
    return json.loads(json.dumps(payload))


@pytest.mark.parametrize("mode", MODES)
class TestAllModesAlike:
    def test_a_ready_export_gives_its_details(
        self, isvapp: Emulator, ready: str, mode: str, task_instance: TaskInstance
    ) -> None:
        details = run_to_its_end(sensor_for(ready, mode), task_instance)

        assert details["id"] == ready
        assert details["status"] == "COMPLETED"
        assert details["completed_at"].startswith("20")
        assert json.loads(json.dumps(details)) == details
        assert "download" not in json.dumps([value for value in details.values() if isinstance(value, str)])

    def test_a_pending_export_is_waited_for(
        self, isvapp: Emulator, ready: str, mode: str, task_instance: TaskInstance
    ) -> None:
        still_pending = {"status": "PENDING", "is_expired": False}
        isvapp.inject(Fault(endpoint="show_export", kind="edit", replace=still_pending, times=2))
        isvapp.inject(Fault(endpoint="list_exports", kind="edit", replace=still_pending, times=2))

        details = run_to_its_end(sensor_for(ready, mode), task_instance)

        assert details["status"] == "COMPLETED"
        looks = isvapp.request_counts()
        assert looks["show_export"] + looks.get("list_exports", 0) >= 3

    def test_an_errored_export_is_permanent_and_has_the_vendors_message(
        self, isvapp: Emulator, pending: str, mode: str, clock: ManualClock, task_instance: TaskInstance
    ) -> None:
        isvapp.inject(Fault(endpoint="show_export", kind="export_errors", message="Salesforce said no"))
        with IsvappHook() as hook:
            hook.get_export(pending)
        clock.advance(61)

        with pytest.raises(AirflowFailException, match="Salesforce said no") as caught:
            run_to_its_end(sensor_for(pending, mode), task_instance)
        assert isinstance(caught.value.__context__, errors.ExportFailed)

    def test_an_export_that_errors_later_fails_the_same_way(
        self, isvapp: Emulator, ready: str, mode: str, task_instance: TaskInstance
    ) -> None:
        errored = {"status": "ERRORED", "error_message": "Salesforce said no"}
        isvapp.inject(Fault(endpoint="show_export", kind="edit", replace={"status": "PENDING"}))
        isvapp.inject(Fault(endpoint="show_export", kind="edit", replace=errored, times=None))
        isvapp.inject(Fault(endpoint="list_exports", kind="edit", replace=errored, times=None))

        with pytest.raises(AirflowFailException, match="Salesforce said no") as caught:
            run_to_its_end(sensor_for(ready, mode), task_instance)
        assert isinstance(caught.value.__context__, errors.ExportFailed)

    def test_an_expired_export_is_permanent_and_has_its_own_error(
        self, isvapp: Emulator, ready: str, mode: str, clock: ManualClock, task_instance: TaskInstance
    ) -> None:
        with IsvappHook() as hook:
            hook.get_export(ready)
        clock.advance(3700)

        with pytest.raises(AirflowFailException, match=f"Export {ready} expired .* Create a new export") as caught:
            run_to_its_end(sensor_for(ready, mode), task_instance)
        assert isinstance(caught.value.__context__, errors.ExportExpired)

    def test_an_unknown_status_without_times_waits_until_the_deadline(
        self, isvapp: Emulator, ready: str, mode: str, task_instance: TaskInstance, logs: Callable[[], str]
    ) -> None:
        replaced = {"status": "PAUSED", "completed_at": None}
        for endpoint in ("show_export", "list_exports"):
            isvapp.inject(Fault(endpoint=endpoint, kind="edit", replace=replaced, times=None))

        with pytest.raises(AirflowSensorTimeout, match="last seen PENDING"):
            run_to_its_end(sensor_for(ready, mode, timeout=2), task_instance)
        assert "has the status 'PAUSED', which is not documented; it is taken for PENDING" in logs()

    def test_an_unknown_export_fails_at_once(self, isvapp: Emulator, mode: str, task_instance: TaskInstance) -> None:
        with pytest.raises(AirflowFailException, match="no-such-export"):
            run_to_its_end(sensor_for("no-such-export", mode), task_instance)
        assert isvapp.request_counts()["show_export"] == 1

    def test_waits_for_an_export_that_has_not_appeared_yet(
        self,
        isvapp: Emulator,
        ready: str,
        mode: str,
        task_instance: TaskInstance,
        monkeypatch: pytest.MonkeyPatch,
        logs: Callable[[], str],
    ) -> None:
        monkeypatch.setattr(export_state, "NOT_FOUND_GRACE", timedelta(seconds=60))
        isvapp.inject(Fault(endpoint="show_export", kind="status", status=404, message="not found", times=3))
        isvapp.inject(Fault(endpoint="list_exports", kind="edit", replace={"data": []}, times=2))

        assert run_to_its_end(sensor_for(ready, mode), task_instance)["id"] == ready
        assert f"Polling export {ready} failed; will retry: ISVapp refused GET" in logs()

    def test_the_grace_for_a_new_export_has_an_end_over_all_polls(
        self, isvapp: Emulator, mode: str, task_instance: TaskInstance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(export_state, "NOT_FOUND_GRACE", timedelta(seconds=0.3))

        with pytest.raises(AirflowFailException, match="no-such-export") as caught:
            run_to_its_end(sensor_for("no-such-export", mode), task_instance)
        assert isinstance(caught.value.__context__, errors.NotFound)

    def test_a_key_that_is_rotated_meanwhile_is_read_again(
        self,
        emulator: Emulator,
        clock: ManualClock,
        set_connection: SetConnection,
        mode: str,
        task_instance: TaskInstance,
    ) -> None:
        key = isvapp_fields(emulator) | {"login": None}
        set_connection("isvapp_default", **key | {"password": emulator.api_key})
        with IsvappHook() as hook:
            export_id = hook.create_export(timeframe="LATEST_COMPLETED_MONTH", taxonomy_ids=["taxonomy"]).id
        emulator.inject(Fault(endpoint="show_export", kind="edit", replace={"status": "PENDING"}, times=1))
        sensor = sensor_for(export_id, mode)
        look = sensor.poke
        rotated: list[None] = []

        def poll_and_rotate(context: Any) -> Any:
            try:
                return look(context)
            finally:
                if not rotated:
                    rotated.append(None)
                    emulator.rotate_credentials(client_secret="new-secret", api_key="new-key")
                    set_connection("isvapp_default", **key | {"password": "new-key"})
                    clock.advance(61)

        sensor.poke = poll_and_rotate  # type: ignore[method-assign]

        assert run_to_its_end(sensor, task_instance)["id"] == export_id
        assert rotated

    @pytest.mark.parametrize("name", ["poke_interval", "timeout"])
    @pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), timedelta(0), "30", None, True])
    def test_an_invalid_duration_is_named_before_anything_is_sent(
        self, isvapp: Emulator, mode: str, name: str, value: Any, task_instance: TaskInstance
    ) -> None:
        with pytest.raises(AirflowFailException, match=f"{name}: must be a timedelta or a number") as caught:
            run_to_its_end(sensor_for("export-1", mode, **{name: value}), task_instance)
        assert isinstance(caught.value.__context__, errors.InvalidArgument)
        assert isvapp.requests == []

    def test_a_poll_that_fails_is_not_a_failed_export(
        self, isvapp: Emulator, ready: str, mode: str, task_instance: TaskInstance, logs: Callable[[], str]
    ) -> None:
        isvapp.inject(Fault(endpoint="show_export", kind="status", status=503, times=2))
        isvapp.inject(Fault(endpoint="list_exports", kind="reset", times=2))

        assert run_to_its_end(sensor_for(ready, mode), task_instance)["status"] == "COMPLETED"
        assert f"Polling export {ready} failed; will retry: ISVapp gave no usable response" in logs()

    def test_a_timeout_names_the_last_state(
        self, isvapp: Emulator, pending: str, mode: str, task_instance: TaskInstance
    ) -> None:
        with pytest.raises(
            AirflowSensorTimeout, match=f"Export {pending} did not complete within .* last seen PENDING at"
        ):
            run_to_its_end(sensor_for(pending, mode, timeout=0.3), task_instance)

    def test_a_timeout_in_an_outage_names_the_last_error(
        self, isvapp: Emulator, pending: str, mode: str, task_instance: TaskInstance
    ) -> None:
        isvapp.inject(Fault(endpoint="show_export", kind="status", status=503, times=None))
        isvapp.inject(Fault(endpoint="list_exports", kind="status", status=503, times=None))

        with pytest.raises(AirflowSensorTimeout, match=r"failed: ISVapp gave no usable response .*503"):
            run_to_its_end(sensor_for(pending, mode, timeout=0.3), task_instance)

    @pytest.mark.parametrize("export_id", ["", "  ", None, 7])
    def test_an_export_id_that_is_none_is_named(
        self, isvapp: Emulator, mode: str, export_id: Any, task_instance: TaskInstance
    ) -> None:
        with pytest.raises(AirflowFailException, match=r"export_id: must be .*, not"):
            run_to_its_end(sensor_for(export_id, mode), task_instance)
        assert isvapp.requests == []

    def test_a_missing_connection_is_named(self, mode: str, task_instance: TaskInstance) -> None:
        with pytest.raises(AirflowFailException, match="Connection 'nowhere' is not defined in Airflow"):
            run_to_its_end(sensor_for("export-1", mode, isvapp_conn_id="nowhere"), task_instance)

    @pytest.mark.parametrize("what", ["errored", "timeout"])
    def test_soft_fail_skips(
        self, isvapp: Emulator, ready: str, mode: str, what: str, task_instance: TaskInstance
    ) -> None:
        later = {"status": "ERRORED"} if what == "errored" else {"status": "PENDING"}
        isvapp.inject(Fault(endpoint="show_export", kind="edit", replace={"status": "PENDING"}))
        isvapp.inject(Fault(endpoint="show_export", kind="edit", replace=later, times=None))
        isvapp.inject(Fault(endpoint="list_exports", kind="edit", replace=later, times=None))

        with pytest.raises(AirflowSkipException):
            run_to_its_end(sensor_for(ready, mode, timeout=0.3, soft_fail=True), task_instance)

    def test_soft_fail_skips_at_the_first_poll(self, isvapp: Emulator, mode: str, task_instance: TaskInstance) -> None:
        with pytest.raises(AirflowSkipException):
            run_to_its_end(sensor_for("no-such-export", mode, soft_fail=True), task_instance)

    def test_no_secret_leaves_the_sensor(
        self,
        emulator: Emulator,
        ready: str,
        download_url: str,
        mode: str,
        task_instance: TaskInstance,
        logs: Callable[[], str],
    ) -> None:
        emulator.inject(Fault(endpoint="show_export", kind="edit", replace={"status": "PENDING"}))
        sensor = sensor_for(ready, mode)

        details = run_to_its_end(sensor, task_instance)

        rendered = {name: getattr(sensor, name) for name in sensor.template_fields}
        everything = "\n".join([json.dumps(details), json.dumps(rendered), repr(sensor), logs()])
        assert download_url.rpartition("/")[2] not in everything
        assert emulator.client_secret not in everything


class TestPoking:
    def test_polls_share_a_token(self, isvapp: Emulator, ready: str, task_instance: TaskInstance) -> None:
        before = isvapp.request_counts()["token"]
        isvapp.inject(Fault(endpoint="show_export", kind="edit", replace={"status": "PENDING"}, times=4))

        run_to_its_end(sensor_for(ready), task_instance)

        assert isvapp.request_counts()["token"] == before

    @pytest.mark.parametrize("mode", MODES)
    def test_the_network_connections_are_closed(
        self, isvapp: Emulator, pending: str, mode: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        closed: list[None] = []
        close = IsvappClient.close
        monkeypatch.setattr(IsvappClient, "close", lambda client: (closed.append(None), close(client)))  # type: ignore[func-returns-value]

        with pytest.raises((AirflowSensorTimeout, AirflowRescheduleException, TaskDeferred)):
            sensor_for(pending, mode, timeout=0.1).execute({"ti": TaskInstance(), "task": SimpleNamespace()})  # type: ignore[typeddict-item]
        assert closed == [None]

    def test_rescheduling_counts_the_grace_for_a_new_export_from_the_first_poll(
        self, isvapp: Emulator, task_instance: TaskInstance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(export_state, "NOT_FOUND_GRACE", timedelta(seconds=20))
        task_instance.first_poll = datetime.now(UTC) - timedelta(seconds=21)

        with pytest.raises(AirflowFailException, match="no-such-export"):
            sensor_for("no-such-export", "reschedule").execute({"ti": task_instance, "task": SimpleNamespace()})  # type: ignore[typeddict-item]

    def test_rescheduling_counts_its_timeout_from_the_first_poll(
        self, isvapp: Emulator, pending: str, task_instance: TaskInstance
    ) -> None:
        task_instance.first_poll = datetime.now(UTC) - timedelta(seconds=31)

        with pytest.raises(AirflowSensorTimeout, match="within 30 s"):
            sensor_for(pending, "reschedule").execute({"ti": task_instance, "task": SimpleNamespace()})  # type: ignore[typeddict-item]


def test_airflow_sees_a_call_from_inside_of_a_task(isvapp: Emulator, ready: str, logs: Callable[[], str]) -> None:
    """Airflow passes a marker to ``execute``, and warns in the task's log if it is missing."""
    if airflow_version.startswith("2."):
        from airflow.models.taskinstance import _sentinel as sign  # type: ignore[attr-defined]
    else:
        from airflow.sdk.bases.operator import ExecutorSafeguard

        sign = ExecutorSafeguard.sentinel_value
    arguments: Any = {"context": CONTEXT, "IsvappExportSensor__sentinel": sign}

    sensor_for(ready).execute(**arguments)

    assert f"Export {ready} is ready" in logs()
    assert "cannot be called outside" not in logs()


class TestDeferring:
    def test_a_ready_export_is_not_deferred(self, isvapp: Emulator, ready: str) -> None:
        assert sensor_for(ready, "deferrable").execute(CONTEXT)["status"] == "COMPLETED"

    def test_the_trigger_gets_an_absolute_deadline(self, isvapp: Emulator, pending: str) -> None:
        before = time.time()
        with pytest.raises(TaskDeferred) as deferred:
            sensor_for(pending, "deferrable", timeout=600, poke_interval=20).execute(CONTEXT)

        trigger = deferred.value.trigger
        assert isinstance(trigger, IsvappExportTrigger)
        assert before + 600 <= trigger.deadline <= time.time() + 600
        assert trigger.poll_interval == 20
        assert deferred.value.method_name == "execute_complete"
        # Airflow's own timeout only applies if no triggerer runs to keep the deadline.
        assert deferred.value.timeout is not None
        assert deferred.value.timeout > timedelta(seconds=600)

    @pytest.mark.parametrize(
        "event", [None, {}, {"status": "success"}, {"export_id": "another", "export": {}}, "5 MB" * 1_250_000]
    )
    def test_an_event_that_is_not_understood_fails_the_task(self, event: Any) -> None:
        sensor = sensor_for("export-1", "deferrable")

        with pytest.raises(AirflowException, match="an event that this version does not understand"):
            sensor.execute_complete(CONTEXT, event)

    def test_a_failure_that_a_retry_may_fix_keeps_the_retries(self) -> None:
        event = failure_event("export-1", errors.ServiceUnavailable("ISVapp gave no usable response"))

        with pytest.raises(AirflowException, match="gave no usable response") as caught:
            sensor_for("export-1", "deferrable").execute_complete(CONTEXT, event)
        assert not isinstance(caught.value, AirflowFailException)


def test_the_defaults_suit_exports_of_half_a_minute_to_ten() -> None:
    sensor = IsvappExportSensor(task_id="wait", export_id="export-1")

    assert (sensor.poke_interval, sensor.timeout, sensor.deferrable) == (30, 3600, False)
    assert sensor.isvapp_conn_id == "isvapp_default"
    assert set(sensor.template_fields) == {"export_id", "isvapp_conn_id"}
