# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import requests

from airflow_provider_isvapp.emulator import ManualClock
from tests.unit.emulator.caller import Caller

Start = Callable[..., Caller]


def test_a_token_has_the_requested_scopes(caller: Caller) -> None:
    response = caller.token("identity exports")
    assert response.json() | {"access_token": "?"} == {
        "access_token": "?",
        "token_type": "Bearer",
        "expires_in": 3600,
        "scope": "identity exports",
    }
    caller.bearer = response.json()["access_token"]
    assert caller.get("/api/v1/account").json()["success"] is True
    assert caller.get("/api/v1/exports").json() == {"data": [], "success": True}
    refused = caller.get("/api/v1/salesforce_accounts")
    assert refused.status_code == 403
    assert "'salesforce_accounts'" in refused.json()["error"]
    assert refused.json()["success"] is False


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/api/v1/account", "identity"),
        ("/api/v1/exports", "exports"),
        ("/api/v1/exports/x", "exports"),
        ("/api/v1/exports/x/download/y", "exports"),
        ("/api/v1/salesforce_accounts", "salesforce_accounts"),
    ],
)
def test_every_endpoint_names_the_scope_it_needs(caller: Caller, path: str, scope: str) -> None:
    other = "exports" if scope == "identity" else "identity"
    caller.bearer = caller.token(other).json()["access_token"]
    refused = caller.get(path)
    assert (refused.status_code, f"'{scope}'" in refused.json()["error"]) == (403, True)


def test_an_api_key_needs_its_permission(caller: Caller) -> None:
    assert caller.get("/api/v1/account").status_code == 200
    caller.bearer = caller.emulator.api_key_without_scope
    refused = caller.get("/api/v1/account")
    assert refused.status_code == 403
    assert "ISVapp metrics retrieval" in refused.json()["error"]


@pytest.mark.parametrize(
    ("scope", "form", "status", "code"),
    [
        ("everything", {}, 400, "invalid_scope"),
        ("", {}, 400, "invalid_scope"),
        ("identity", {"grant_type": "password"}, 400, "unsupported_grant_type"),
    ],
)
def test_bad_token_requests(caller: Caller, scope: str, form: dict[str, str], status: int, code: str) -> None:
    response = caller.token(scope, **form)
    assert (response.status_code, response.json()["error"], response.json()["success"]) == (status, code, False)


