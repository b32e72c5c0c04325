# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""One poll for all waits, and its lifetime."""

from __future__ import annotations

import asyncio
import contextvars
import time

import pytest

from airflow_provider_isvapp import errors
from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.api.schema.isvapp import ExportStatus
from airflow_provider_isvapp.emulator import Emulator, Fault, ManualClock
from airflow_provider_isvapp.triggers import poller, waiters
from airflow_provider_isvapp.triggers.poller import ExportPoller, shared_poller
from tests.airflow.triggers.polling import POLL_INTERVAL, connect, create_exports, rounds, run, until, wait_for


class TestOnePollForAll:
    def test_one_request_per_round_serves_every_waiter(self, isvapp: Emulator, clock: ManualClock) -> None:
        export_ids = create_exports(30)
        before = isvapp.request_counts()

        async def scenario() -> list[Export]:
            poller = ExportPoller("isvapp_default", connect)
            waits = asyncio.gather(*(wait_for(poller, export_id) for export_id in export_ids))
            await rounds(isvapp, 3)
            clock.advance(61)
            return await waits

        exports = run(scenario())

        assert [export.id for export in exports] == export_ids
        assert {export.status for export in exports} == {ExportStatus.COMPLETED}
        counts = isvapp.request_counts()
        assert "show_export" not in counts
        assert counts["token"] == before["token"]  # that of the creation
        assert counts["list_exports"] <= 6

    def test_an_export_that_is_not_listed_is_requested_singly(
        self, isvapp: Emulator, pending: str, clock: ManualClock
    ) -> None:
        isvapp.inject(Fault(endpoint="list_exports", kind="edit", replace={"data": []}, times=None))

        async def scenario() -> list[Export]:
            poller = ExportPoller("isvapp_default", connect)
            waits = asyncio.gather(wait_for(poller, pending), wait_for(poller, pending))
            await rounds(isvapp, 2)
            clock.advance(61)
            return await waits  # type: ignore[return-value]

        assert [export.id for export in run(scenario())] == [pending, pending]
        # Two waits for the same export share its request, too.
        counts = isvapp.request_counts()
        assert counts["show_export"] <= counts["list_exports"]

    def test_the_list_is_requested_again_before_the_single_lookups_continue(
        self, isvapp: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        export_ids = create_exports(7)
        monkeypatch.setattr(poller, "LOOKUPS_PER_ROUND", 3)
        isvapp.inject(Fault(endpoint="list_exports", kind="edit", replace={"data": []}, times=None))

        async def scenario() -> None:
            poller = ExportPoller("isvapp_default", connect)
            waits = [asyncio.ensure_future(wait_for(poller, one, seconds=0.0)) for one in export_ids]
            results = await asyncio.gather(*waits, return_exceptions=True)
            assert [type(result) for result in results] == [errors.ExportTimeout] * 7

        run(scenario())
        order = [record.endpoint for record in isvapp.requests if record.endpoint in ("list_exports", "show_export")]
        assert order == [
            *["list_exports", "show_export", "show_export", "show_export"] * 2,
            *["list_exports", "show_export"],
        ]

    def test_an_export_that_is_polled_alone_has_its_own_interval(self, isvapp: Emulator) -> None:
        hasty, patient = create_exports(2)
        isvapp.inject(Fault(endpoint="list_exports", kind="edit", replace={"data": []}, times=None))

        async def scenario() -> None:
            poller = ExportPoller("isvapp_default", connect)
            waits = [
                asyncio.ensure_future(wait_for(poller, hasty)),
                asyncio.ensure_future(wait_for(poller, patient, poll_interval=600.0)),
            ]
            await rounds(isvapp, 4)
            for wait in waits:
                wait.cancel()
            await asyncio.wait(waits)

        run(scenario())
        assert {record.export_id for record in isvapp.requests if record.endpoint == "show_export"} == {hasty}

    def test_an_invalid_record_in_the_list_fails_no_other_wait(self, isvapp: Emulator, clock: ManualClock) -> None:
        odd, good = create_exports(2)
        isvapp.inject(Fault(endpoint="list_exports", kind="edit", replace={"status": 7}, times=None))
        isvapp.inject(Fault(endpoint="show_export", kind="edit", export_id=odd, replace={"status": 7}, times=None))
        clock.advance(61)

        async def scenario() -> list[Export | BaseException]:
            poller = ExportPoller("isvapp_default", connect)
            return await asyncio.gather(wait_for(poller, odd), wait_for(poller, good), return_exceptions=True)  # type: ignore[return-value]

        refused, answered = run(scenario())
        assert isinstance(refused, errors.ContractBroken)
        assert "'status' is a number" in str(refused)
        assert isinstance(answered, Export)

    def test_pollers_are_shared_by_loop_and_connection(self, isvapp: Emulator) -> None:
        async def scenario() -> None:
            first = shared_poller("one", connect)
            assert shared_poller("one", connect) is first
            assert shared_poller("two", connect) is not first
            pollers.append(first)

        pollers: list[ExportPoller] = []
        run(scenario())
        run(scenario())
        assert pollers[0] is not pollers[1]


class TestLife:
    def test_ends_with_its_last_waiter(self, isvapp: Emulator, pending: str) -> None:
        async def scenario() -> None:
            poller = shared_poller("isvapp_default", connect)
            waits = [asyncio.ensure_future(wait_for(poller, pending)) for _ in range(2)]
            await rounds(isvapp, 1)
            waits[0].cancel()
            await rounds(isvapp, 2)
            assert not poller.ended
            waits[1].cancel()
            await asyncio.wait(waits)
            assert poller.ended
            assert shared_poller("isvapp_default", connect) is not poller
            await until(lambda: not [task for task in asyncio.all_tasks() if "poller" in task.get_name()])
            after = isvapp.request_counts()
            await asyncio.sleep(POLL_INTERVAL * 4)
            assert isvapp.request_counts() == after

        run(scenario())

    def test_does_not_sleep_on_after_its_last_waiter(self, isvapp: Emulator, pending: str) -> None:
        closed: list[None] = []

        class Client(IsvappClient):
            def close(self) -> None:
                closed.append(None)
                super().close()

        async def connecting() -> IsvappClient:
            client = await connect()
            client.__class__ = Client
            return client

        async def scenario() -> None:
            poller = shared_poller("isvapp_default", connecting)
            patient = asyncio.ensure_future(wait_for(poller, pending, poll_interval=600.0))
            hasty = asyncio.ensure_future(wait_for(poller, pending))
            await rounds(isvapp, 1)
            hasty.cancel()
            await asyncio.wait([hasty])
            await asyncio.sleep(POLL_INTERVAL * 2)
            patient.cancel()
            await asyncio.wait([patient])
            # The next poll would be in two seconds.
            async with asyncio.timeout(1.0):
                await until(lambda: not [task for task in asyncio.all_tasks() if "poller" in task.get_name()])

        run(scenario())
        assert closed == [None]

    def test_does_nothing_to_exports_when_their_waits_are_cancelled(self, isvapp: Emulator, pending: str) -> None:
        async def scenario() -> None:
            wait = asyncio.ensure_future(wait_for(shared_poller("isvapp_default", connect), pending))
            await rounds(isvapp, 1)
            wait.cancel()
            await asyncio.wait([wait])

        run(scenario())
        assert {record.method for record in isvapp.requests if record.endpoint == "list_exports"} == {"GET"}
        assert isvapp.exports[pending]["status"] == "PENDING"

    def test_a_waiter_that_comes_later_does_not_wait_for_a_slow_poll(
        self, isvapp: Emulator, pending: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # The slow one's first poll comes later than `run` waits for all of this.
        monkeypatch.setattr(waiters, "FIRST_INTERVAL", 60.0)
        second = create_exports(1)[0]
        clock.advance(61)

        async def scenario() -> None:
            poller = shared_poller("isvapp_default", connect)
            slow = asyncio.ensure_future(wait_for(poller, "unknown", poll_interval=600.0))
            await asyncio.sleep(0.05)
            await wait_for(poller, second)
            slow.cancel()
            await asyncio.wait([slow])

        run(scenario())

    def test_runs_in_a_separate_context(self, isvapp: Emulator, pending: str, clock: ManualClock) -> None:
        task_of_log: contextvars.ContextVar[str] = contextvars.ContextVar("task_of_log", default="none")
        seen: list[str] = []

        async def connecting() -> IsvappClient:
            seen.append(task_of_log.get())
            return await connect()

        async def scenario() -> None:
            task_of_log.set("the first task's")
            await wait_for(ExportPoller("isvapp_default", connecting), pending)

        clock.advance(61)
        run(scenario())
        assert seen == ["none"]

    def test_reads_the_connection_once(self, isvapp: Emulator, clock: ManualClock) -> None:
        export_ids = create_exports(5)
        looked_up: list[None] = []

        async def connecting() -> IsvappClient:
            looked_up.append(None)
            return await connect()

        async def scenario() -> None:
            poller = ExportPoller("isvapp_default", connecting)
            waits = asyncio.gather(*(wait_for(poller, export_id) for export_id in export_ids))
            await rounds(isvapp, 3)
            clock.advance(61)
            await waits

        run(scenario())
        assert len(looked_up) == 1

    def test_never_blocks_the_event_loop(self, isvapp: Emulator, pending: str, clock: ManualClock) -> None:
        clock.advance(61)
        isvapp.inject(Fault(endpoint="list_exports", kind="delay", seconds=6.0))
        stalls: list[float] = []

        async def heart() -> None:
            while True:
                before = time.monotonic()
                await asyncio.sleep(0.01)
                stalls.append(time.monotonic() - before)

        async def scenario() -> None:
            beating = asyncio.ensure_future(heart())
            await wait_for(ExportPoller("isvapp_default", connect), pending)
            beating.cancel()

        run(scenario())
        assert len(stalls) > 30
        # A loop that waits for the response is blocked for six seconds; a busy machine blocks it for less than two.
        assert max(stalls) < 4
