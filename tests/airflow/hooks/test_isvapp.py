# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_isvapp import errors
from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.api.schema.isvapp import ExportStatus
from airflow_provider_isvapp.emulator import Emulator, Fault, ManualClock
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.version_compat import AirflowException, AirflowFailException
from tests.support.airflow_connections import SetConnection, isvapp_fields

TAXONOMY = ["c9d7ddb0-0000-4000-8000-000000000001"]


def test_create_show_and_list_exports_as_typed_values(isvapp: Emulator, clock: ManualClock) -> None:
    with IsvappHook() as hook:
        created = hook.create_export(timeframe="LATEST_COMPLETED_MONTH", taxonomy_ids=TAXONOMY)
        clock.advance(61)
        shown = hook.get_export(created.id)
        listed = hook.list_exports()

    assert created.status is ExportStatus.PENDING
    assert shown.status is ExportStatus.COMPLETED
    assert shown.completed_at is not None
    assert [export.id for export in listed] == [created.id]


def test_one_token_for_each_scope_serves_all_calls(isvapp: Emulator) -> None:
    with IsvappHook() as hook:
        hook.get_account()
        for _ in range(3):
            hook.list_exports()

    assert isvapp.request_counts() == {"token": 2, "account": 1, "list_exports": 3}


def test_accounts_are_the_vendors_rows(isvapp: Emulator) -> None:
    with IsvappHook() as hook:
        plain = hook.list_salesforce_accounts()
        full = hook.list_salesforce_accounts(include_health_scores=True, include_subscriber_orgs=True)

    assert set(plain[0]) >= {"isvapp_id", "salesforce_id", "name"}
    assert set(full[0]) == set(plain[0]) | {"health_scores", "subscriber_orgs"}


def test_an_api_key_needs_no_login(emulator: Emulator, set_connection: SetConnection) -> None:
    set_connection("by_key", **isvapp_fields(emulator) | {"login": None, "password": emulator.api_key})

    assert IsvappHook(isvapp_conn_id="by_key").get_account().company_name
    assert "token" not in emulator.request_counts()


def test_a_key_that_is_rotated_meanwhile_is_read_again(emulator: Emulator, set_connection: SetConnection) -> None:
    fields = isvapp_fields(emulator) | {"login": None}
    set_connection("by_key", **fields | {"password": "revoked-key"})
    with IsvappHook(isvapp_conn_id="by_key") as hook:
        client = hook.get_conn()
        set_connection("by_key", **fields | {"password": emulator.api_key})

        assert client.list_exports() == []


def test_a_rotated_key_is_read_in_a_thread_outside_the_event_loop(
    emulator: Emulator, set_connection: SetConnection
) -> None:
    fields = isvapp_fields(emulator) | {"login": None}
    set_connection("by_key", **fields | {"password": "revoked-key"})

    async def use() -> list[Export]:
        hook = IsvappHook(isvapp_conn_id="by_key")
        client = await hook.aget_conn()
        set_connection("by_key", **fields | {"password": emulator.api_key})
        listed = await asyncio.to_thread(client.list_exports)
        await asyncio.to_thread(hook.close)
        return listed

    assert asyncio.run(use()) == []


def test_a_refusal_is_permanent_and_has_the_vendors_message(isvapp: Emulator) -> None:
    with IsvappHook() as hook, pytest.raises(AirflowFailException, match="no-such-export") as caught:
        hook.get_export("no-such-export")

    assert isinstance(caught.value.__context__, errors.NotFound)
    assert caught.value.__context__.status == 404


def test_an_outage_leaves_the_task_its_retries(isvapp: Emulator) -> None:
    isvapp.inject(Fault(endpoint="list_exports", kind="status", status=503))

    with IsvappHook() as hook, pytest.raises(AirflowException, match="gave no usable response") as caught:
        hook.list_exports()

    assert not isinstance(caught.value, AirflowFailException)
    assert isinstance(caught.value.__context__, errors.ServiceUnavailable)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"taxonomy_ids": "c9d7ddb0"}, "taxonomy_ids: must be a list of ids, not str"),
        ({"taxonomy_ids": []}, "taxonomy_ids: the list is empty"),
        ({}, "Exactly one of taxonomy_ids, taxonomy_level_ids, taxonomy_item_ids is needed"),
        ({"taxonomy_ids": TAXONOMY, "timeframe": "2024-13"}, "timeframe: '2024-13' is neither a month"),
        ({"taxonomy_ids": TAXONOMY, "export_type": "ROWS"}, "export_type: 'ROWS' is not one of TAXONOMY_ITEM"),
        ({"taxonomy_ids": TAXONOMY, "aggregation": "DAILY"}, "aggregation: 'DAILY' is not one of MONTHLY"),
        ({"taxonomy_ids": TAXONOMY, "salesforce_account_ids": ["0014x"]}, "salesforce_account_ids: '0014x'"),
    ],
)
def test_a_wrong_argument_is_named_and_nothing_is_sent(
    isvapp: Emulator, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(AirflowFailException, match=message):
        IsvappHook().create_export(**{"timeframe": "2024-02", **arguments})

    assert isvapp.requests == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"password": ""}, "password: empty; it takes the client secret"),
        ({"host": "https://api example"}, "host: .* has no host"),
        ({"host": "https://h:1", "port": 2}, "port: 2 contradicts the port 1 in host"),
        ({"extra": {"attempts": "many"}}, "extra attempts: must be a number"),
        ({"extra": {"requests_per_second": 0}}, "extra requests_per_second: must be a number above 0"),
        ({"extra": {"reqests_per_second": 1}}, "extra: unknown field 'reqests_per_second'"),
        (
            {"extra": {"rate_limit_storage": "mongo://host"}},
            "rate_limit_storage, .* is wrong: mongo:// is not known",
        ),
    ],
)
def test_a_wrong_field_of_the_connection_is_named(
    set_connection: SetConnection, changes: dict[str, Any], message: str
) -> None:
    set_connection("broken", **{"conn_type": "isvapp", "login": "client", "password": "secret", **changes})
    hook = IsvappHook(isvapp_conn_id="broken")

    with pytest.raises(AirflowFailException, match=message):
        hook.get_account()
    succeeded, text = hook.test_connection()
    assert not succeeded
    assert isinstance(text, str)


