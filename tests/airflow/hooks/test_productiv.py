# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_isvapp.emulator import Emulator
from airflow_provider_isvapp.hooks.productiv import ProductivHook
from airflow_provider_isvapp.version_compat import AirflowFailException
from tests.support.airflow_connections import SetConnection


def test_apps_come_as_sent_with_their_date(productiv: Emulator) -> None:
    with ProductivHook() as hook:
        active = hook.list_apps()
        everything = hook.list_apps(include_inactive=True)
        verbose = hook.list_apps(verbose=True)

    assert len(active) == 48
    assert len(everything) == 60
    assert active.as_of_date == everything.as_of_date
    assert set(verbose[0]) > {"ApplicationId", "Instances"}


def test_one_app_is_shown_with_its_date(productiv: Emulator) -> None:
    with ProductivHook() as hook:
        listed = hook.list_apps()
        shown = hook.get_app(listed[0]["ApplicationId"])

    assert shown.app["ApplicationId"] == listed[0]["ApplicationId"]
    assert shown.as_of_date == listed.as_of_date


def test_a_call_can_override_the_version_of_the_connection(productiv: Emulator) -> None:
    with ProductivHook() as hook:
        listed = hook.list_apps(api_version="v2")
        by_connection, by_call = (
            hook.get_app(listed[0]["ApplicationId"], api_version=version) for version in (None, "v3")
        )

    assert listed.request["path"] == "/pull/v2/apps"
    assert (by_connection.fiscal_date, by_connection.fiscal_date_range) == (None, None)  # the connection's v1 has none
    assert set(by_call.fiscal_date) == {"FiscalYear", "AsOfMonth"}
    assert set(by_call.fiscal_date_range) == {"Start", "End"}


@pytest.mark.parametrize("call", ["list_apps", "get_app"])
def test_an_unknown_version_of_a_call_is_named(productiv: Emulator, call: str) -> None:
    arguments = ("app",) if call == "get_app" else ()
    with (
        ProductivHook() as hook,
        pytest.raises(AirflowFailException, match="api_version: must be one of v1, v2, v3, not 'v9'"),
    ):
        getattr(hook, call)(*arguments, api_version="v9")


def test_an_unknown_app_is_a_permanent_error(productiv: Emulator) -> None:
    with ProductivHook() as hook, pytest.raises(AirflowFailException, match="no-such-app"):
        hook.get_app("no-such-app")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"login": ""}, "login: empty; it takes the client id"),
        ({"password": None}, "password: empty; it takes the client secret"),
        (
            {"extra": {"auth_url": "login.example/token"}},
            "extra auth_url: 'login.example/token' is not a full URL",
        ),
        ({"extra": {"api_version": "v9"}}, "extra api_version: must be one of v1, v2, v3, not 'v9'"),
    ],
)
def test_a_wrong_field_of_the_connection_is_named(
    set_connection: SetConnection, changes: dict[str, Any], message: str
) -> None:
    set_connection("broken", **{"conn_type": "productiv", "login": "client", "password": "secret", **changes})

    with pytest.raises(AirflowFailException, match=message):
        ProductivHook(productiv_conn_id="broken").list_apps()


def test_a_missing_connection_is_named() -> None:
    with pytest.raises(AirflowFailException, match="Connection 'nowhere' is not defined in Airflow"):
        ProductivHook(productiv_conn_id="nowhere").list_apps()


def test_tokens_are_hidden_from_logs(productiv: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden: list[str] = []
    monkeypatch.setattr("airflow_provider_isvapp.hooks.base.mask_secret", hidden.append)

    with ProductivHook() as hook:
        hook.list_apps()

    assert len([secret for secret in hidden if productiv.token_mark in secret]) == 1