def test_a_wrong_secret_gives_no_token(caller: Caller) -> None:
    response = requests.post(
        f"{caller.emulator.url}/api/oauth2/token",
        auth=(caller.emulator.client_id, "wrong"),
        data={"grant_type": "client_credentials", "scope": "identity"},
        timeout=10,
    )
    assert (response.status_code, response.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize("authorization", ["", "Bearer ", "Bearer unknown", "Basic eDp5", "nonsense"])
def test_a_request_without_a_valid_token_is_rejected(caller: Caller, authorization: str) -> None:
    response = caller.get("/api/v1/account", headers={"Authorization": authorization})
    assert (response.status_code, response.json()["success"]) == (401, False)


def test_a_token_expires(start: Start, clock: ManualClock) -> None:
    caller = start(token_seconds=90)
    response = caller.token("identity")
    assert response.json()["expires_in"] == 90
    caller.bearer = response.json()["access_token"]
    clock.advance(89)
    assert caller.get("/api/v1/account").status_code == 200
    clock.advance(1)
    assert caller.get("/api/v1/account").status_code == 401


def test_productiv_tokens_are_not_for_isvapp(caller: Caller) -> None:
    credentials = {
        "client_id": caller.emulator.productiv_client_id,
        "client_secret": caller.emulator.productiv_client_secret,
    }
    caller.bearer = caller.productiv_token(**credentials).json()["access_token"]
    assert caller.get("/pull/v1/apps").status_code == 200
    assert caller.get("/api/v1/account").status_code == 401


def test_the_account(caller: Caller) -> None:
    assert set(caller.get("/api/v1/account").json()["data"]) == {"id", "company_name"}


def test_an_export_is_pending_then_completed_then_expired(caller: Caller, clock: ManualClock) -> None:
    created = caller.create()
    record = created.json()["data"]
    export_id = record["id"]
    assert record["status"] == "PENDING"
    assert record["url"] == f"{caller.emulator.url}/api/v1/exports/{export_id}"
    assert record["created_at"] == "2024-04-15T12:00:00.000000Z"
    assert record["download_url"] is record["completed_at"] is record["expires_at"] is None
    clock.advance(59)
    assert caller.record(export_id)["status"] == "PENDING"
    clock.advance(1)
    record = caller.record(export_id)
    assert record["status"] == "COMPLETED"
    assert record["completed_at"] == "2024-04-15T12:01:00.000000Z"
    assert record["expires_at"] == "2024-04-15T13:01:00.000000Z"
    assert record["is_expired"] is False
    body = caller.raw(export_id)
    assert record["download_size_compressed_bytes"] == len(body)
    assert record["download_size_uncompressed_bytes"] == len(caller.emulator.export_bytes(export_id))
    assert caller.get(record["download_url"]).content == caller.emulator.export_bytes(export_id)
    assert caller.emulator.token_mark in record["download_url"]
    clock.advance(3600)
    expired = caller.record(export_id)
    assert (expired["status"], expired["is_expired"], expired["download_url"]) == ("COMPLETED", True, None)
    refused = caller.get(record["download_url"])
    assert (refused.status_code, refused.json()["success"]) == (410, False)


def test_a_create_responds_pending_even_if_the_file_exists(start: Start) -> None:
    caller = start(export_seconds=0)
    assert caller.record(caller.export())["status"] == "COMPLETED"
    assert caller.create().json()["data"]["status"] == "PENDING"


def test_an_export_that_is_first_polled_late_has_completed_on_time(caller: Caller, clock: ManualClock) -> None:
    export_id = caller.export()
    caller.record(export_id)
    clock.advance(1000)
    assert caller.record(export_id)["completed_at"] == "2024-04-15T12:01:00.000000Z"


def test_a_download_needs_the_token_of_its_own_export(caller: Caller, clock: ManualClock) -> None:
    first, second = caller.export(), caller.export()
    assert caller.get(f"/api/v1/exports/{first}/download/0-x").status_code == 404
    clock.advance(60)
    url = caller.record(first)["download_url"]
    assert caller.get(url.replace(first, second)).status_code == 403
    assert caller.get(url[:-1] + ("0" if url[-1] != "0" else "1")).status_code == 403
    for nonsense in ("nonsense", "1-é"):
        assert caller.get(f"/api/v1/exports/{first}/download/{nonsense}").status_code == 403
    assert caller.get(url, headers={"Authorization": ""}).status_code == 401
    assert caller.get(url).status_code == 200


def test_a_download_url_can_expire_before_its_export(start: Start, clock: ManualClock) -> None:
    caller = start(download_url_seconds=30)
    export_id = caller.export()
    clock.advance(60)
    url = caller.record(export_id)["download_url"]
    clock.advance(30)
    assert caller.get(url).status_code == 403
    assert caller.download(export_id).status_code == 200


def test_the_list_holds_the_1000_most_recent(caller: Caller) -> None:
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {caller.bearer}"
        order = {"type": "TAXONOMY_ITEM", "aggregation": "MONTHLY", "timeframe": "2024-02", "taxonomy_ids": ["a"]}
        ids = [
            session.post(f"{caller.emulator.url}/api/v1/exports", json=order, timeout=10).json()["data"]["id"]
            for _ in range(1003)
        ]
    listed = [record["id"] for record in caller.get("/api/v1/exports").json()["data"]]
    assert listed == ids[:2:-1]
    assert caller.record(ids[0])["id"] == ids[0]
    assert caller.emulator.exports_created == 1003


def test_an_unknown_export_is_not_found(caller: Caller) -> None:
    response = caller.get("/api/v1/exports/none-such")
    assert response.status_code == 404
    assert "none-such" in response.json()["error"]
    assert caller.get("/api/v2/exports").status_code == 404


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"type": ...}, "type is required"),
        ({"type": "ACCOUNT"}, "type must be TAXONOMY_ITEM"),
        ({"aggregation": ...}, "aggregation is required"),
        ({"aggregation": "DAILY"}, "aggregation must be MONTHLY"),
        ({"timeframe": ...}, "timeframe is required"),
        ({"timeframe": "2024-13"}, "timeframe must be YYYY-MM"),
        ({"timeframe": "2024-2"}, "timeframe must be YYYY-MM"),
        ({"timeframe": "LATEST"}, "timeframe must be YYYY-MM"),
        ({"timeframe": 202402}, "timeframe must be YYYY-MM"),
        ({"timeframe": "2024-04"}, "2024-04 is not complete yet. The latest completed month is 2024-03"),
        ({"timeframe": "2031-01"}, "not complete yet"),
        ({"timeframe": "2014-12"}, "no data for 2014-12"),
        ({"taxonomy_ids": ...}, "Exactly one of"),
        ({"taxonomy_ids": None}, "Exactly one of"),
        ({"taxonomy_item_ids": ["x"]}, "Exactly one of"),
        ({"taxonomy_ids": []}, "taxonomy_ids must be a non-empty array"),
        ({"taxonomy_ids": "abc"}, "taxonomy_ids must be a non-empty array"),
        ({"taxonomy_ids": [1]}, "taxonomy_ids must be a non-empty array"),
        ({"taxonomy_ids": [""]}, "taxonomy_ids must be a non-empty array"),
        ({"salesforce_account_ids": []}, "salesforce_account_ids must be a non-empty array"),
        ({"salesforce_account_ids": ["0014x000FVCAPX"]}, "not an id of 15 or 18 characters"),
        ({"salesforce_account_ids": ["0014x000FVCAPXFA"]}, "not an id of 15 or 18 characters"),
    ],
)
def test_rejected_create_requests(caller: Caller, changes: dict[str, Any], words: str) -> None:
    response = caller.create(**changes)
    assert (response.status_code, response.json()["success"]) == (422, False)
    assert words in response.json()["error"]
    assert caller.emulator.exports_created == 0