def test_a_missing_connection_is_named() -> None:
    with pytest.raises(AirflowFailException, match="Connection 'nowhere' is not defined in Airflow"):
        IsvappHook(isvapp_conn_id="nowhere").get_account()


def test_fields_that_the_form_left_empty_count_as_unset(emulator: Emulator, set_connection: SetConnection) -> None:
    empty = {"requests_per_second": None, "rate_limit_storage": "memory://", "connect_timeout": None, "attempts": ""}
    set_connection("from_the_form", **isvapp_fields(emulator) | {"extra": empty})

    assert IsvappHook(isvapp_conn_id="from_the_form").get_account()


def test_a_connection_written_as_uri_works(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    host = emulator.url.removeprefix("http://")
    monkeypatch.setenv(
        "AIRFLOW_CONN_BY_URI",
        f"isvapp://{emulator.client_id}:{emulator.client_secret}@{host}/http?"
        "rate_limit_storage=memory%3A%2F%2F&requests_per_second=1000",
    )

    assert IsvappHook(isvapp_conn_id="by_uri").get_account()


class TestSecrets:
    def test_are_hidden_from_logs(
        self, emulator: Emulator, set_connection: SetConnection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hidden: list[object] = []
        monkeypatch.setattr("airflow_provider_isvapp.hooks.base.mask_secret", hidden.append)
        storage = "redis://user:sentinel%20storage@127.0.0.1:1/0"
        fields = isvapp_fields(emulator, rate_limit_storage=storage) | {"password": "sentinel-password"}
        set_connection("isvapp_default", **fields)

        IsvappHook().test_connection()

        assert hidden == ["sentinel-password", "sentinel storage"]

    def test_tokens_of_a_task_are_masked_too(self, isvapp: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
        hidden: list[str] = []
        monkeypatch.setattr("airflow_provider_isvapp.hooks.base.mask_secret", hidden.append)

        with IsvappHook() as hook:
            hook.get_account()
            hook.list_exports()

        tokens = [secret for secret in hidden if isvapp.token_mark in secret]
        assert len(tokens) == isvapp.request_counts()["token"] == 2

    def test_tokens_of_a_triggerer_are_not_collected(self, isvapp: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
        hidden: list[str] = []
        monkeypatch.setattr("airflow_provider_isvapp.hooks.base.mask_secret", hidden.append)

        async def ask() -> None:
            client = await IsvappHook().aget_conn()
            await asyncio.to_thread(client.get_account)

        asyncio.run(ask())

        assert not [secret for secret in hidden if isvapp.token_mark in secret]
        assert isvapp.request_counts()["token"] == 1

    def test_are_in_no_attribute_message_or_log(
        self, emulator: Emulator, set_connection: SetConnection, logs: Callable[[], str]
    ) -> None:
        set_connection("isvapp_default", **isvapp_fields(emulator) | {"password": "sentinel-password"})
        hook = IsvappHook()

        with pytest.raises(AirflowFailException) as caught:
            hook.get_account()

        chain, seen = caught.value, []
        while chain is not None:
            seen.append(repr(chain))
            chain = chain.__cause__ or chain.__context__  # type: ignore[assignment]
        everything = "\n".join([logs(), *seen, repr(hook), json.dumps(vars(hook), default=repr)])
        assert "sentinel" not in everything


def test_the_client_for_an_event_loop_is_made_without_blocking_it(isvapp: Emulator) -> None:
    async def connect() -> str | None:
        client = await IsvappHook().aget_conn()
        account = await asyncio.to_thread(client.get_account)
        return account.company_name

    assert asyncio.run(connect())


def test_a_closed_hook_opens_itself_again(isvapp: Emulator) -> None:
    hook = IsvappHook()
    first = hook.get_conn()
    hook.close()

    assert hook.get_conn() is not first
    assert hook.get_account()
