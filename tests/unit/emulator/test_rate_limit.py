# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from airflow_provider_isvapp.emulator import ManualClock
from airflow_provider_isvapp.emulator.http import SlidingWindow
from tests.unit.emulator.caller import Caller

Start = Callable[..., Caller]
ACCOUNT = "/api/v1/account"


def test_two_requests_in_any_second_over_all_endpoints(start: Start, clock: ManualClock) -> None:
    caller = start(requests_per_second=2)
    assert caller.get(ACCOUNT).status_code == 200
    clock.advance(0.6)
    assert caller.get("/api/v1/exports").status_code == 200
    refused = caller.get(ACCOUNT)
    assert (refused.status_code, refused.json()["success"]) == (429, False)
    assert "2 requests per second" in refused.json()["error"]
    clock.advance(0.399)
    assert caller.get(ACCOUNT).status_code == 429
    clock.advance(0.001)
    assert caller.get(ACCOUNT).status_code == 200
    assert caller.get(ACCOUNT).status_code == 429


def test_the_token_endpoint_counts_with_its_client(start: Start) -> None:
    caller = start(requests_per_second=2)
    caller.bearer = caller.token("identity").json()["access_token"]
    assert caller.token("identity").status_code == 200
    assert caller.get(ACCOUNT).status_code == 429


def test_each_credential_has_its_own_window(start: Start) -> None:
    caller = start(requests_per_second=1)
    assert caller.get(ACCOUNT).status_code == 200
    assert caller.get(ACCOUNT).status_code == 429
    caller.bearer = caller.token("identity").json()["access_token"]
    assert caller.get(ACCOUNT).status_code == 429  # the token request counted for the client
    caller.bearer = caller.emulator.api_key_without_scope
    assert caller.get(ACCOUNT).status_code == 403


@pytest.mark.parametrize(
    ("form", "value"), [("none", None), ("seconds", "1"), ("date", "Mon, 15 Apr 2024 12:00:02 GMT")]
)
def test_retry_after(start: Start, clock: ManualClock, form: str, value: str | None) -> None:
    caller = start(requests_per_second=1, retry_after=form)
    clock.advance(0.5)
    caller.get(ACCOUNT)
    clock.advance(0.25)
    assert caller.get(ACCOUNT).headers.get("Retry-After") == value


def test_no_limit(start: Start) -> None:
    caller = start(requests_per_second=None)
    assert {caller.get(ACCOUNT).status_code for _ in range(20)} == {200}


def test_no_second_ever_sees_more_than_the_limit() -> None:
    rng = random.Random(7)
    window, now, accepted = SlidingWindow(3), 0.0, []
    for _ in range(5000):
        now += rng.expovariate(6)
        wait = window.admit("one", now)
        if wait is None:
            accepted.append(now)
        else:
            assert 0 < wait <= 1
            assert window.admit("one", now + wait - 1e-6) is not None
    assert all(accepted[place + 3] - accepted[place] >= 1 for place in range(len(accepted) - 3))
    assert len(accepted) > 2 * now
