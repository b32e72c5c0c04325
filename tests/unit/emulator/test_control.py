# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import requests

from airflow_provider_isvapp.emulator import ManualClock
from tests.unit.emulator.caller import Caller

Start = Callable[..., Caller]
ACCOUNT = "/api/v1/account"


def test_health_needs_no_credentials_and_is_neither_limited_nor_logged(start: Start) -> None:
    caller = start(requests_per_second=1)
    for _ in range(5):
        response = requests.get(f"{caller.emulator.url}/_emulator/health", timeout=10)
        assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert caller.emulator.requests == []


def test_state_sums_up_without_secrets(caller: Caller, clock: ManualClock) -> None:
    caller.export()
    clock.advance(60)
    caller.record(caller.export())
    caller.post("/_emulator/faults", json={"endpoint": "account", "kind": "reset", "times": 3})
    # Another thread writes the file of the first one.
    deadline = time.monotonic() + 30
    while (response := caller.get("/_emulator/state")).json()["exports"] == {
        "PENDING": 2
    } and time.monotonic() < deadline:
        time.sleep(0.01)
    state = response.json()
    assert state["requests"] == {"create_export": 2, "show_export": 1}
    assert state["exports_created"] == 2
    assert state["exports"] == {"COMPLETED": 1, "PENDING": 1}
    assert state["in_flight"] == 0
    assert [(fault["kind"], fault["left"]) for fault in state["faults"]] == [("reset", 3)]
    assert state["config"]["rows"] == 200
    for secret in ("demo-client-secret", "demo-api-key", "demo-productiv-secret"):
        assert secret not in response.text


def test_requests_all_or_of_one_endpoint(caller: Caller) -> None:
    caller.get(ACCOUNT)
    caller.create()
    logged = caller.get("/_emulator/requests").json()
    assert [(record["endpoint"], record["status"]) for record in logged] == [("account", 200), ("create_export", 201)]
    assert caller.get("/_emulator/requests?endpoint=account").json() == logged[:1]


def test_exports_and_their_content(caller: Caller, clock: ManualClock) -> None:
    export_id = caller.export()
    clock.advance(60)
    caller.record(export_id)
    response = caller.get("/_emulator/exports")
    record = response.json()[0]
    assert (record["id"], record["status"], record["request"]["months"]) == (export_id, "COMPLETED", ["2024-02"])
    assert "/download/" not in response.text
    content = caller.get(f"/_emulator/exports/{export_id}/content").content
    assert content == caller.emulator.export_bytes(export_id)
    assert caller.get("/_emulator/exports/none-such/content").status_code == 404


def test_faults_over_http(caller: Caller) -> None:
    fault = {"endpoint": "account", "kind": "edit", "remove": ["id"], "replace": {"company_name": "X"}, "times": None}
    assert caller.post("/_emulator/faults", json=fault).status_code == 201
    assert caller.get(ACCOUNT).json()["data"] == {"company_name": "X"}
    assert requests.delete(f"{caller.emulator.url}/_emulator/faults", timeout=10).status_code == 200
    assert "id" in caller.get(ACCOUNT).json()["data"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"endpoint": "account", "kind": "explode"}', "unknown kind"),
        (b'{"endpoint": "account"}', "needs kind"),
        (b"[]", "JSON object"),
        (b"{", "Expecting"),
    ],
)
def test_invalid_faults_are_rejected(caller: Caller, body: bytes, words: str) -> None:
    response = caller.post("/_emulator/faults", data=body)
    assert response.status_code == 422
    assert words in response.json()["error"]


def test_reset(caller: Caller) -> None:
    caller.export()
    assert caller.post("/_emulator/reset").status_code == 200
    assert (caller.emulator.exports, caller.emulator.requests) == ({}, [])
