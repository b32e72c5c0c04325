# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from airflow_provider_isvapp.errors import InvalidConnection, ProviderError
from airflow_provider_isvapp.hooks import base
from airflow_provider_isvapp.hooks.base import connection_fields, fetch_connection_async


def stored(**fields: Any) -> Any:
    """A connection as an old database can hold it; new ones check the extra when it is entered."""
    empty = dict.fromkeys(("conn_type", "login", "password", "host", "port", "schema", "extra"))
    return cast("Any", SimpleNamespace(**empty | fields))


@pytest.mark.parametrize("extra", ["{not json", "[1]", '"text"', "nonsense"])
def test_an_extra_that_is_no_object_is_an_error_and_not_the_defaults(extra: str) -> None:
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


def test_a_storage_address_that_cannot_be_read_is_left_to_the_limiter() -> None:
    assert connection_fields(stored(extra='{"rate_limit_storage": "redis://[x"}'))["extra"] == {
        "rate_limit_storage": "redis://[x"
    }


def test_a_lookup_that_fails_in_the_triggerer_may_work_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unreachable(conn_id: str) -> None:
        raise ConnectionError("the API server, with sentinel-details")

    monkeypatch.setattr(base, "get_async_connection", unreachable)

    with pytest.raises(
        ProviderError, match=r"could not look up the connection 'some_id' \(ConnectionError\)"
    ) as caught:
        asyncio.run(fetch_connection_async("some_id"))
    assert not caught.value.permanent
    assert caught.value.__context__ is None
