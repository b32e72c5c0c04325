# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

from datetime import UTC, datetime

import pytest

from airflow_provider_isvapp.api.connection_check import clock_warning
from airflow_provider_isvapp.api.responses import http_date
from airflow_provider_isvapp.api.settings import TransportSettings
from airflow_provider_isvapp.api.transport import Request, Transport
from tests.support.scripted_server import ScriptedResponse, ScriptedServer
from tests.unit.api.conftest import FakeTime, RecordingLimiter

NOON = datetime(2026, 3, 6, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("date", "ahead"),
    [
        ("Fri, 06 Mar 2026 12:00:00 GMT", 0),
        ("Fri, 06 Mar 2026 11:55:00 GMT", 300),
        ("Fri, 06 Mar 2026 12:01:30 -0000", -90),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_the_date_header_is_read(date: str | None, ahead: float | None) -> None:
    assert http_date(date) == (None if ahead is None else NOON - ahead)


@pytest.mark.parametrize(
    ("ahead", "words"),
    [(61, "61 s ahead of"), (-300, "300 s behind"), (3000, "50 min ahead of"), (-86400, "24.0 h behind")],
)
def test_a_difference_is_put_into_words(ahead: float, words: str) -> None:
    assert f"This machine's clock is {words} ISVapp's." in clock_warning(ahead, vendor="ISVapp")


@pytest.mark.parametrize("ahead", [None, 0, 60, -60])
def test_the_time_of_a_response_does_not_count_as_a_clock_difference(ahead: float | None) -> None:
    assert clock_warning(ahead, vendor="ISVapp") == ""


def test_each_response_shows_the_difference(server: ScriptedServer, limiter: RecordingLimiter) -> None:
    transport = Transport(
        TransportSettings(vendor="ISVapp", base_url=server.url), limiter=limiter, clock=FakeTime(now=0)
    )
    request = Request(method="GET", url=f"{server.url}/thing", label="GET /thing", endpoint="thing")
    server.script("/thing", ScriptedResponse(body=b"{}"))
    assert transport.clock_skew is None

    transport.fetch(request)
    transport.close()

    now = datetime.now(UTC).timestamp()
    assert transport.clock_skew == pytest.approx(-now, abs=30)
