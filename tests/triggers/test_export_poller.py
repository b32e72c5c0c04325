# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The poller against the emulator. Intervals are short here; what the real ones are is tested without any waiting."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest

from airflow_provider_isvapp import errors
from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.api.isvapp.export import Export, ExportStatus
from airflow_provider_isvapp.emulator import Emulator, Fault, ManualClock
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.triggers import export_poller
from airflow_provider_isvapp.triggers.export_poller import ExportPoller, shared_poller
from airflow_provider_isvapp.triggers.export_wait import interval_after
from tests.airflow_connections import SetConnection, isvapp_fields

POLL_INTERVAL = 0.05
Result = TypeVar("Result")


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(asyncio.wait_for(coroutine, timeout=20))


def create_exports(count: int) -> list[str]:
    with IsvappHook() as hook:
        return [
            hook.create_export(timeframe="LATEST_COMPLETED_MONTH", taxonomy_ids=["taxonomy"]).id for _ in range(count)
        ]


async def connect() -> IsvappClient:
    return await IsvappHook().aget_client()


def wait_for(
    poller: ExportPoller,
    export_id: str,
    *,
    seconds: float = 600.0,
    poll_interval: float = POLL_INTERVAL,
    on_trouble: Callable[[str], None] = print,
) -> Awaitable[Export]:
    return poller.wait(export_id, deadline=time.time() + seconds, poll_interval=poll_interval, on_trouble=on_trouble)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 (the emulator is in another thread)
        await asyncio.sleep(0.01)


async def rounds(emulator: Emulator, count: int) -> None:
    """Let a number of polls happen from now on."""
    before = emulator.request_counts().get("list_exports", 0)
    await until(lambda: emulator.request_counts().get("list_exports", 0) >= before + count)


@pytest.fixture
def pending(isvapp: Emulator) -> str:
    return create_exports(1)[0]


class TestOnePollForAll:
    def test_one_request_a_round_answers_every_waiter(self, isvapp: Emulator, clock: ManualClock) -> None:
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
        assert counts["token"] - before["token"] == 1
        assert counts["list_exports"] <= 6

    def test_an_export_that_is_not_listed_is_asked_for_singly(
        self, isvapp: Emulator, pending: str, clock: ManualClock
    ) -> None:
        isvapp.inject(Fault(endpoint="list_exports", kind="edit", replace={"data": []}, times=None))

        async def scenario() -> list[Export]:
            poller = ExportPoller("isvapp_default", connect)
            waits = asyncio.gather(wait_for(poller, pending), wait_for(poller, pending))
            await rounds(isvapp, 2)
            clock.advance(61)
            return await waits

        assert [export.id for export in run(scenario())] == [pending, pending]
        # Two waits for the same export share its request, too.
        counts = isvapp.request_counts()
        assert counts["show_export"] <= counts["list_exports"]

    def test_the_list_is_asked_again_before_the_singles_go_on(
        self, isvapp: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        export_ids = create_exports(7)
        monkeypatch.setattr(export_poller, "SINGLES_A_ROUND", 3)
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

    def test_a_single_is_asked_at_its_own_pace(self, isvapp: Emulator) -> None:
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

    def test_one_odd_record_in_the_list_harms_nobody_else(self, isvapp: Emulator, clock: ManualClock) -> None:
        odd, good = create_exports(2)
        isvapp.inject(Fault(endpoint="list_exports", kind="edit", replace={"status": "PAUSED"}, times=None))
        isvapp.inject(
            Fault(endpoint="show_export", kind="edit", export_id=odd, replace={"status": "PAUSED"}, times=None)
        )
        clock.advance(61)

        async def scenario() -> list[Export | BaseException]:
            poller = ExportPoller("isvapp_default", connect)
            return await asyncio.gather(wait_for(poller, odd), wait_for(poller, good), return_exceptions=True)

        refused, answered = run(scenario())
        assert isinstance(refused, errors.ContractBroken)
        assert "'PAUSED'" in str(refused)
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
            # The next look would be in two seconds.
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
        self, isvapp: Emulator, pending: str, clock: ManualClock
    ) -> None:
        second = create_exports(1)[0]
        clock.advance(61)

        async def scenario() -> None:
            poller = shared_poller("isvapp_default", connect)
            slow = asyncio.ensure_future(wait_for(poller, "unknown", poll_interval=600.0))
            await asyncio.sleep(0.05)
            started = time.monotonic()
            await wait_for(poller, second)
            # Two seconds is the first interval of the slow one.
            assert time.monotonic() - started < 1.5
            slow.cancel()
            await asyncio.wait([slow])

        run(scenario())

    def test_runs_in_a_context_of_its_own(self, isvapp: Emulator, pending: str, clock: ManualClock) -> None:
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

    def test_looks_the_connection_up_once(self, isvapp: Emulator, clock: ManualClock) -> None:
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

    def test_never_blocks_the_loop(self, isvapp: Emulator, pending: str, clock: ManualClock) -> None:
        clock.advance(61)
        isvapp.inject(Fault(endpoint="list_exports", kind="delay", seconds=1.0))
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
        assert max(stalls) < 0.5


