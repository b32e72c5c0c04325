# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A hundred waits in one poller, which no single response or rotated key affects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_isvapp import errors
from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.emulator import Emulator, Fault, ManualClock
from airflow_provider_isvapp.triggers import waiters
from airflow_provider_isvapp.triggers.poller import ExportPoller
from tests.airflow.triggers.polling import connect, create_exports, rounds, run, wait_for
from tests.support.airflow_connections import SetConnection, isvapp_fields
from tests.support.scripted_server import ScriptedResponse, ScriptedServer, data

WAITS = 100
IDS = [f"export-{number}" for number in range(WAITS)]
LIST = "/api/v1/exports"


def record(export_id: str) -> dict[str, Any]:
    return {"id": export_id, "status": "COMPLETED", "is_expired": False}


def records(*raw: bytes) -> ScriptedResponse:
    """A list of all exports, with these bytes as further records."""
    rows = [*(json.dumps(record(export_id)).encode() for export_id in IDS), *raw]
    return ScriptedResponse(body=b'{"success": true, "data": [' + b",".join(rows) + b"]}")


@pytest.fixture
def server(set_connection: SetConnection) -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        fields = {"conn_type": "isvapp", "host": scripted.url, "password": "key"}
        extra = {"requests_per_second": 1000, "rate_limit_storage": "memory://", "attempts": 1, "read_timeout": 0.5}
        set_connection("isvapp_default", **fields, extra=extra)
        yield scripted


def outcomes(*, more: tuple[str, ...] = ()) -> list[Export | BaseException]:
    async def scenario() -> list[Export | BaseException]:
        poller = ExportPoller("isvapp_default", connect)
        waits = (wait_for(poller, export_id) for export_id in (*IDS, *more))
        return await asyncio.gather(*waits, return_exceptions=True)

    return run(scenario())


# A response of each kind; tests/airflow/hostile sends many more to the triggers.
HOSTILE = {
    "no envelope": ScriptedResponse(body=b'{"message": "maintenance"}'),
    "array": ScriptedResponse(body=b"[]"),
    "redirect": ScriptedResponse(status=302, headers={"Location": "http://[::1"}),
    "401": ScriptedResponse(status=401, body=b'{"error": "who are you"}'),
    "404": ScriptedResponse(status=404, body=b"<html>default backend</html>"),
    "503": ScriptedResponse(status=503),
    "reset": ScriptedResponse(fault="reset"),
    "hang": ScriptedResponse(fault="hang"),
}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_one_response_to_the_list_fails_no_wait(server: ScriptedServer, hostile: str) -> None:
    server.script(LIST, HOSTILE[hostile], *[records()] * 20)

    results = outcomes()

    assert [result for result in results if not isinstance(result, Export)] == []
    assert server.paths().count(LIST) == 2
    assert set(server.paths()) == {LIST}


def test_several_polls_without_the_documented_envelope_end_no_wait(server: ScriptedServer) -> None:
    server.script(LIST, *[HOSTILE["no envelope"], HOSTILE["array"], HOSTILE["404"]], *[records()] * 20)

    assert [result for result in outcomes() if not isinstance(result, Export)] == []


