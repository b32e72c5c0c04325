# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import requests

from airflow_provider_isvapp.api.schema.fields import ListOf, MapOf, Object, Scalar, Type, read_object
from airflow_provider_isvapp.api.schema.productiv import AppDetails, AppResponse, AppsResponse, VerboseAppsResponse
from airflow_provider_isvapp.emulator import ManualClock
from tests.unit.emulator.caller import Caller

Start = Callable[..., Caller]
SECRETS = {"client_id": "demo-productiv-client", "client_secret": "demo-productiv-secret"}


@pytest.fixture
def productiv(caller: Caller) -> Caller:
    caller.bearer = caller.productiv_token(**SECRETS).json()["access_token"]
    return caller


def test_a_token_for_credentials_in_the_form_or_the_header(caller: Caller) -> None:
    response = caller.productiv_token(**SECRETS)
    assert set(response.json()) == {"access_token", "token_type", "expires_in"}
    basic = requests.post(
        caller.emulator.productiv_token_url,
        auth=(SECRETS["client_id"], SECRETS["client_secret"]),
        data={"grant_type": "client_credentials", "scope": "https://api.productiv.com/apps.read"},
        timeout=10,
    )
    assert basic.status_code == 200


def test_a_secret_in_the_header_is_plain(start: Start) -> None:
    secret = 'a:b/c+d &"%41='
    caller = start(productiv_client_secret=secret)
    response = requests.post(
        caller.emulator.productiv_token_url,
        auth=(caller.emulator.productiv_client_id, secret),
        data={"grant_type": "client_credentials", "scope": "https://api.productiv.com/apps.read"},
        timeout=10,
    )
    assert response.status_code == 200
    assert response.json()["access_token"].startswith(caller.emulator.token_mark)


@pytest.mark.parametrize(
    ("form", "status", "code"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"scope": "identity"}, 400, "invalid_scope"),
        ({"scope": ""}, 400, "invalid_scope"),
        ({"grant_type": ""}, 400, "unsupported_grant_type"),
    ],
)
def test_bad_token_requests(caller: Caller, form: dict[str, str], status: int, code: str) -> None:
    response = caller.productiv_token(**SECRETS | form)
    assert (response.status_code, response.json()["error"]) == (status, code)


def test_a_request_without_a_token_is_rejected(caller: Caller) -> None:
    for path in ("/pull/v1/apps", "/pull/v1/apps/app-0001"):
        assert caller.get(path).status_code == 401  # an ISVapp key is not valid here


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_the_list_of_apps(productiv: Caller, version: str) -> None:
    response = productiv.get(f"/pull/{version}/apps").json()
    fiscal = [] if version == "v1" else ["FiscalDate", "FiscalDateRange"]
    assert list(response) == ["AsOfDate", *fiscal, "Apps", "ResponseTimeMs"]
    assert response["AsOfDate"] == "2024-04-14"
    assert len(response["Apps"]) == 48
    assert not any(row.get("IsInactive") for row in response["Apps"])


def test_unknown_versions_do_not_exist(productiv: Caller) -> None:
    assert productiv.get("/pull/v4/apps").status_code == 404


@pytest.mark.parametrize(
    ("query", "count", "is_verbose"),
    [
        ("?includeInactive=true", 60, False),
        ("?includeInactive=false", 48, False),
        ("?verbose=true", 48, True),
        ("?includeInactive=true&verbose=true", 60, True),
    ],
)
def test_inactive_apps_and_details_on_request(productiv: Caller, query: str, count: int, is_verbose: bool) -> None:
    apps = productiv.get(f"/pull/v1/apps{query}").json()["Apps"]
    assert len(apps) == count
    assert ("FiscalSpend" in apps[0]) is is_verbose


def test_an_apps_details(productiv: Caller) -> None:
    listed = productiv.get("/pull/v1/apps?verbose=true").json()["Apps"][1]
    first = productiv.get("/pull/v1/apps/app-0001").json()
    assert list(first) == ["App", "AsOfDate", "ResponseTimeMs"]
    assert first["App"] == listed
    for version in ("v2", "v3"):
        later = productiv.get(f"/pull/{version}/apps/app-0001").json()
        assert later["FiscalDate"] == {"FiscalYear": "2024", "AsOfMonth": "04"}
        assert later["FiscalDateRange"] == {"Start": "2024-01-01", "End": "2024-12-31"}
        assert set(later) - set(first) == {"FiscalDate", "FiscalDateRange"}
        assert later["App"] == listed


