# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A client with some of the scopes, and the date of responses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from airflow_provider_isvapp.emulator import Fault, ManualClock
from tests.unit.emulator.caller import Caller


@pytest.mark.parametrize(
    ("scope", "status"), [("identity", 200), ("exports identity", 200), ("salesforce_accounts", 400)]
)
def test_a_client_gets_tokens_for_its_own_scopes_only(start: Callable[..., Caller], scope: str, status: int) -> None:
    response = start(client_scopes="identity exports").token(scope)

    assert response.status_code == status
    if status == 400:
        assert response.json()["error"] == "invalid_scope"
        assert "may not have the scope: salesforce_accounts" in response.json()["error_description"]


def test_the_scopes_of_the_isvapp_client_do_not_concern_productiv(start: Callable[..., Caller]) -> None:
    caller = start(client_scopes="")
    config = caller.emulator.config

    token = caller.productiv_token(client_id=config.productiv_client_id, client_secret=config.productiv_client_secret)

    assert token.status_code == 200


def test_every_response_has_the_date_of_the_emulators_clock(caller: Caller, clock: ManualClock) -> None:
    clock.advance(90)
    caller.emulator.inject(Fault(endpoint="list_exports", kind="html"))

    for path in ("/api/v1/account", "/api/v1/exports", "/nowhere"):
        assert caller.get(path).headers["Date"] == "Mon, 15 Apr 2024 12:01:30 GMT"