ODD_RECORDS = {
    "status": b'{"id": "odd", "status": ["COMPLETED"]}',
    "no id": b'{"status": "COMPLETED"}',
    "not UTF-8": b'{"id": "odd", "status": "COMPLETED", "type": "\xff"}',
    "number of 5000 digits": b'{"id": "odd", "status": "COMPLETED", "size": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("odd", ODD_RECORDS)
def test_one_record_in_the_list_concerns_its_own_wait_only(
    server: ScriptedServer, odd: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An unreadable record may be readable later.
    monkeypatch.setattr(waiters, "LASTING_FAILURE", 0.0)
    server.script(LIST, *[records(ODD_RECORDS[odd])] * 20)
    server.script(f"{LIST}/odd", *[ScriptedResponse(body=b'{"success": true, "data": ' + ODD_RECORDS[odd] + b"}")] * 20)

    *results, own = outcomes(more=("odd",))

    assert [result for result in results if not isinstance(result, Export)] == []
    assert isinstance(own, errors.ProviderError)
    # The export's own record says so, more than once.
    assert server.paths().count(f"{LIST}/odd") == 2


def test_a_record_that_is_invalid_once_fails_no_wait(server: ScriptedServer) -> None:
    server.script(LIST, *[records(ODD_RECORDS["status"])] * 20)
    server.script(f"{LIST}/odd", ScriptedResponse(body=b"<html>"), data(record("odd")))

    assert [result for result in outcomes(more=("odd",)) if not isinstance(result, Export)] == []


@pytest.mark.parametrize("by", ["api_key", "client"])
def test_a_rotated_key_fails_no_wait(
    emulator: Emulator, set_connection: SetConnection, clock: ManualClock, by: str
) -> None:
    fields = isvapp_fields(emulator)
    old, new = ("demo-api-key", "new-key") if by == "api_key" else (emulator.client_secret, "new-secret")
    if by == "api_key":
        fields["login"] = None
    set_connection("isvapp_default", **fields | {"password": old})
    export_ids = create_exports(WAITS)

    async def scenario() -> list[Export]:
        poller = ExportPoller("isvapp_default", connect)
        waits = asyncio.gather(*(wait_for(poller, export_id) for export_id in export_ids))
        await rounds(emulator, 2)
        set_connection("isvapp_default", **fields | {"password": new})
        emulator.rotate_credentials(client_secret="new-secret", api_key="new-key")
        await rounds(emulator, 3)
        clock.advance(61)
        return await waits

    assert [export.id for export in run(scenario())] == export_ids


def test_a_key_that_is_revoked_before_the_new_one_is_stored_fails_no_wait(
    emulator: Emulator, set_connection: SetConnection, clock: ManualClock
) -> None:
    fields = isvapp_fields(emulator) | {"login": None}
    set_connection("isvapp_default", **fields | {"password": emulator.api_key})
    export_ids = create_exports(WAITS)

    async def scenario() -> list[Export]:
        poller = ExportPoller("isvapp_default", connect)
        waits = asyncio.gather(*(wait_for(poller, export_id) for export_id in export_ids))
        await rounds(emulator, 2)
        emulator.rotate_credentials(client_secret="new-secret", api_key="new-key")
        await rounds(emulator, 3)
        set_connection("isvapp_default", **fields | {"password": "new-key"})
        await rounds(emulator, 2)
        clock.advance(61)
        return await waits

    assert [export.id for export in run(scenario())] == export_ids


def test_a_host_that_moves_fails_no_wait(isvapp: Emulator, set_connection: SetConnection, clock: ManualClock) -> None:
    """The client never takes new credentials to its old host; the poller makes a new client."""
    (export_id,) = create_exports(1)
    clock.advance(61)
    with Emulator() as old_host:
        set_connection("isvapp_default", **isvapp_fields(old_host) | {"password": "revoked"})

        async def scenario() -> Export:
            waiting = asyncio.ensure_future(wait_for(ExportPoller("isvapp_default", connect), export_id))
            while not old_host.request_counts()["token"]:  # noqa: ASYNC110 (the emulator is in another thread)
                await asyncio.sleep(0.01)
            set_connection("isvapp_default", **isvapp_fields(isvapp))
            return await waiting

        assert run(scenario()).id == export_id


def test_lasting_refused_credentials_end_all_waits(
    emulator: Emulator, set_connection: SetConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiters, "LASTING_REFUSAL", 0.3)
    set_connection("isvapp_default", **isvapp_fields(emulator) | {"password": "revoked"})

    results = outcomes()

    assert {type(result) for result in results} == {errors.AuthenticationRefused}
    assert emulator.request_counts()["token"] >= 2


def test_a_fault_of_the_export_itself_ends_its_wait(isvapp: Emulator, pending: str) -> None:
    isvapp.inject(Fault(endpoint="list_exports", kind="edit", replace={"data": []}, times=None))
    isvapp.inject(Fault(endpoint="show_export", kind="status", status=404, message="gone", times=None))

    with pytest.raises(errors.NotFound):
        run(one(pending))


async def one(export_id: str) -> Export:
    return await wait_for(ExportPoller("isvapp_default", connect), export_id)