def test_an_unknown_app(productiv: Caller) -> None:
    response = productiv.get("/pull/v1/apps/none-such")
    assert response.status_code == 404
    assert "none-such" in response.json()["message"]


def test_apps_can_only_be_copied_verbatim(productiv: Caller) -> None:
    text = productiv.get("/pull/v1/apps?verbose=true").text
    for spelling in ("1e3", ".50", ".00", "12345678901234567890.10", "Übersetzer", "\\u00dc", "\\/"):
        assert spelling in text


def test_the_same_in_every_run_and_other_apps_for_another_seed(start: Start, clock: ManualClock) -> None:
    def apps(**options: Any) -> Any:
        caller = start(**options)
        caller.bearer = caller.productiv_token(**SECRETS).json()["access_token"]
        return caller.get("/pull/v1/apps").json()["Apps"]

    assert apps() == apps()
    assert apps(seed=2) != apps()
    assert len(apps(apps=7)) == 6


def test_there_is_no_rate_limit(start: Start) -> None:
    caller = start(requests_per_second=1)
    caller.bearer = caller.productiv_token(**SECRETS).json()["access_token"]
    assert {caller.get("/pull/v1/apps").status_code for _ in range(5)} == {200}


def test_sixty_apps_show_every_documented_field_value_and_absent_key(productiv: Caller) -> None:
    text = productiv.get("/pull/v1/apps?verbose=true&includeInactive=true").text
    apps = json.loads(text)["Apps"]
    shown: dict[str, set[Any]] = {}

    def walk(value: Any, kind: Type, path: str) -> None:
        if isinstance(kind, Scalar):
            shown.setdefault(path, set()).add(value)
        elif isinstance(kind, ListOf):
            for item in value:
                walk(item, kind.items, path)
        elif isinstance(kind, MapOf):
            for key, item in value.items():
                shown.setdefault(path, set()).add(key)
                walk(item, kind.values, f"{path}.*")
        else:
            variants = dict(kind.variants)
            for field in kind.fields:
                inner = f"{path}.{field.name}"
                shown.setdefault(f"{inner} is there", set()).add(field.name in value)
                if field.name == kind.varies:
                    tag = value[kind.tag]
                    walk(value[field.name], variants[tag], f"{inner}.{tag}")
                elif value.get(field.name) is not None:
                    walk(value[field.name], field.type, inner)
                elif field.name in value:
                    shown.setdefault(inner, set()).add(None)

    def expect(kind: Type, path: str) -> None:
        if isinstance(kind, Scalar):
            assert set(kind.values) <= shown[path], path
        elif isinstance(kind, ListOf):
            expect(kind.items, path)
        elif isinstance(kind, MapOf):
            assert shown[path] >= set(kind.keys), path
            expect(kind.values, f"{path}.*")
        else:
            for field in kind.fields:
                inner = f"{path}.{field.name}"
                if inner.endswith((".Instances.Activity.LicenseTier", ".Instances.SSOProtocols.SupportedProtocols")):
                    assert shown[f"{inner} is there"] == {False}, inner
                    continue
                always = field.required or inner == ".SSOProtocols.SupportedProtocols"
                assert shown[f"{inner} is there"] == ({True} if always else {True, False}), inner
                assert (None in shown.get(inner, ())) is field.nullable, inner
                if field.name != kind.varies:
                    expect(field.type, inner)
            for tag, variant in kind.variants:
                expect(variant, f"{path}.{kind.varies}.{tag}")

    for row in apps:
        walk(row, read_object(AppDetails), "")
    expect(read_object(AppDetails), "")


@pytest.mark.parametrize(
    ("path", "struct"),
    [
        ("/pull/v1/apps", AppsResponse),
        ("/pull/v3/apps?verbose=true&includeInactive=true", VerboseAppsResponse),
        ("/pull/v1/apps/app-0001", AppResponse),
        ("/pull/v2/apps/app-0001", AppResponse),
    ],
)
def test_responses_are_as_documented(productiv: Caller, path: str, struct: type[Object]) -> None:
    msgspec.json.decode(productiv.get(path).content, type=struct)
