# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

from airflow_provider_isvapp.emulator import Fault, FaultKind, ManualClock
from airflow_provider_isvapp.emulator.data import Restatement
from airflow_provider_isvapp.transfer.summary import COUNTERS
from tests.unit.emulator.caller import Caller
from tests.unit.emulator.wire import WireResponse, exchange

Start = Callable[..., Caller]
Ready = Callable[..., tuple[Caller, str]]
ACCOUNT = "/api/v1/account"


def inject(caller: Caller, endpoint: str, kind: str, **fields: Any) -> None:
    caller.emulator.inject(Fault(endpoint=endpoint, kind=kind, **fields))


def wire(caller: Caller, path: str) -> WireResponse:
    return exchange(path if path.startswith("http") else caller.emulator.url + path, caller.bearer)


# Which requests a fault applies to


def test_a_fault_happens_as_often_as_requested(caller: Caller) -> None:
    inject(caller, "account", "status", times=2, after=1)
    assert [caller.get(ACCOUNT).status_code for _ in range(5)] == [200, 503, 503, 200, 200]
    inject(caller, "account", "status", times=None)
    assert [caller.get(ACCOUNT).status_code for _ in range(5)] == [503] * 5
    caller.emulator.clear_faults()
    assert caller.get(ACCOUNT).status_code == 200


def test_a_fault_applies_to_its_endpoint_or_to_all(caller: Caller) -> None:
    inject(caller, "list_exports", "status")
    assert caller.get(ACCOUNT).status_code == 200
    assert caller.get("/api/v1/exports").status_code == 503
    inject(caller, "*", "status", times=3)
    assert caller.get(ACCOUNT).status_code == 503
    assert caller.token("identity").status_code == 503
    assert caller.get("/pull/v1/apps").status_code == 503


def test_a_fault_applies_to_its_export(caller: Caller) -> None:
    first, second = caller.export(), caller.export()
    inject(caller, "show_export", "status", status=500, export_id=second)
    assert caller.get(f"/api/v1/exports/{first}").status_code == 200
    assert caller.get("/api/v1/exports").status_code == 200
    assert caller.get(f"/api/v1/exports/{second}").status_code == 500
    assert caller.get(f"/api/v1/exports/{second}").status_code == 200


def test_faults_apply_in_order_until_one_replaces_the_response(caller: Caller) -> None:
    inject(caller, "account", "edit", replace={"id": "edited"})
    inject(caller, "account", "edit", remove=["company_name"])
    inject(caller, "account", "status", status=500)
    inject(caller, "account", "status", status=502)
    assert caller.get(ACCOUNT).status_code == 500
    assert caller.get(ACCOUNT).status_code == 502
    inject(caller, "account", "edit", replace={"id": "edited"})
    inject(caller, "account", "edit", remove=["company_name"])
    assert caller.get(ACCOUNT).json()["data"] == {"id": "edited"}


