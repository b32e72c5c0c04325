# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

import airflow_provider_isvapp.emulator as package
from airflow_provider_isvapp.emulator import Emulator, EmulatorConfig, Fault, ManualClock
from tests.unit.emulator.caller import Caller

Start = Callable[..., Caller]
ACCOUNT = "/api/v1/account"


def test_requests_are_logged_in_the_order_of_arrival_without_secrets(caller: Caller, clock: ManualClock) -> None:
    clock.advance(5)
    caller.bearer = caller.token("identity exports").json()["access_token"]
    clock.advance(60)
    export_id = caller.export()
    clock.advance(60)
    url = caller.record(export_id)["download_url"]
    caller.get(url)
    caller.get("/api/v1/salesforce_accounts?includeHealthScores=1")
    caller.get("/nowhere?x=1", headers={"Authorization": ""})
    records = caller.emulator.requests
    assert [(record.at, record.method, record.endpoint, record.status) for record in records] == [
        (5, "POST", "token", 200),
        (65, "POST", "create_export", 201),
        (125, "GET", "show_export", 200),
        (125, "GET", "download", 200),
        (125, "GET", "salesforce_accounts", 403),
        (125, "GET", "unknown", 404),
    ]
    assert [record.credential for record in records] == [*["demo-client"] * 5, None]
    assert records[3].path == f"/api/v1/exports/{export_id}/download/***"
    assert records[4].path == "/api/v1/salesforce_accounts?includeHealthScores=1"
    assert records[3].export_id == export_id
    text = repr(records)
    assert caller.bearer not in text
    assert url.rpartition("/")[2] not in text
    counts = caller.emulator.request_counts()
    assert counts == {
        "token": 1,
        "create_export": 1,
        "show_export": 1,
        "download": 1,
        "salesforce_accounts": 1,
        "unknown": 1,
    }
    assert counts["account"] == 0


def test_reset_keeps_the_configuration_only(caller: Caller) -> None:
    caller.bearer = caller.token("identity exports").json()["access_token"]
    caller.export()
    caller.emulator.inject(Fault(endpoint="account", kind="reset", times=None))
    caller.emulator.reset()
    assert (caller.emulator.requests, caller.emulator.exports) == ([], {})
    assert (caller.emulator.exports_created, caller.emulator.request_counts()) == (0, {})
    assert caller.get(ACCOUNT).status_code == 401
    caller.bearer = caller.emulator.api_key
    assert caller.get(ACCOUNT).status_code == 200


def test_an_outage_keeps_the_state(caller: Caller, clock: ManualClock) -> None:
    export_id, url = caller.export(), caller.emulator.url
    caller.emulator.stop()
    with pytest.raises(requests.ConnectionError):
        caller.get(ACCOUNT)
    clock.advance(60)
    caller.emulator.start()
    assert caller.emulator.url == url
    assert caller.download(export_id).content == caller.emulator.export_bytes(export_id)


def test_a_port_that_is_taken(caller: Caller) -> None:
    port = int(caller.emulator.url.rpartition(":")[2])
    threads = threading.active_count()
    other = Emulator(EmulatorConfig(port=port))
    with pytest.raises(OSError, match="address already in use"):
        other.start()
    other.close()
    assert threading.active_count() == threads


def test_files_are_in_the_spool_directory_until_the_emulator_is_closed(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    with Emulator(EmulatorConfig(spool_dir=str(spool), export_seconds=0)) as emulator:
        caller = Caller(emulator)
        assert caller.record(caller.export())["status"] == "COMPLETED"
        assert len(list(spool.rglob("*.gz"))) == 1
    assert list(spool.iterdir()) == []


def test_a_file_that_cannot_be_written_makes_the_export_fail(tmp_path: Path) -> None:
    with Emulator(EmulatorConfig(spool_dir=str(tmp_path), export_seconds=0)) as emulator:
        next(tmp_path.iterdir()).rmdir()
        caller = Caller(emulator)
        record = caller.record(caller.export())
        assert record["status"] == "ERRORED"
        assert "could not write the file" in record["error_message"]


def test_closing_aborts_slow_responses_and_unfinished_files(start: Start, clock: ManualClock) -> None:
    caller = start(rows=30_000_000)  # writing its file takes minutes
    caller.emulator.inject(Fault(endpoint="account", kind="delay", seconds=300))
    export_id = caller.export()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(caller.get, ACCOUNT)
        while not any(record.endpoint == "account" for record in caller.emulator.requests):
            time.sleep(0.01)
        caller.emulator.close()
        assert isinstance(waiting.exception(), requests.ConnectionError)
    clock.advance(3600)
    assert "the emulator was stopped" in caller.emulator.exports[export_id]["error_message"]


def test_urls_in_responses_have_the_host_of_the_request(caller: Caller) -> None:
    record = caller.create().json()["data"]
    response = caller.get(f"/api/v1/exports/{record['id']}", headers={"Host": "emulator:8099"})
    assert response.json()["data"]["url"] == f"http://emulator:8099/api/v1/exports/{record['id']}"


def test_many_clients_at_once(start: Start, clock: ManualClock) -> None:
    caller = start()
    export_id = caller.export()
    clock.advance(60)
    expected = caller.emulator.export_bytes(export_id)

    def one(number: int) -> bool:
        return caller.download(export_id).content == expected if number % 4 == 0 else bool(caller.get(ACCOUNT))

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(one, range(400)))
    assert caller.emulator.request_counts() == {"create_export": 1, "account": 300, "show_export": 100, "download": 100}


def test_writing_a_file_never_stops_the_server() -> None:
    with Emulator(EmulatorConfig(rows=150_000, export_seconds=0, requests_per_second=None)) as emulator:
        caller = Caller(emulator)
        export_id = caller.export()
        responses = 0
        while emulator.exports[export_id]["status"] == "PENDING":
            assert caller.get("/_emulator/health").status_code == 200
            responses += 1
        # How long a response takes depends on the machine; a server that writes in its event loop sends one or two.
        assert responses > 10
        size = emulator.exports[export_id]["download_size_uncompressed_bytes"]
        assert size == len(emulator.export_bytes(export_id))


def test_real_time_by_default() -> None:
    with Emulator(EmulatorConfig(export_seconds=0.2, requests_per_second=None)) as emulator:
        caller = Caller(emulator)
        before = time.monotonic()
        export_id = caller.export()
        assert caller.record(export_id)["status"] == "PENDING"
        time.sleep(0.25)
        assert caller.record(export_id)["status"] == "COMPLETED"
        assert before <= emulator.requests[0].at <= time.monotonic()


def test_without_aiohttp_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(f"{package.__name__}.server")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'airflow-provider-isvapp\[emulator\]'"):
        package.Emulator  # noqa: B018


def test_files_are_removed_when_the_process_ends(tmp_path: Path) -> None:
    code = (
        "import sys; from airflow_provider_isvapp.emulator import Emulator, EmulatorConfig; "
        "Emulator(EmulatorConfig(spool_dir=sys.argv[1])).start()"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=20)
    assert list(tmp_path.iterdir()) == []
