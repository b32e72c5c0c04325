# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The stored text, and how an invalid one is handled."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_isvapp.ratelimit.algorithm import (
    _LONGEST_LEASE,
    HIGHEST_RATE,
    LONGEST_BLOCK,
    MOST_WAITING,
    POLL_SELDOM,
    BusyPermit,
    LimiterState,
    RateLimit,
    Ticket,
    acquire,
    decode,
    encode,
    fully_busy,
)
from airflow_provider_isvapp.ratelimit.storage import LONGEST_TEXT

TWO = RateLimit.of(2)
STATE = LimiterState(
    at=1000.5,
    busy=(BusyPermit(1001.25, None), BusyPermit(1002.123456789, "cafe")),
    queue=(Ticket(999.0, "beef", 1001.0), Ticket(1000.0, "f00d", 1001.5)),
    blocked_until=1030.0,
)


def test_a_state_survives_a_round_trip() -> None:
    assert decode(encode(STATE), TWO, 1001.0) == STATE


def test_it_is_one_line() -> None:
    assert "\n" not in encode(STATE)


def test_without_a_stored_state_all_permits_are_free() -> None:
    assert acquire(decode(None, TWO, 5.0), TWO, 5.0, "a", None)[1].granted


def broken(**changes: object) -> str:
    return json.dumps({**json.loads(encode(STATE)), **changes})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"at": 1000.5}',
        '{"at": 1000.5, "blocked_until": 0.0, "queue": []}',
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
        broken(queue=[[999.0, ["a"], 1001.0]]),
        broken(busy=[[1000.0, 7]]),
        broken(at=10**400),
        broken(busy=[[-(10**400), None]]),
        encode(STATE).replace("1000.5", "9" * 5000),
        encode(STATE).replace("1000.5", "1e999"),
        "[" * 200_000,
        '{"at":' * 60_000,
        "\udcff\x00",
        encode(STATE) + " " * LONGEST_TEXT,
    ],
)
def test_a_broken_state_counts_as_busy_for_one_pause(text: str) -> None:
    state = decode(text, TWO, 1001.0)
    assert state == fully_busy(TWO, 1001.0)
    assert not acquire(state, TWO, 1001.0, "a", None)[1].granted
    assert acquire(state, TWO, 1001.0 + TWO.hold, "a", None)[1].granted


MORE_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda items: st.lists(items, max_size=4) | st.dictionaries(st.text(max_size=3), items, max_size=3),
    max_leaves=8,
)
TIMES = st.sampled_from([0, 1e17, -1e17, 1.7e308, -1.7e308, 10**400]) | st.floats(500, 1500)
STATES = st.fixed_dictionaries(
    {
        "at": TIMES,
        "blocked_until": TIMES,
        "busy": st.lists(st.tuples(TIMES, st.none() | st.text(max_size=4)), max_size=4) | MORE_JSON,
        "queue": st.lists(st.tuples(TIMES, st.text(max_size=4), TIMES), max_size=4) | MORE_JSON,
    }
)


@settings(max_examples=500, deadline=None)
@given(text=st.text() | st.one_of(MORE_JSON, STATES).map(json.dumps))
def test_no_stored_text_blocks_a_ticket_for_more_than_minutes(text: str) -> None:
    """Even a valid state that was crafted to block every process ends like a block."""
    now, arrived = 1001.0, None
    while True:
        state, decision = acquire(decode(text, TWO, now), TWO, now, "mine", arrived)
        if decision.granted:
            return
        assert 0 < decision.poll_after <= POLL_SELDOM
        assert now < 1001 + 2 * (LONGEST_BLOCK + _LONGEST_LEASE)
        text, arrived, now = encode(state), decision.arrived, now + decision.poll_after


def test_the_longest_state_that_a_limiter_writes_is_read_again() -> None:
    rate_limit = RateLimit.of(HIGHEST_RATE)
    now, waiting = 1_700_000_000.1234567, "0123456789ab"
    state = LimiterState(
        at=now,
        busy=(BusyPermit(now + rate_limit.lease, waiting),) * rate_limit.permits,
        queue=(Ticket(now, waiting, now + POLL_SELDOM),) * MOST_WAITING,
        blocked_until=0.0,
    )
    state, _ = acquire(state, rate_limit, now, "another 12345", None)
    assert len(state.queue) == MOST_WAITING
    assert len(encode(state)) < LONGEST_TEXT
    assert decode(encode(state), rate_limit, now) == state


def test_a_queue_is_sorted_when_it_is_read() -> None:
    text = broken(queue=[[1000.0, "f00d", 1001.5], [999.0, "beef", 1001.0]])
    assert decode(text, TWO, 1001.0).queue == STATE.queue
