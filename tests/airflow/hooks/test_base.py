# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from airflow_provider_isvapp.emulator import Emulator
from airflow_provider_isvapp.errors import InvalidConnection, ProviderError
from airflow_provider_isvapp.hooks import base
from airflow_provider_isvapp.hooks.base import connection_fields, fetch_connection_async
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.hooks.productiv import ProductivHook
from airflow_provider_isvapp.plugins.export_list import ConnectionReader
from airflow_provider_isvapp.version_compat import AirflowException
from tests.support.airflow_connections import SetConnection, isvapp_fields


def stored(**fields: Any) -> Any:
    """A connection as an old database can hold it; new ones check the extra when it is entered."""
    empty = dict.fromkeys(("conn_type", "login", "password", "host", "port", "schema", "extra"))
    return cast("Any", SimpleNamespace(**empty | fields))


@pytest.mark.parametrize("extra", ["{not json", "[1]", '"text"', "nonsense"])
def test_an_extra_that_is_not_an_object_is_an_error(extra: str) -> None:
    with pytest.raises(InvalidConnection, match="extra: must be a JSON object"):
        connection_fields(stored(extra=extra))


@pytest.mark.parametrize("extra", [None, "", "  ", "{}"])
def test_no_extra_is_an_empty_one(extra: str | None) -> None:
    assert connection_fields(stored(extra=extra))["extra"] == {}


def test_fields_that_come_twice_from_the_test_button_of_airflow_2_are_one() -> None:
    extra = '{"extra__isvapp__attempts": "3", "attempts": "3", "extra__other__attempts": "9"}'

    assert connection_fields(stored(conn_type="isvapp", extra=extra))["extra"] == {
        "attempts": "3",
        "extra__other__attempts": "9",
    }


def test_a_storage_url_that_cannot_be_read_is_left_to_the_limiter() -> None:
    assert connection_fields(stored(extra='{"rate_limit_storage": "redis://[x"}'))["extra"] == {
        "rate_limit_storage": "redis://[x"
    }


def test_a_lookup_that_fails_in_the_triggerer_may_work_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unreachable(conn_id: str) -> None:
        raise ConnectionError("the API server, with sentinel-details")

    monkeypatch.setattr(base, "get_async_connection", unreachable)

    with pytest.raises(
        ProviderError, match=r"Airflow could not fetch the connection 'some_id' \(ConnectionError\)"
    ) as caught:
        asyncio.run(fetch_connection_async("some_id"))
    assert not caught.value.permanent
    assert caught.value.__context__ is None


def test_a_hook_takes_its_connection_by_position_as_airflows_hooks_do() -> None:
    assert IsvappHook("some_id").isvapp_conn_id == IsvappHook(isvapp_conn_id="some_id").isvapp_conn_id == "some_id"
    assert (
        ProductivHook("an_id").productiv_conn_id
        == ProductivHook(productiv_conn_id="an_id").productiv_conn_id
        == "an_id"
    )


def hook_call(hook: Any) -> None:
    hook.get_conn()


def connection_test(hook: Any) -> None:
    works, message = hook.test_connection()
    assert not works
    raise InvalidConnection(message)


def on_a_loop(hook: Any) -> None:
    asyncio.run(hook.aget_conn())


def page(hook: Any) -> None:
    ConnectionReader()("other")


def lookup(hook: Any) -> None:
    hook.poll_export("export-1", known_since=datetime.now(UTC))


@pytest.mark.parametrize(
    ("call", "hook"),
    [
        *((call, IsvappHook(isvapp_conn_id="other")) for call in (hook_call, connection_test, on_a_loop, page, lookup)),
        *((call, ProductivHook(productiv_conn_id="other")) for call in (hook_call, connection_test)),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
@pytest.mark.parametrize("conn_type", ["http", None])
def test_another_vendors_credentials_are_not_sent(
    emulator: Emulator, set_connection: SetConnection, call: Any, hook: Any, conn_type: str | None
) -> None:
    set_connection("other", conn_type=conn_type, host=emulator.url, login="someone", password="else")

    with pytest.raises(
        InvalidConnection, match=r"^Connection 'other' has (type 'http'|no type); expected '(isvapp|productiv)'"
    ):
        call(hook)
    assert emulator.requests == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"port": 70000}, "port: 70000 contradicts the port "),
        ({"extra": {"rate_limit_storage": "ftp://x"}}, "rate_limit_storage, of the connection"),
        ({"password": "wrong"}, "ISVapp refused the token for scope"),
        ({"login": "", "password": "demo-api-key-without-scope"}, "ISVapp refused GET /api/v1/account (403)"),
        ({"host": "https://127.0.0.1"}, "TLS with"),
    ],
)
def test_an_error_begins_with_the_id_of_the_connection_except_in_its_own_form(
    isvapp: Emulator, set_connection: SetConnection, change: dict[str, Any], message: str
) -> None:
    fields = isvapp_fields(isvapp) | change
    if "host" in change:
        fields["port"] = int(isvapp.url.rpartition(":")[2])
    set_connection("mine", **fields)
    hook = IsvappHook(isvapp_conn_id="mine")

    with pytest.raises(AirflowException, match=rf"^Connection 'mine': {re.escape(message)}"):
        hook.get_account()
    assert not hook.test_connection()[1].startswith("Connection 'mine'")
    hook.close()
