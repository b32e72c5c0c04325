# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow import __version__ as airflow_version

if airflow_version.startswith("2."):
    pytest.skip("Airflow 2.11 has no event triggers", allow_module_level=True)

from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.api.schema.isvapp import ExportStatus
from airflow_provider_isvapp.emulator import Emulator, Fault, ManualClock
from airflow_provider_isvapp.errors import InvalidArgument
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.triggers import isvapp as isvapp_module
from airflow_provider_isvapp.triggers.isvapp import STORE_KEY, IsvappExportCompletedTrigger, exports_to_announce
from tests.airflow.triggers.polling import rounds, until

NOW = datetime(2024, 3, 6, 6, tzinfo=UTC)


def export(export_id: str, status: str = "COMPLETED", *, minute: int = 0, expired: bool = False) -> Export:
    return Export(
        id=export_id,
        status=ExportStatus(status),
        completed_at=NOW + timedelta(minutes=minute) if status == "COMPLETED" else None,
        is_expired=expired,
    )


class TestToAnnounce:
    def ids(self, exports: Iterable[Export], announced: set[str] | None) -> tuple[list[str], set[str]]:
        news, known = exports_to_announce(list(exports), None if announced is None else frozenset(announced), now=NOW)
        return [item.id for item in news], set(known)

    def test_exports_that_were_ready_before_are_not_announced(self) -> None:
        assert self.ids([export("a"), export("b", "PENDING")], None) == ([], {"a"})

    def test_each_ready_export_is_announced_once_and_oldest_first(self) -> None:
        listed = [export("c", minute=2), export("b", minute=1), export("a")]

        assert self.ids(listed, {"a"}) == (["b", "c"], {"a", "b", "c"})
        assert self.ids(listed, {"a", "b", "c"}) == ([], {"a", "b", "c"})

    def test_only_what_can_be_downloaded_is_announced(self) -> None:
        listed = [export("a", "PENDING"), export("b", "ERRORED"), export("c", expired=True)]

        assert self.ids(listed, set()) == ([], set())

    def test_an_announced_export_is_remembered_as_long_as_it_is_listed(self) -> None:
        assert self.ids([export("a", expired=True)], {"a", "gone"}) == ([], {"a"})


class AssetStore:
    """Airflow 3.3's store of one asset."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    async def aget(self, key: str) -> Any:
        return json.loads(self.values[key]) if key in self.values else None

    async def aset(self, key: str, value: Any) -> None:
        self.values[key] = json.dumps(value)


def watch(
    emulator: Emulator, store: AssetStore | None, *steps: Callable[[], object], events: int
) -> list[dict[str, Any]]:
    """Run a watch as a triggerer does, take a step after each list, and end it after some events."""
    _, arguments = json.loads(json.dumps(IsvappExportCompletedTrigger(poll_interval=0.02).serialize()))
    trigger = IsvappExportCompletedTrigger(**arguments)
    trigger.asset_state_store = store  # type: ignore[assignment]
    seen: list[dict[str, Any]] = []

    async def run() -> None:
        async def collect() -> None:
            async for event in trigger.run():
                seen.append(event.payload)

        collecting = asyncio.create_task(collect())
        # When a list is requested, the previous one has been read. Three may fail.
        await rounds(emulator, 5)
        for step in steps:
            await asyncio.to_thread(step)
            await rounds(emulator, 2)
        await until(lambda: len(seen) >= events)
        await rounds(emulator, 2)
        collecting.cancel()
        await asyncio.gather(collecting, return_exceptions=True)

    asyncio.run(asyncio.wait_for(run(), timeout=20))
    return json.loads(json.dumps(seen))


def create(hook: IsvappHook) -> str:
    return hook.create_export(timeframe="LATEST_COMPLETED_MONTH", taxonomy_ids=["taxonomy"]).id


def test_announces_an_export_when_it_completes_and_not_before(isvapp: Emulator, clock: ManualClock) -> None:
    with IsvappHook() as hook:
        create(hook)
        clock.advance(61)
        made: list[str] = []

        seen = watch(isvapp, None, lambda: made.append(create(hook)), lambda: clock.advance(61), events=1)

    assert [event["export_id"] for event in seen] == made
    assert seen[0]["export"]["status"] == "COMPLETED"
    assert "download_url" not in seen[0]["export"]


def test_a_triggerer_that_starts_again_catches_up(isvapp: Emulator, clock: ManualClock) -> None:
    store = AssetStore()
    with IsvappHook() as hook:
        first = create(hook)
        assert len(watch(isvapp, store, lambda: clock.advance(61), events=1)) == 1
        second = create(hook)
        clock.advance(61)

        seen = watch(isvapp, store, events=1)

    assert [event["export_id"] for event in seen] == [second]
    assert json.loads(store.values[STORE_KEY]) == sorted([first, second])


def test_failed_polls_do_not_end_the_watch(
    isvapp: Emulator, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isvapp_module, "RETRY_DELAY", 0.05)
    isvapp.inject(Fault(endpoint="list_exports", kind="status", status=503))
    isvapp.inject(Fault(endpoint="list_exports", kind="status", status=403, message="not now"))
    isvapp.inject(Fault(endpoint="list_exports", kind="edit", replace={"status": "ARCHIVED"}))
    with IsvappHook() as hook:
        export_id = create(hook)

        seen = watch(isvapp, None, lambda: clock.advance(61), events=1)

    assert [event["export_id"] for event in seen] == [export_id]


def test_a_store_that_fails_for_a_while_does_not_end_the_watch_or_lose_exports(
    isvapp: Emulator, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isvapp_module, "RETRY_DELAY", 0.05)

    class FailingStore(AssetStore):
        failures = 2

        async def aget(self, key: str) -> Any:
            self.fail()
            return await super().aget(key)

        async def aset(self, key: str, value: Any) -> None:
            self.failures += 1
            self.fail()

        def fail(self) -> None:
            if self.failures:
                self.failures -= 1
                raise OSError("the API server is busy")

    store = FailingStore()
    store.values[STORE_KEY] = "[]"
    with IsvappHook() as hook:
        first = create(hook)
        clock.advance(61)
        made: list[str] = []

        seen = watch(isvapp, store, lambda: made.append(create(hook)), lambda: clock.advance(61), events=2)

    assert [event["export_id"] for event in seen] == [first, *made]


@pytest.mark.parametrize("poll_interval", [0, -1, float("nan"), float("inf"), "60", None])
def test_a_poll_interval_that_is_none_is_named(isvapp: Emulator, poll_interval: Any) -> None:
    trigger = IsvappExportCompletedTrigger(poll_interval=poll_interval)

    with pytest.raises(InvalidArgument, match="poll_interval: must be a timedelta or a number of seconds"):
        asyncio.run(anext(aiter(trigger.run())))
    assert isvapp.requests == []


def test_watches_of_a_connection_share_one_poll(isvapp: Emulator, clock: ManualClock) -> None:
    trigger = IsvappExportCompletedTrigger(poll_interval=0.3)

    async def three_watches() -> None:
        watches = [asyncio.create_task(anext(aiter(trigger.run()))) for _ in range(3)]  # type: ignore[var-annotated]
        await asyncio.sleep(1.0)
        for task in watches:
            task.cancel()
        await asyncio.gather(*watches, return_exceptions=True)

    asyncio.run(three_watches())

    assert 2 <= isvapp.request_counts()["list_exports"] <= 4
    # Nor does a watch open a new connection for each poll.
    assert isvapp.request_counts()["token"] == 1
