# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import asyncio
import importlib
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_isvapp.emulator import Emulator, Fault, ManualClock
from airflow_provider_isvapp.errors import ExportTimeout, InvalidArgument, NotFound, ProviderError
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.triggers import isvapp as isvapp_triggers
from airflow_provider_isvapp.triggers import waiters
from airflow_provider_isvapp.triggers.isvapp import IsvappExportTrigger, read_event


@pytest.fixture
def pending(isvapp: Emulator) -> str:
    with IsvappHook() as hook:
        return hook.create_export(timeframe="LATEST_COMPLETED_MONTH", taxonomy_ids=["taxonomy"]).id


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not delay events: no Airflow that needs the delay runs here."""
    monkeypatch.setattr(isvapp_triggers, "EARLIEST_EVENT", 0.0)


def trigger_for(export_id: str, *, seconds: float = 600.0) -> IsvappExportTrigger:
    return IsvappExportTrigger(
        export_id=export_id,
        isvapp_conn_id="isvapp_default",
        deadline=time.time() + seconds,
        poll_interval=0.05,
        known_since=0.0,
    )


def restarted(trigger: IsvappExportTrigger) -> IsvappExportTrigger:
    """The trigger as a triggerer creates it from its serialized form."""
    classpath, arguments = json.loads(json.dumps(trigger.serialize()))
    module, _, name = classpath.rpartition(".")
    made: IsvappExportTrigger = getattr(importlib.import_module(module), name)(**arguments)
    return made


async def events_of(trigger: IsvappExportTrigger) -> list[Any]:
    return [json.loads(json.dumps(event.payload)) async for event in trigger.run()]


def run(trigger: IsvappExportTrigger) -> Any:
    (event,) = asyncio.run(asyncio.wait_for(events_of(trigger), timeout=20))
    return event


def test_survives_storage_in_the_database() -> None:
    trigger = trigger_for("export-1")

    assert vars(restarted(trigger)).keys() == vars(trigger).keys()
    assert restarted(trigger).serialize() == trigger.serialize()
    assert restarted(trigger).deadline == trigger.deadline


@pytest.mark.usefixtures("at_once")
def test_yields_the_details_of_a_ready_export(isvapp: Emulator, pending: str, clock: ManualClock) -> None:
    clock.advance(61)

    details = read_event(run(restarted(trigger_for(pending))), export_id=pending)

    assert details["status"] == "COMPLETED"
    assert details["download_size_compressed_bytes"] > 0


@pytest.mark.usefixtures("at_once")
def test_yields_an_error_instead_of_raising_it(isvapp: Emulator) -> None:
    # A trigger that raises gives the task an error without the message.
    event = run(trigger_for("no-such-export"))

    with pytest.raises(NotFound, match="no-such-export") as caught:
        read_event(event, export_id="no-such-export")
    assert caught.value.status == 404


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("poll_interval", "deadline") for value in (-1, float("nan"), float("inf"), "30")),
        ("poll_interval", 0),
        ("known_since", float("nan")),
        ("deadline", 10**400),
    ],
)
def test_an_invalid_time_is_named_before_anything_is_sent(isvapp: Emulator, name: str, value: Any) -> None:
    trigger = trigger_for("export-1")
    setattr(trigger, name, value)

    with pytest.raises(InvalidArgument, match=f"{name}: must be a"):
        read_event(run(trigger), export_id="export-1")
    assert isvapp.requests == []


@pytest.mark.usefixtures("at_once", "isvapp")
def test_a_defect_becomes_an_event_with_a_retryable_error(
    pending: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.advance(61)

    def broken(export: object) -> None:
        raise RecursionError

    monkeypatch.setattr(isvapp_triggers, "ready_event", broken)

    with pytest.raises(ProviderError, match=r"\(RecursionError\).* Retry the task") as caught:
        read_event(run(trigger_for(pending)), export_id=pending)
    assert not caught.value.permanent


@pytest.mark.usefixtures("at_once")
def test_waits_for_an_export_that_has_not_appeared_yet(isvapp: Emulator, pending: str, clock: ManualClock) -> None:
    clock.advance(61)
    isvapp.inject(Fault(endpoint="list_exports", kind="edit", replace={"data": []}, times=3))
    isvapp.inject(Fault(endpoint="show_export", kind="status", status=404, message="not found", times=3))
    trigger = trigger_for(pending)
    trigger.known_since = time.time()

    assert read_event(run(restarted(trigger)), export_id=pending)["id"] == pending


@pytest.mark.usefixtures("at_once")
def test_the_deadline_is_absolute(isvapp: Emulator, pending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trigger = trigger_for(pending, seconds=600.0)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 600.0)

    # Far sooner than the ten minutes of a triggerer that counts from its own start.
    event = run(restarted(trigger))

    with pytest.raises(ExportTimeout, match="last seen PENDING"):
        read_event(event, export_id=pending)


def test_no_event_comes_before_airflow_is_ready_for_it(
    isvapp: Emulator, pending: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isvapp_triggers.EARLIEST_EVENT == 5.0
    # After the first poll, which is due two seconds after the start.
    monkeypatch.setattr(isvapp_triggers, "EARLIEST_EVENT", 3.0)
    clock.advance(61)

    started = time.monotonic()
    run(trigger_for(pending))

    assert time.monotonic() - started >= 3.0


def test_a_thousand_at_once_share_the_wait(isvapp: Emulator, pending: str, clock: ManualClock) -> None:
    clock.advance(61)
    before = isvapp.request_counts().get("list_exports", 0)

    async def scenario() -> list[list[Any]]:
        return await asyncio.gather(*(events_of(trigger_for(pending)) for _ in range(1000)))

    events = asyncio.run(asyncio.wait_for(scenario(), timeout=60))

    assert len(events) == 1000
    assert isvapp.request_counts()["list_exports"] == before + 1


def test_a_cancelled_trigger_leaves_the_export_alone(isvapp: Emulator, pending: str) -> None:
    async def scenario() -> None:
        trigger = trigger_for(pending)
        running = asyncio.ensure_future(events_of(trigger))
        while "list_exports" not in isvapp.request_counts():  # noqa: ASYNC110 (the emulator is in another thread)
            await asyncio.sleep(0.01)
        before = {record.endpoint for record in isvapp.requests}
        running.cancel()
        await asyncio.wait([running])
        await trigger.cleanup()
        if hasattr(trigger, "on_kill"):  # since Airflow 3.3
            await trigger.on_kill()
        assert {record.endpoint for record in isvapp.requests} == before

    asyncio.run(scenario())
    assert isvapp.exports[pending]["status"] == "PENDING"


@pytest.mark.usefixtures("at_once")
def test_no_secret_is_in_the_trigger_its_events_and_the_log(
    emulator: Emulator, ready: str, download_url: str, logs: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiters, "LASTING_REFUSAL", 0.0)
    trigger = trigger_for(ready)
    outputs = [repr(trigger), json.dumps(trigger.serialize()), json.dumps(run(trigger))]
    emulator.inject(Fault(endpoint="list_exports", kind="status", status=403, message="no", times=None))
    outputs += [json.dumps(run(trigger_for(ready))), logs()]

    for secret in (emulator.client_secret, download_url.rpartition("/")[2]):
        assert secret not in "\n".join(outputs)