def test_a_request_over_the_limit_uses_up_no_fault(start: Start) -> None:
    caller = start(requests_per_second=1)
    assert caller.get(ACCOUNT).status_code == 200
    inject(caller, "account", "status", status=500)
    assert caller.get(ACCOUNT).status_code == 429
    caller.bearer = caller.emulator.api_key_without_scope
    assert caller.get(ACCOUNT).status_code == 500


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"endpoint": "account", "kind": "explode"}, "unknown kind of fault 'explode'"),
        ({"endpoint": "accounts", "kind": "reset"}, "unknown endpoint 'accounts'"),
        ({"endpoint": "account", "kind": "flip"}, "flip happens at download, not at account"),
        ({"endpoint": "token", "kind": "token_expires"}, "not at token"),
        ({"endpoint": "account", "kind": "reset", "times": 0}, "times must be at least 1"),
        ({"endpoint": "account", "kind": "reset", "after": -1}, "after at least 0"),
        ({"endpoint": "account", "kind": "redirect"}, "redirect needs location"),
        ({"endpoint": "account", "kind": "slow"}, "slow needs bytes_per_second"),
        ({"endpoint": "create_export", "kind": "export_errors"}, "export_errors needs message"),
        ({"endpoint": "create_export", "kind": "month_missing"}, "month_missing needs month"),
        (
            {"endpoint": "create_export", "kind": "month_restated", "month": "2024-01"},
            "month_restated needs restatement",
        ),
        ({"endpoint": "create_export", "kind": "month_restated", "restatement": "order"}, "needs month"),
        (
            {"endpoint": "create_export", "kind": "month_restated", "month": "2024-01", "restatement": "all"},
            "unknown restatement 'all'; there are counters",
        ),
        ({"endpoint": "account", "kind": "reset", "retry": 1}, "a fault has no retry"),
        ({"kind": "reset"}, "a fault needs endpoint"),
        ({"endpoint": "account", "kind": "reset", "times": "2"}, "times cannot be '2'"),
        ({"endpoint": "account", "kind": "reset", "after": None}, "after cannot be None"),
        ({"endpoint": "account", "kind": "status", "status": True}, "status cannot be True"),
        ({"endpoint": "account", "kind": "status", "message": 5}, "message cannot be 5"),
        ({"endpoint": "account", "kind": "edit", "remove": "id"}, "remove cannot be 'id'"),
        ({"endpoint": "account", "kind": "slow", "bytes_per_second": 0}, "more than 0"),
        ({"endpoint": "account", "kind": "status", "retry_after_form": "soon"}, "must be seconds or date"),
    ],
)
def test_a_fault_that_could_never_happen_is_rejected(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Fault.from_mapping(fields)


def test_a_fault_as_text() -> None:
    text = "endpoint=download, kind=cut, at=0.5, times=forever, after=1"
    assert Fault.from_text(text) == Fault(endpoint="download", kind="cut", at=0.5, times=None, after=1)
    text = "endpoint=account,kind=status,status=500,message=42"
    assert Fault.from_text(text) == Fault(endpoint="account", kind="status", status=500, message="42")
    text = '{"endpoint": "show_export", "kind": "edit", "remove": ["id"], "replace": {"status": "X"}}'
    assert Fault.from_text(text).remove == ["id"]  # type: ignore[comparison-overlap]
    with pytest.raises(ValueError, match="Expecting value"):
        Fault.from_text("endpoint=account,kind=cut,at=half")


# Responses that replace the endpoint's


def test_status_with_the_vendors_error(caller: Caller) -> None:
    inject(caller, "account", "status", status=500, message="Something broke.")
    response = caller.get(ACCOUNT)
    assert (response.status_code, response.json()) == (500, {"error": "Something broke.", "success": False})
    inject(caller, "account", "status", status=200, message="No.")
    response = caller.get(ACCOUNT)
    assert (response.status_code, response.json()) == (200, {"error": "No.", "success": False})
    inject(caller, "productiv_apps", "status", status=500, message="Something broke.")
    assert caller.get("/pull/v1/apps").json() == {"message": "Something broke."}


@pytest.mark.parametrize("status", [200, 503])
def test_status_without_a_body(caller: Caller, status: int) -> None:
    inject(caller, "account", "status", status=status)
    response = caller.get(ACCOUNT)
    assert (response.status_code, response.content) == (status, b"")


@pytest.mark.parametrize("status", [200, 502])
def test_a_gateways_page(caller: Caller, status: int) -> None:
    inject(caller, "account", "html", status=status)
    response = caller.get(ACCOUNT)
    assert (response.status_code, response.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert response.text.startswith("<html>")


def test_retry_after_in_each_form(caller: Caller) -> None:
    inject(caller, "account", "status", status=429)
    assert "Retry-After" not in caller.get(ACCOUNT).headers
    inject(caller, "account", "status", status=429, retry_after=7)
    assert caller.get(ACCOUNT).headers["Retry-After"] == "7"
    inject(caller, "account", "status", status=429, retry_after=6.5, retry_after_form="date")
    assert caller.get(ACCOUNT).headers["Retry-After"] == "Mon, 15 Apr 2024 12:00:07 GMT"


def test_a_redirect(caller: Caller) -> None:
    inject(caller, "account", "redirect", location="http://elsewhere.example/account")
    response = caller.get(ACCOUNT)
    assert (response.status_code, response.headers["Location"]) == (302, "http://elsewhere.example/account")
    inject(caller, "account", "redirect", status=307, location="/api/v1/exports")
    assert caller.get(ACCOUNT, allow_redirects=True).json()["data"] == []


# Changed responses


def test_fields_missing_or_changed(caller: Caller) -> None:
    export_id = caller.export()
    inject(caller, "show_export", "edit", replace={"status": "ARCHIVED", "new": [1]}, remove=["id", "type"])
    record = caller.record(export_id)
    assert (record["status"], record["new"], "id" in record, "type" in record) == ("ARCHIVED", [1], False, False)
    assert caller.record(export_id)["status"] == "PENDING"


def test_the_envelope_missing_or_changed(caller: Caller) -> None:
    inject(caller, "account", "edit", remove=["data"], replace={"success": False})
    assert caller.get(ACCOUNT).json() == {"success": False}
    inject(caller, "account", "edit", replace={"data": 5})
    inject(caller, "account", "edit", replace={"id": "x"})
    assert caller.get(ACCOUNT).json() == {"data": 5, "success": True}


def test_one_record_of_a_list_or_all(caller: Caller) -> None:
    first, second = caller.export(), caller.export()
    inject(caller, "list_exports", "edit", replace={"status": "LOST"}, export_id=first)
    listed = caller.get("/api/v1/exports").json()["data"]
    assert {record["id"]: record["status"] for record in listed} == {first: "LOST", second: "PENDING"}
    inject(caller, "list_exports", "edit", replace={"status": "LOST"})
    assert [record["status"] for record in caller.get("/api/v1/exports").json()["data"]] == ["LOST", "LOST"]


def test_responses_with_tokens_and_of_productiv_can_be_edited(caller: Caller) -> None:
    inject(caller, "token", "edit", remove=["expires_in"])
    assert "expires_in" not in caller.token("identity").json()
    inject(caller, "productiv_token", "edit", replace={"token_type": "mac"})
    secrets = {"client_id": "demo-productiv-client", "client_secret": "demo-productiv-secret"}
    caller.bearer = caller.productiv_token(**secrets).json()["access_token"]
    inject(caller, "productiv_apps", "edit", remove=["AsOfDate"])
    assert set(caller.get("/pull/v1/apps").json()) == {"Apps", "ResponseTimeMs"}


# The connection


def test_a_reset_before_the_response(caller: Caller) -> None:
    inject(caller, "account", "reset")
    response = wire(caller, ACCOUNT)
    assert (response.status, response.was_reset) == (0, True)
    assert caller.emulator.requests[-1].status is None
    assert caller.get(ACCOUNT).status_code == 200


def test_a_reset_in_the_body(ready: Ready) -> None:
    caller, export_id = ready()
    inject(caller, "download", "reset", at=0.5)
    assert wire(caller, caller.record(export_id)["download_url"]).was_reset


@pytest.mark.parametrize("at", [0.01, 0.5, 100, -1, 0.0])
def test_a_body_cut_short_of_its_content_length(ready: Ready, at: float) -> None:
    caller, export_id = ready()
    whole = caller.raw(export_id)
    inject(caller, "download", "cut", at=at)
    response = wire(caller, caller.record(export_id)["download_url"])
    expected = int(len(whole) * at) if isinstance(at, float) else at % len(whole)
    assert (len(response.body), response.was_reset) == (expected, False)
    assert response.body == whole[:expected]
    assert response.headers["content-length"] == str(len(whole))


def test_a_body_cut_without_a_length(ready: Ready) -> None:
    caller, export_id = ready(framing="chunked")
    inject(caller, "download", "cut", at=0.5)
    response = wire(caller, caller.record(export_id)["download_url"])
    assert not response.body.endswith(b"0\r\n\r\n")
    caller, export_id = ready(framing="close")
    whole = caller.raw(export_id)
    inject(caller, "download", "cut", at=0.5)
    response = wire(caller, caller.record(export_id)["download_url"])
    assert response.body == whole[: len(whole) // 2]
    assert not {"content-length", "transfer-encoding"} & response.headers.keys()


def test_json_can_be_cut_as_well(caller: Caller) -> None:
    inject(caller, "account", "cut", at=0.5)
    response = wire(caller, ACCOUNT)
    assert len(response.body) == int(response.headers["content-length"]) // 2
    inject(caller, "account", "cut")
    with pytest.raises(requests.RequestException, match="IncompleteRead"):
        caller.get(ACCOUNT)


def test_a_delay_before_the_response(caller: Caller) -> None:
    inject(caller, "account", "delay", seconds=0.5)
    with pytest.raises(requests.ReadTimeout):
        caller.get(ACCOUNT, timeout=0.1)
    inject(caller, "account", "delay", seconds=0.1, up_to=0.3)
    began = time.monotonic()
    assert caller.get(ACCOUNT).status_code == 200
    assert 0.1 <= time.monotonic() - began < 5


def test_a_delay_in_the_body(ready: Ready) -> None:
    caller, export_id = ready()
    whole = caller.raw(export_id)
    inject(caller, "download", "delay", at=100, seconds=0.5)
    began = time.monotonic()
    with caller.download(export_id, stream=True) as response:
        assert response.raw.read(100, decode_content=False) == whole[:100]
        assert response.raw.read(decode_content=False) == whole[100:]
    assert time.monotonic() - began >= 0.5


def test_a_slow_body(ready: Ready) -> None:
    caller, export_id = ready()
    whole = caller.raw(export_id)
    inject(caller, "download", "slow", bytes_per_second=len(whole) * 4)
    began = time.monotonic()
    assert caller.raw(export_id) == whole
    assert 0.2 <= time.monotonic() - began < 5


def test_the_log_shows_a_request_while_it_is_in_flight(ready: Ready) -> None:
    caller, export_id = ready()
    inject(caller, "download", "delay", at=100, seconds=0.3)
    with caller.download(export_id, stream=True) as response:
        record = caller.emulator.requests[-1]
        assert (record.endpoint, record.export_id, record.status, record.seconds) == ("download", export_id, None, None)
        response.raw.read()
    until = time.monotonic() + 5
    while caller.emulator.requests[-1].seconds is None and time.monotonic() < until:
        time.sleep(0.01)
    assert caller.emulator.requests[-1].status == 200


# The file


def test_a_truncated_file_that_the_headers_agree_with(ready: Ready) -> None:
    for framing in ("length", "chunked"):
        caller, export_id = ready(framing=framing)
        whole = caller.raw(export_id)
        inject(caller, "download", "truncate", at=-1)
        body = caller.raw(export_id)
        assert body == whole[:-1]
        with pytest.raises(EOFError):
            gzip.decompress(body)
        assert caller.record(export_id)["download_size_compressed_bytes"] == len(whole)
        assert caller.raw(export_id) == whole


@pytest.mark.parametrize(
    ("at", "words"), [(0.5, None), (-8, "CRC check failed"), (-4, "Incorrect length of data"), (0, "Not a gzipped")]
)
def test_a_flipped_bit(ready: Ready, at: float, words: str | None) -> None:
    caller, export_id = ready()
    whole = caller.raw(export_id)
    inject(caller, "download", "flip", at=at)
    body = caller.raw(export_id)
    differences = [(a ^ b) for a, b in zip(whole, body, strict=True) if a != b]
    assert differences == [1]
    with pytest.raises(Exception, match=words):
        gzip.decompress(body)


def test_bytes_after_the_end(ready: Ready) -> None:
    caller, export_id = ready()
    whole = caller.raw(export_id)
    inject(caller, "download", "append", message="garbage")
    assert caller.raw(export_id) == whole + b"garbage"


def test_damages_add_up_and_do_not_change_the_file_itself(ready: Ready) -> None:
    caller, export_id = ready(ranges=True, content_encoding=False)
    whole = caller.raw(export_id)
    inject(caller, "download", "truncate", at=100)
    inject(caller, "download", "append", message="garbage")
    assert caller.download(export_id, headers={"Range": "bytes=95-"}).content == whole[95:100] + b"garbage"
    assert caller.raw(export_id) == whole


def test_wrong_sizes_in_the_record(ready: Ready) -> None:
    caller, export_id = ready()
    inject(caller, "show_export", "edit", replace={"download_size_compressed_bytes": 5})
    assert caller.record(export_id)["download_size_compressed_bytes"] == 5


def test_a_file_that_changes_between_two_attempts(ready: Ready) -> None:
    caller, export_id = ready()
    before = caller.download(export_id)
    inject(caller, "download", "file_changes", after=1)
    assert caller.download(export_id).content == before.content
    after = caller.download(export_id)
    assert after.headers["ETag"] != before.headers["ETag"]
    assert after.content != before.content
    assert after.content == caller.emulator.export_bytes(export_id)
    assert caller.download(export_id).content == after.content
    assert caller.record(export_id)["download_size_uncompressed_bytes"] == len(after.content)


# Exports, months and tokens


def test_an_export_that_errors(caller: Caller, clock: ManualClock) -> None:
    inject(caller, "create_export", "export_errors", message="The taxonomy was deleted.")
    export_id, other = caller.export(), caller.export()
    assert caller.record(export_id)["status"] == "PENDING"
    clock.advance(60)
    record = caller.record(export_id)
    assert (record["status"], record["error_message"]) == ("ERRORED", "The taxonomy was deleted.")
    assert record["errored_at"] == "2024-04-15T12:01:00.000000Z"
    assert record["download_url"] is record["completed_at"] is None
    assert caller.get(f"/api/v1/exports/{export_id}/download/1-x").status_code == 404
    assert caller.record(other)["status"] == "COMPLETED"


def test_an_export_that_errors_when_it_is_polled(ready: Ready) -> None:
    caller, export_id = ready()
    inject(caller, "show_export", "export_errors", message="Too late.")
    assert caller.record(export_id)["error_message"] == "Too late."


@pytest.mark.parametrize("endpoint", ["create_export", "show_export", "download"])
def test_an_export_that_expires_early(caller: Caller, clock: ManualClock, endpoint: str) -> None:
    inject(caller, endpoint, "export_expires")
    export_id = caller.export()
    clock.advance(60)
    record = caller.record(export_id)
    assert record["is_expired"] is (endpoint != "download")
    if endpoint == "download":
        assert caller.get(record["download_url"]).status_code == 410
    assert (caller.record(export_id)["is_expired"], caller.record(export_id)["download_url"]) == (True, None)


def test_a_token_that_is_refused_early(caller: Caller) -> None:
    caller.bearer = caller.token("identity").json()["access_token"]
    assert caller.get(ACCOUNT).status_code == 200
    inject(caller, "*", "token_expires")
    assert [caller.get(ACCOUNT).status_code for _ in range(2)] == [401, 401]
    caller.bearer = caller.token("identity").json()["access_token"]
    assert caller.get(ACCOUNT).status_code == 200


def test_a_month_that_is_not_complete_yet_twice(caller: Caller) -> None:
    inject(caller, "create_export", "month_incomplete", times=2, month="2024-03")
    assert caller.create(timeframe="2024-02").status_code == 201
    assert caller.create(timeframe="LATEST_COMPLETED_MONTH").status_code == 201
    for _ in range(2):
        refused = caller.create(timeframe="2024-03")
        assert refused.status_code == 422
        assert "2024-03 is not complete yet. The latest completed month is 2024-02" in refused.json()["error"]
    assert caller.create(timeframe="2024-03").status_code == 201
    inject(caller, "create_export", "month_incomplete")
    assert caller.create(timeframe="2020-01").status_code == 422


def test_a_month_missing_from_an_export(caller: Caller) -> None:
    whole = caller.emulator.export_bytes(caller.export(timeframe="LATEST_12_COMPLETED_MONTHS"))
    month = caller.emulator.export_bytes(caller.export(timeframe="2024-01"))
    inject(caller, "create_export", "month_missing", month="2024-01")
    part = caller.emulator.export_bytes(caller.export(timeframe="LATEST_12_COMPLETED_MONTHS"))
    assert whole.count(month) == 1
    assert part == whole.replace(month, b"")


@pytest.mark.parametrize("restatement", list(Restatement))
def test_a_month_that_is_restated_from_now_on(start: Start, restatement: Restatement) -> None:
    caller = start(rows=500)
    before = _rows_by_month(caller)
    fault = {"endpoint": "create_export", "kind": "month_restated", "month": "2024-01", "times": None}
    posted = caller.post("/_emulator/faults", json=fault | {"restatement": str(restatement)})
    assert posted.status_code == 201
    after = _rows_by_month(caller)
    assert after == _rows_by_month(caller), "every later export has the same restated rows"
    old, new = before.pop("2024-01"), after.pop("2024-01")
    assert after == before, "the other months stay byte for byte"
    assert old != new
    rows, restated = ([json.loads(line) for line in lines] for lines in (old, new))
    changed = [(a, b) for a, b in zip(rows, restated, strict=False) if a != b]
    if restatement == Restatement.COUNTERS:
        keys = {name for a, b in changed for name in a if a[name] != b[name]}
        assert (len(rows), keys) == (len(restated), set(COUNTERS))
        assert len({a["salesforce_account_id"] for a, _ in changed}) == 5
    elif restatement == Restatement.ROWS_LOST:
        assert new == old[::2]
    elif restatement == Restatement.ROWS_DOUBLED:
        assert len(new) == 550
        assert list(dict.fromkeys(new)) == old
    elif restatement == Restatement.ACCOUNTS_RENAMED:
        assert {name for a, b in changed for name in a if a[name] != b[name]} == {"salesforce_account_name"}
        assert len({a["salesforce_account_id"] for a, _ in changed}) == 5
    elif restatement == Restatement.ORDER:
        assert new == old[::-1]
    else:
        assert restated == rows
        assert list(restated[0]) == sorted(rows[0])
    caller.emulator.clear_faults()
    assert _rows_by_month(caller)["2024-01"] == old


def test_restatements_of_one_month_add_up(start: Start) -> None:
    caller = start(rows=500)
    old = _rows_by_month(caller)["2024-01"]
    for restatement in (Restatement.ROWS_LOST, Restatement.ORDER):
        inject(caller, "create_export", "month_restated", month="2024-01", restatement=restatement)
    assert _rows_by_month(caller)["2024-01"] == old[::2][::-1]
    assert _rows_by_month(caller)["2024-01"] == old, "each was to happen once"


def _rows_by_month(caller: Caller) -> dict[str, list[bytes]]:
    rows: dict[str, list[bytes]] = {}
    content = caller.emulator.export_bytes(caller.export(timeframe="LATEST_12_COMPLETED_MONTHS"))
    for line in content.splitlines():
        rows.setdefault(json.loads(line)["reference_date"], []).append(line)
    return rows


def test_every_kind_of_fault_is_tested_here() -> None:
    tested = {
        "append", "cut", "delay", "edit", "export_errors", "export_expires", "file_changes", "flip", "html",
        "month_incomplete", "month_missing", "month_restated", "redirect", "reset", "slow", "status", "token_expires",
        "truncate",
    }  # fmt: skip
    assert tested == {kind.value for kind in FaultKind}
