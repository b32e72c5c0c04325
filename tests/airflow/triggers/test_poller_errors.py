# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""How a poller handles failed polls."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from airflow_provider_isvapp import errors
from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.emulator import Emulator, Fault, ManualClock
from airflow_provider_isvapp.triggers import waiters
from airflow_provider_isvapp.triggers.poller import ExportPoller, shared_poller
from tests.airflow.triggers.polling import connect, create_exports, one_wait, rounds, run, wait_for
from tests.support.airflow_connections import SetConnection, isvapp_fields


class BreakingClient(IsvappClient):
    """Has a defect."""

    def list_exports(self, **_: object) -> list[Export]:
        raise ZeroDivisionError


class TestTrouble:
    def test_survives_failed_polls_and_notifies_each_task_once(self, isvapp: Emulator, clock: ManualClock) -> None:
        export_ids = create_exports(2)
        isvapp.inject(Fault(endpoint="list_exports", kind="status", status=503, times=3))
        waiting_task: contextvars.ContextVar[str] = contextvars.ContextVar("waiting_task")
        warnings: list[tuple[str, str]] = []

        async def wait(poller: ExportPoller, export_id: str) -> Export:
            waiting_task.set(export_id)
            return await wait_for(
                poller, export_id, on_warning=lambda text: warnings.append((waiting_task.get(), text))
            )

        async def scenario() -> None:
            poller = ExportPoller("isvapp_default", connect)
            waits = asyncio.gather(*(wait(poller, export_id) for export_id in export_ids))
            await rounds(isvapp, 4)
            clock.advance(61)
            await waits

        run(scenario())
        assert sorted(export_id for export_id, _ in warnings) == sorted(export_ids)
        assert "A poll failed; will retry: ISVapp gave no usable response" in warnings[0][1]

    def test_reports_a_lasting_failure_to_all_with_the_last_error(
        self, isvapp: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        export_ids = create_exports(3)
        monkeypatch.setattr(waiters, "LASTING_FAILURE", 0.15)
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
        monkeypatch.setattr(waiters, "LASTING_FAILURE", 0.2)
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
    def test_a_refusal_of_the_credentials_that_lasts_reaches_all_sooner(
        self, isvapp: Emulator, status: int, kind: type[errors.ProviderError], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert waiters.LASTING_REFUSAL < waiters.LASTING_FAILURE
        monkeypatch.setattr(waiters, "LASTING_REFUSAL", 0.15)
        export_ids = create_exports(3)
        isvapp.inject(Fault(endpoint="list_exports", kind="status", status=status, message="refused", times=None))

        async def scenario() -> list[Export | BaseException]:
            poller = ExportPoller("isvapp_default", connect)
            waits = (wait_for(poller, export_id) for export_id in export_ids)
            return await asyncio.gather(*waits, return_exceptions=True)

        assert [type(result) for result in run(scenario())] == [kind] * 3

    def test_an_unknown_export_fails_no_other_wait(self, isvapp: Emulator, pending: str, clock: ManualClock) -> None:
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

        assert run(one_wait(pending)).id == pending

    def test_a_missing_connection_is_read_again_before_the_wait_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(waiters, "LASTING_REFUSAL", 0.15)
        with pytest.raises(errors.InvalidConnection, match="Connection 'isvapp_default' is not defined in Airflow"):
            run(one_wait("export-1"))

    def test_a_wrong_connection_fails(
        self, emulator: Emulator, set_connection: SetConnection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(waiters, "LASTING_REFUSAL", 0.15)
        set_connection("isvapp_default", **isvapp_fields(emulator) | {"password": ""})
        with pytest.raises(errors.InvalidConnection, match="password: empty"):
            run(one_wait("export-1"))

    def test_a_connection_that_cannot_be_read_now_is_read_again(
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

    def test_a_defect_reaches_the_tasks_as_a_retryable_error_after_another_round(
        self, isvapp: Emulator, caplog: pytest.LogCaptureFixture
    ) -> None:
        rounds: list[None] = []

        async def connecting() -> IsvappClient:
            rounds.append(None)
            raise ZeroDivisionError

        async def scenario() -> None:
            await wait_for(ExportPoller("isvapp_default", connecting), "export-1")

        with pytest.raises(errors.ProviderError, match=r"crashed in the provider \(ZeroDivisionError\)") as caught:
            run(scenario())
        assert not caught.value.permanent
        assert len(rounds) == 2
        assert "Traceback" in caplog.text

    def test_a_transient_defect_fails_no_wait(self, isvapp: Emulator, clock: ManualClock) -> None:
        export_ids = create_exports(20)
        clock.advance(61)
        breaks = iter([True, False])

        async def connecting() -> IsvappClient:
            client = await connect()
            client.__class__ = BreakingClient if next(breaks) else IsvappClient
            return client

        async def scenario() -> list[Export]:
            poller = ExportPoller("isvapp_default", connecting)
            return await asyncio.gather(*(wait_for(poller, export_id) for export_id in export_ids))

        assert len(run(scenario())) == 20

    def test_a_defect_in_handling_one_export_fails_only_its_own_wait(
        self, isvapp: Emulator, clock: ManualClock
    ) -> None:
        odd, good = create_exports(2)

        class Client(IsvappClient):
            def get_export(self, export_id: str) -> Export:
                raise ZeroDivisionError

        async def connecting() -> IsvappClient:
            client = await connect()
            client.__class__ = Client
            return client

        # Only exports that are not in the list are requested one by one.
        isvapp.inject(Fault(endpoint="list_exports", kind="edit", export_id=odd, replace={"status": 7}, times=None))

        async def scenario() -> None:
            poller = ExportPoller("isvapp_default", connecting)
            waiting = asyncio.ensure_future(wait_for(poller, good))
            with pytest.raises(errors.ProviderError, match=r"ZeroDivisionError.* Retry the task") as caught:
                await wait_for(poller, odd)
            assert not caught.value.permanent
            await rounds(isvapp, 2)
            clock.advance(61)
            assert (await waiting).id == good

        run(scenario())

    def test_a_poller_that_gave_up_gets_no_new_waits(self, isvapp: Emulator, pending: str, clock: ManualClock) -> None:
        clock.advance(61)

        async def connecting() -> IsvappClient:
            raise ZeroDivisionError

        async def scenario() -> None:
            with pytest.raises(errors.ProviderError, match="ZeroDivisionError"):
                await wait_for(shared_poller("isvapp_default", connecting), pending)
            assert (await wait_for(shared_poller("isvapp_default", connect), pending)).id == pending

        run(scenario())

    def test_an_error_shared_by_many_waiters_does_not_grow(
        self, isvapp: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(waiters, "LASTING_REFUSAL", 0.15)
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
