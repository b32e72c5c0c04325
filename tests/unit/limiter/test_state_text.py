# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The stored text: what it keeps, and what a broken one is worth."""

from __future__ import annotations

import json

import pytest

from airflow_provider_isvapp.limiter.schedule import BusyPermit, Pace, Schedule, Ticket, ask, fully_busy
from airflow_provider_isvapp.limiter.state_text import decode, encode

PACE = Pace.of(2)
STATE = Schedule(
    at=1000.5,
    busy=(BusyPermit(1001.25, None), BusyPermit(1002.123456789, "cafe")),
    queue=(Ticket(999.0, "beef", 1001.0), Ticket(1000.0, "f00d", 1001.5)),
    blocked_until=1030.0,
)


def test_what_is_written_is_read_again() -> None:
    assert decode(encode(STATE), PACE, 1001.0) == STATE


def test_it_is_one_line() -> None:
    assert "\n" not in encode(STATE)


def test_nothing_ever_written_means_that_all_permits_are_free() -> None:
    assert ask(decode(None, PACE, 5.0), PACE, 5.0, "a", None)[1].granted


def broken(**changes: object) -> str:
    return json.dumps({**json.loads(encode(STATE)), **changes})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        "7",
        "not json",
        encode(STATE)[:-5],
        broken(at="yesterday"),
        broken(at=None),
        broken(at=True),
        '{"at": NaN, "blocked_until": 0, "busy": [], "queue": []}',
        broken(blocked_until=1e12),
        broken(busy=[[1e12, None]]),
        broken(busy=[["soon", None]]),
        broken(busy=[[1.0]]),
        broken(queue=[[1e12, "a", 1000.0]]),
        broken(queue=[[999.0, "a", 1e12]]),
        broken(queue={"a": 1}),
    ],
)
def test_a_broken_state_is_taken_for_busy_and_ends_after_one_pause(text: str) -> None:
    state = decode(text, PACE, 1001.0)
    assert state == fully_busy(PACE, 1001.0)
    assert not ask(state, PACE, 1001.0, "a", None)[1].granted
    assert ask(state, PACE, 1001.0 + PACE.hold, "a", None)[1].granted


def test_a_queue_in_disorder_is_put_in_order() -> None:
    text = broken(queue=[[1000.0, "f00d", 1001.5], [999.0, "beef", 1001.0]])
    assert decode(text, PACE, 1001.0).queue == STATE.queue
