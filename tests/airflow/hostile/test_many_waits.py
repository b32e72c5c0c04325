# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A hundred deferred waits share a poll: no single bad response ends any of them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from airflow_provider_isvapp.triggers.isvapp import IsvappExportTrigger
from tests.support.airflow_connections import SetConnection, forget_shared_tokens
from tests.support.hostile import responses
from tests.support.hostile.clients import secrets_of
from tests.support.hostile.responses import HostileResponse
from tests.support.hostile.vendors import CLIENT_ID, CLIENT_SECRET, ENDPOINTS, EXPORT_ID, Vendors, export_record
from tests.support.hostile.verdict import LogText, problems_of_message, problems_of_text
from tests.support.hostile.wire_server import Seen, Step

WAITS = 100
OTHERS = [f"other-{number}" for number in range(WAITS)]


@pytest.fixture(autouse=True)
def quick(vendors: Vendors, set_connection: SetConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_isvapp.triggers.isvapp.EARLIEST_EVENT", 0.0)
    monkeypatch.setattr("airflow_provider_isvapp.triggers.waiters.FIRST_INTERVAL", 0.02)
    set_connection(
        "isvapp_default",
        conn_type="isvapp",
        host=vendors.url,
        login=CLIENT_ID,
        password=CLIENT_SECRET,
        extra={"requests_per_second": 1000, "rate_limit_storage": "memory://", "attempts": 1, "read_timeout": 0.3},
    )


def events_of(export_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Run a trigger for each export beside the others, as a triggerer does, and return their events."""

    async def event(export_id: str) -> dict[str, Any]:
        trigger = IsvappExportTrigger(
            export_id=export_id,
            isvapp_conn_id="isvapp_default",
            deadline=time.time() + 20,
            poll_interval=0.02,
            known_since=time.time() - 3600,
        )
        return (await anext(aiter(trigger.run()))).payload

    async def all_events() -> list[dict[str, Any]]:
        return await asyncio.wait_for(asyncio.gather(*map(event, export_ids)), timeout=30)

    ids = list(export_ids)
    return json.loads(json.dumps(dict(zip(ids, asyncio.run(all_events()), strict=True))))


def listed(vendors: Vendors, export_ids: Iterable[str]) -> Callable[[Seen], Iterable[Step]]:
    records = [export_record(vendors.url, export_id=export_id) for export_id in export_ids]
    body = json.dumps({"data": records, "success": True}).encode()
    return lambda _: responses.whole(200, body)


def once(bad: HostileResponse, good: Callable[[Seen], Iterable[Step]]) -> Callable[[Seen], Iterable[Step]]:
    left = [bad.play]
    return lambda seen: (left.pop() if left else good)(seen)


@pytest.mark.parametrize("endpoint", ["list", "token"])
def test_one_bad_response_ends_no_wait(
    endpoint: str, vendors: Vendors, logged: LogText, capsys: pytest.CaptureFixture[str]
) -> None:
    good = listed(vendors, OTHERS)
    secrets = secrets_of(ENDPOINTS[endpoint])
    found: list[str] = []
    for cell in responses.sample(ENDPOINTS[endpoint], vendors.url, "127.0.0.1:9"):
        vendors.restore()
        forget_shared_tokens()
        vendors.spoil("list", once(cell, good) if endpoint == "list" else good)
        if endpoint == "token":
            vendors.spoil("token", cell.play, times=1)

        events = events_of(OTHERS)

        failed = {export_id: event for export_id, event in events.items() if "export" not in event}
        if failed:
            found.append(f"{cell.name}: {len(failed)} of {len(events)} waits failed: {next(iter(failed.values()))}")
        written = "\n".join([logged.take(), *capsys.readouterr(), json.dumps(events)])
        found += [f"{cell.name}: {problem}" for problem in problems_of_text("what is left", written, secrets)]
    assert not found, "\n".join(found)


def test_an_unreadable_export_affects_only_its_own_wait(
    vendors: Vendors, logged: LogText, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One export is not in the list, and each poll of it gets the bad response; the other waits succeed meanwhile."""
    good = listed(vendors, OTHERS)
    secrets = secrets_of(ENDPOINTS["show"])
    found: list[str] = []
    for name in ("LASTING_FAILURE", "LASTING_REFUSAL"):
        monkeypatch.setattr(f"airflow_provider_isvapp.triggers.waiters.{name}", 0.05)
    for cell in responses.sample(ENDPOINTS["show"], vendors.url, "127.0.0.1:9"):
        vendors.restore()
        forget_shared_tokens()
        vendors.spoil("list", good)
        vendors.spoil("show", cell.play)

        events = events_of([EXPORT_ID, *OTHERS])

        own = events.pop(EXPORT_ID)
        failed = [event for event in events.values() if "export" not in event]
        if failed:
            found.append(f"{cell.name}: {len(failed)} other waits failed: {failed[0]}")
        if "export" not in own:
            found += [f"{cell.name}: {problem}" for problem in problems_of_message(own["message"], secrets)]
        written = "\n".join([logged.take(), *capsys.readouterr(), json.dumps(own)])
        found += [f"{cell.name}: {problem}" for problem in problems_of_text("what is left", written, secrets)]
    assert not found, "\n".join(found)