class TestTrouble:
    def test_survives_failed_polls_and_tells_each_task_once(self, isvapp: Emulator, clock: ManualClock) -> None:
        export_ids = create_exports(2)
        isvapp.inject(Fault(endpoint="list_exports", kind="status", status=503, times=3))
        waiting_task: contextvars.ContextVar[str] = contextvars.ContextVar("waiting_task")
        told: list[tuple[str, str]] = []

        async def wait(poller: ExportPoller, export_id: str) -> Export:
            waiting_task.set(export_id)
            return await wait_for(poller, export_id, on_trouble=lambda text: told.append((waiting_task.get(), text)))

        async def scenario() -> None:
            poller = ExportPoller("isvapp_default", connect)
            waits = asyncio.gather(*(wait(poller, export_id) for export_id in export_ids))
            await rounds(isvapp, 4)
            clock.advance(61)
            await waits

        run(scenario())
        assert sorted(export_id for export_id, _ in told) == sorted(export_ids)
        assert "A poll failed, and will be repeated: ISVapp did not answer" in told[0][1]

    def test_reports_a_lasting_failure_to_all_with_the_last_error(
        self, isvapp: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        export_ids = create_exports(3)
        monkeypatch.setattr(export_poller, "LASTING_FAILURE", 0.15)
        isvapp.inject(Fault(endpoint="list_exports", kind="status", status=503))
        isvapp.inject(Fault(endpoint="list_exports", kind="status", status=504, times=None))

        async def scenario() -> list[Export | BaseException]:
            poller = ExportPoller("isvapp_default", connect)
            waits = (wait_for(poller, export_id) for export_id in export_ids)
            return await asyncio.gather(*waits, return_exceptions=True)

        results = run(scenario())
        assert [type(result) for result in results] == [errors.ServiceUnavailable] * 3
        assert all("504" in str(result) for result in results)
        assert isvapp.request_counts()["list_exports"] >= 2

    def test_two_short_outages_are_no_long_one(
        self, isvapp: Emulator, pending: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(export_poller, "LASTING_FAILURE", 0.2)
        outage = Fault(endpoint="list_exports", kind="status", status=503)

        async def scenario() -> Export:
            wait = asyncio.ensure_future(wait_for(ExportPoller("isvapp_default", connect), pending))
            isvapp.inject(outage)
            await rounds(isvapp, 2)
            await asyncio.sleep(0.2)
            isvapp.inject(outage)
            await rounds(isvapp, 2)
            clock.advance(61)
            return await wait

        assert run(scenario()).id == pending

    @pytest.mark.parametrize(("status", "kind"), [(401, errors.AuthenticationRefused), (403, errors.PermissionRefused)])
    def test_a_refusal_reaches_all_at_once(
        self, isvapp: Emulator, status: int, kind: type[errors.ProviderError]
    ) -> None:
        export_ids = create_exports(3)
        isvapp.inject(Fault(endpoint="list_exports", kind="status", status=status, message="refused", times=None))

        async def scenario() -> list[Export | BaseException]:
            poller = ExportPoller("isvapp_default", connect)
            waits = (wait_for(poller, export_id) for export_id in export_ids)
            return await asyncio.gather(*waits, return_exceptions=True)

        assert [type(result) for result in run(scenario())] == [kind] * 3

    def test_an_unknown_export_concerns_nobody_else(self, isvapp: Emulator, pending: str, clock: ManualClock) -> None:
        async def scenario() -> None:
            poller = ExportPoller("isvapp_default", connect)
            good = asyncio.ensure_future(wait_for(poller, pending))
            with pytest.raises(errors.NotFound):
                await wait_for(poller, "no-such-export")
            assert not good.done()
            clock.advance(61)
            assert (await good).id == pending

        run(scenario())

    def test_a_single_poll_that_fails_is_not_a_failed_export(
        self, isvapp: Emulator, pending: str, clock: ManualClock
    ) -> None:
        clock.advance(61)
        isvapp.inject(Fault(endpoint="list_exports", kind="edit", replace={"data": []}, times=None))
        isvapp.inject(Fault(endpoint="show_export", kind="reset", times=2))

        assert run(_one_wait(pending)).id == pending

    def test_a_connection_that_does_not_exist_fails_at_once(self) -> None:
        with pytest.raises(errors.InvalidConnection, match="There is no Airflow connection 'isvapp_default'"):
            run(_one_wait("export-1"))

    def test_a_wrong_connection_fails_at_once(self, emulator: Emulator, set_connection: SetConnection) -> None:
        set_connection("isvapp_default", **isvapp_fields(emulator) | {"password": ""})
        with pytest.raises(errors.InvalidConnection, match="password: empty"):
            run(_one_wait("export-1"))

    def test_a_connection_that_cannot_be_looked_up_now_is_looked_up_again(
        self, isvapp: Emulator, pending: str, clock: ManualClock
    ) -> None:
        clock.advance(61)
        lookups = iter([errors.ProviderError("the API server is busy"), None])

        async def connecting() -> IsvappClient:
            if (problem := next(lookups)) is not None:
                raise problem
            return await connect()

        async def scenario() -> Export:
            return await wait_for(ExportPoller("isvapp_default", connecting), pending)

        assert run(scenario()).id == pending

    def test_a_defect_of_the_poller_reaches_the_tasks(self, isvapp: Emulator, caplog: pytest.LogCaptureFixture) -> None:
        async def connecting() -> IsvappClient:
            raise ZeroDivisionError

        async def scenario() -> None:
            await wait_for(ExportPoller("isvapp_default", connecting), "export-1")

        with pytest.raises(errors.ProviderError, match=r"broke inside the provider \(ZeroDivisionError\)"):
            run(scenario())
        assert "ZeroDivisionError" in caplog.text

    def test_nobody_joins_a_poller_that_broke(
        self, isvapp: Emulator, pending: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock.advance(61)

        class BrokenClient(IsvappClient):
            def list_exports(self) -> list[Export]:
                raise ZeroDivisionError

        async def connecting() -> IsvappClient:
            client = await connect()
            client.__class__ = BrokenClient
            return client

        later: list[Awaitable[Export]] = []

        def another_comes(*_: object) -> None:
            """Start a wait after the poller broke and before the first waiter has heard of it."""

            def start() -> None:
                later.append(asyncio.ensure_future(wait_for(shared_poller("isvapp_default", connect), pending)))

            asyncio.get_running_loop().call_soon(start)

        monkeypatch.setattr(export_poller.log, "exception", another_comes)

        async def scenario() -> None:
            with pytest.raises(errors.ProviderError, match="ZeroDivisionError"):
                await wait_for(shared_poller("isvapp_default", connecting), pending)
            assert (await later[0]).id == pending

        run(scenario())

    def test_an_error_shared_by_many_waiters_does_not_grow(self, isvapp: Emulator) -> None:
        export_ids = create_exports(50)
        isvapp.inject(Fault(endpoint="list_exports", kind="status", status=403, message="refused", times=None))

        async def scenario() -> list[Export | BaseException]:
            poller = ExportPoller("isvapp_default", connect)
            waits = (wait_for(poller, export_id) for export_id in export_ids)
            return await asyncio.gather(*waits, return_exceptions=True)

        error = run(scenario())[-1]
        depth, traceback = 0, error.__traceback__ if isinstance(error, BaseException) else None
        while traceback is not None:
            depth, traceback = depth + 1, traceback.tb_next
        assert 0 < depth < 10


class TestOutcomes:
    def test_errored_carries_the_vendors_message(self, isvapp: Emulator, pending: str, clock: ManualClock) -> None:
        isvapp.inject(Fault(endpoint="show_export", kind="export_errors", message="Salesforce said no", times=1))
        with IsvappHook() as hook:
            hook.get_export(pending)
        clock.advance(61)

        with pytest.raises(errors.ExportFailed, match="Salesforce said no"):
            run(_one_wait(pending))

    def test_expired_is_its_own_error(self, isvapp: Emulator, pending: str, clock: ManualClock) -> None:
        clock.advance(61)
        with IsvappHook() as hook:
            hook.get_export(pending)
        clock.advance(3700)

        with pytest.raises(errors.ExportExpired, match=f"Export {pending} expired"):
            run(_one_wait(pending))

    def test_a_deadline_that_passes_names_the_last_state(self, isvapp: Emulator, pending: str) -> None:
        with pytest.raises(
            errors.ExportTimeout, match=r"not finished in time; last seen PENDING at \d\d:\d\d:\d\d UTC"
        ):
            run(_one_wait(pending, seconds=0.2))

    def test_a_deadline_that_passes_during_an_outage_names_the_last_error(self, isvapp: Emulator, pending: str) -> None:
        isvapp.inject(Fault(endpoint="list_exports", kind="status", status=503, times=None))

        with pytest.raises(errors.ExportTimeout, match=r"the last poll failed: ISVapp did not answer .* 503"):
            run(_one_wait(pending, seconds=0.2))

    def test_an_export_is_looked_at_even_if_the_deadline_is_past(
        self, isvapp: Emulator, pending: str, clock: ManualClock
    ) -> None:
        clock.advance(61)

        assert run(_one_wait(pending, seconds=-600.0)).id == pending

    def test_the_last_look_is_at_the_deadline(self, isvapp: Emulator, pending: str) -> None:
        started = time.monotonic()
        with pytest.raises(errors.ExportTimeout):
            run(_one_wait(pending, seconds=0.3, poll_interval=600.0))

        assert time.monotonic() - started < 1.5
        assert isvapp.request_counts()["list_exports"] == 1

    def test_a_request_that_hangs_past_the_deadline_ends_the_wait(
        self, isvapp: Emulator, pending: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(export_poller, "DEADLINE_GRACE", 0.1)
        isvapp.inject(Fault(endpoint="list_exports", kind="delay", seconds=5.0))

        started = time.monotonic()
        with pytest.raises(errors.ExportTimeout, match="not seen yet"):
            run(_one_wait(pending, seconds=0.1))
        assert time.monotonic() - started < 2.0


async def _one_wait(export_id: str, *, seconds: float = 600.0, poll_interval: float = POLL_INTERVAL) -> Export:
    return await wait_for(
        ExportPoller("isvapp_default", connect), export_id, seconds=seconds, poll_interval=poll_interval
    )


@pytest.mark.parametrize(
    ("waited", "poll_interval", "expected"),
    [(0, 30, 2), (8, 30, 2), (20, 30, 5), (60, 30, 15), (120, 30, 30), (3600, 30, 30), (0, 1, 1), (3600, 1, 1)],
)
def test_intervals_grow_with_the_wait_up_to_the_poll_interval(
    waited: float, poll_interval: float, expected: float
) -> None:
    assert interval_after(waited, poll_interval=poll_interval) == expected
