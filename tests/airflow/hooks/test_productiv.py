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


def test_an_unknown_app_fails_the_task_for_good(productiv: Emulator) -> None:
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