def test_only_the_taxonomies_that_exist_can_be_exported(start: Start) -> None:
    caller = start(taxonomy_ids="taxonomy-1 taxonomy-2")

    assert caller.create(taxonomy_ids=["taxonomy-2", "taxonomy-1"]).status_code == 201
    refused = caller.create(taxonomy_ids=["taxonomy-1", "main"])
    assert (refused.status_code, refused.json()["error"]) == (422, "taxonomy_ids: there is no taxonomy 'main'.")


@pytest.mark.parametrize(("body", "status"), [(b"{", 400), (b"\xff", 400), (b"[]", 422)])
def test_a_create_request_that_is_not_a_json_object(caller: Caller, body: bytes, status: int) -> None:
    assert caller.post("/api/v1/exports", data=body).status_code == status


@pytest.mark.parametrize(
    ("timeframe", "days", "months"),
    [
        ("2024-02", 0, ["2024-02"]),
        ("LATEST_COMPLETED_MONTH", 0, ["2024-03"]),
        ("LATEST_COMPLETED_MONTH", 19, ["2024-03"]),  # 4 May: April is not complete
        ("LATEST_COMPLETED_MONTH", 20, ["2024-04"]),  # 5 May
        (
            "LATEST_12_COMPLETED_MONTHS",
            0,
            [f"2023-{month:02d}" for month in range(4, 13)] + ["2024-01", "2024-02", "2024-03"],
        ),
    ],
)
def test_months_of_a_timeframe(
    caller: Caller, clock: ManualClock, timeframe: str, days: int, months: list[str]
) -> None:
    clock.advance(days * 86400)
    export_id = caller.export(timeframe=timeframe)
    assert list(caller.emulator.exports[export_id]["request"]["months"]) == months


def test_a_month_is_accepted_from_the_day_on_which_it_is_complete(start: Start, clock: ManualClock) -> None:
    caller = start(month_complete_day=10)
    clock.advance(24 * 86400)  # 9 May
    assert caller.create(timeframe="2024-04").status_code == 422
    clock.advance(86400)
    assert caller.create(timeframe="2024-04").status_code == 201


def test_salesforce_accounts_have_the_requested_fields(caller: Caller) -> None:
    def rows(query: str) -> list[dict[str, Any]]:
        data: list[dict[str, Any]] = caller.get(f"/api/v1/salesforce_accounts{query}").json()["data"]
        return data

    plain = rows("")
    assert len(plain) == 50
    assert set(plain[0]) >= {"isvapp_id", "salesforce_id", "name"}
    assert {len(row["salesforce_id"]) for row in plain} == {18}
    scores, orgs = rows("?includeHealthScores=1"), rows("?includeSubscriberOrgs=1")
    everything = rows("?includeHealthScores=1&includeSubscriberOrgs=1")
    assert [row["health_scores"] for row in scores] == [row["health_scores"] for row in everything]
    assert [row["subscriber_orgs"] for row in orgs] == [row["subscriber_orgs"] for row in everything]
    assert set(scores[0]) == set(plain[0]) | {"health_scores"}
    assert set(everything[0]) == set(plain[0]) | {"health_scores", "subscriber_orgs"}
    assert {len(row["health_scores"]) for row in scores} == {0, 1, 2}
    assert {key for row in orgs for org in row["subscriber_orgs"] for key in org} == {"name", "salesforce_id"}


@pytest.mark.parametrize("pretty", [False, True])
def test_salesforce_accounts_can_only_be_copied_verbatim(start: Start, pretty: bool) -> None:
    text = start(pretty=pretty).get("/api/v1/salesforce_accounts?includeHealthScores=1").text
    assert "Müller" in text
    assert "\\u00fc" in text
    assert "\\/" in text
    assert ("\n" in text) is pretty
    scores = re.findall(r'"score":\s*(\d+\.\d+)', text)
    assert any(score.endswith("0") for score in scores)  # which no parser would write
