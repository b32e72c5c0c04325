# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The algorithm, with time as an argument."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_isvapp.ratelimit import algorithm
from airflow_provider_isvapp.ratelimit.algorithm import (
    GRACE,
    LONGEST_BLOCK,
    POLL_OFTEN,
    TOLERATED_DELAY,
    BusyPermit,
    Decision,
    RateLimit,
)

TWO = RateLimit.of(2)


class Table:
    """A state and its clock, with the steps as methods."""

    def __init__(self, rate_limit: RateLimit = TWO, now: float = 1000.0) -> None:
        self.rate_limit = rate_limit
        self.now = now
        self.state = algorithm.decode(None, TWO, now)

    def acquire(self, ticket: str, arrived: float | None = None) -> Decision:
        self.state, decision = algorithm.acquire(self.state, self.rate_limit, self.now, ticket, arrived)
        return decision

    def record_response(self, ticket: str) -> None:
        self.state = algorithm.record_response(self.state, self.rate_limit, self.now, ticket)

    def cancel(self, ticket: str) -> None:
        self.state = algorithm.cancel(self.state, self.now, ticket)

    def block_for(self, seconds: float) -> None:
        self.state = algorithm.block_for(self.state, self.now, seconds)

    def take_both_permits(self) -> None:
        """Grant both permits at 1000.0 and record both responses."""
        for ticket in ("first", "second"):
            assert self.acquire(ticket).granted
            self.record_response(ticket)


class TestPace:
    @pytest.mark.parametrize(
        ("rate", "permits", "hold"),
        [(2, 2, 1.0), (1, 1, 1.0), (0.5, 1, 2.0), (1.5, 1, 1.0), (2.9, 2, 1.0), (10, 10, 1.0)],
    )
    def test_permits_and_hold_give_the_rate(self, rate: float, permits: int, hold: float) -> None:
        assert RateLimit.of(rate).permits == permits
        assert RateLimit.of(rate).hold == pytest.approx(hold)


class TestOrder:
    def test_as_many_requests_as_permits_start_at_once(self) -> None:
        table = Table()
        assert [table.acquire(ticket).granted for ticket in "abc"] == [True, True, False]

    def test_a_permit_is_free_one_hold_after_the_response(self) -> None:
        table = Table()
        table.acquire("a"), table.acquire("b")
        table.now = 1000.3
        table.record_response("a")
        decision = table.acquire("c")
        assert not decision.granted
        assert decision.poll_after == pytest.approx(1.0)
        table.now = 1001.29
        assert not table.acquire("c").granted
        table.now = 1001.3001
        assert table.acquire("c").granted

    def test_without_a_response_the_lease_expires(self) -> None:
        table = Table()
        table.acquire("killed"), table.acquire("killed too")
        table.now = 1000.0 + TWO.hold + TOLERATED_DELAY - 0.01
        assert not table.acquire("c").granted
        table.now += 0.02
        assert table.acquire("c").granted
        assert table.acquire("d").granted

    def test_a_response_after_the_lease_does_not_affect_the_next_holder(self) -> None:
        table = Table()
        table.acquire("slow"), table.acquire("b")
        table.now = 1002.1
        assert table.acquire("next").granted
        table.record_response("slow")
        assert BusyPermit(1002.1 + TWO.lease, "next") in table.state.busy

    def test_a_late_response_does_not_extend_the_lease(self) -> None:
        table = Table()
        table.acquire("slow")
        table.now = 1001.9
        table.record_response("slow")
        assert table.state.busy == (BusyPermit(1000.0 + TWO.lease, None),)

    def test_a_grant_with_a_lost_message_is_repeated_with_the_same_permit(self) -> None:
        table = Table()
        table.acquire("a")
        table.now += 0.1
        assert table.acquire("a").granted
        assert table.acquire("b").granted

    def test_a_cancelled_ticket_returns_its_permit(self) -> None:
        table = Table()
        table.acquire("a"), table.acquire("b")
        table.cancel("a")
        assert table.acquire("c").granted

    def test_connections_that_disagree_about_the_limit_share_the_state(self) -> None:
        table = Table(RateLimit.of(4))
        for ticket in "abcd":
            assert table.acquire(ticket).granted
            table.record_response(ticket)
            table.now += 0.1
        table.rate_limit = TWO
        decision = table.acquire("e")
        assert not decision.granted
        table.now += decision.expected
        assert table.now == pytest.approx(1001.2)  # three of the four are free again, so less than two are busy
        assert table.acquire("e").granted


class TestQueue:
    def test_first_come_first_served(self) -> None:
        table = Table()
        table.take_both_permits()
        table.acquire("early")
        table.now += 0.1
        table.acquire("late")
        table.now = 1001.0
        assert table.acquire("late").granted  # two permits are free, and one is kept for the earlier ticket
        assert not table.acquire("newcomer").granted
        assert table.acquire("early").granted

    def test_a_new_ticket_does_not_overtake_a_sleeping_one(self) -> None:
        table = Table()
        table.take_both_permits()
        table.acquire("sleeper"), table.acquire("other sleeper")
        table.now = 1001.01
        assert not table.acquire("newcomer").granted

    def test_place_depth_and_expected_start(self) -> None:
        table = Table()
        table.take_both_permits()
        decisions = [table.acquire(ticket) for ticket in "abcde"]
        assert [decision.position for decision in decisions] == [0, 1, 2, 3, 4]
        assert [decision.depth for decision in decisions] == [1, 2, 3, 4, 5]
        assert [decision.expected for decision in decisions] == pytest.approx([1, 1, 2, 2, 3])

    def test_the_head_does_not_poll_before_a_permit_can_be_free(self) -> None:
        table = Table()
        table.acquire("a"), table.acquire("b")
        table.now += 0.5
        assert table.acquire("c").poll_after == pytest.approx(TWO.hold)

    def test_polls_are_rare_far_from_the_front(self) -> None:
        table = Table()
        table.take_both_permits()
        looks = [table.acquire(f"{number:03}").poll_after for number in range(200)]
        assert looks[:2] == pytest.approx([1, 1])
        assert looks[2:14] == pytest.approx([POLL_OFTEN] * 12)
        assert looks == sorted(looks)
        assert looks[199] == pytest.approx(10.0)

    def test_the_queue_is_bounded_and_tickets_beyond_it_keep_their_order(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(algorithm, "MOST_WAITING", 2)
        table = Table()
        table.take_both_permits()
        decisions = {}
        for ticket in "abcd":
            decisions[ticket] = table.acquire(ticket)
            table.now += 0.01
        assert [ticket.id for ticket in table.state.queue] == ["a", "b"]
        assert decisions["d"].position == 2
        table.now = 1001.0
        assert table.acquire("a").granted
        assert table.acquire("b").granted
        table.now = 1001.04
        assert table.acquire("d", decisions["d"].arrived).position == 0
        assert table.acquire("c", decisions["c"].arrived).position == 0
        assert [ticket.id for ticket in table.state.queue] == ["c", "d"]

    def test_a_killed_waiter_delays_one_permit_once(self) -> None:
        table = Table()
        table.take_both_permits()
        for ticket in ("dead", "a", "b", "c"):
            table.acquire(ticket)
            table.now += 0.001
        table.now = 1001.01
        assert table.acquire("a").granted
        table.record_response("a")
        table.acquire("c")
        assert not table.acquire("b").granted  # the killed waiter's ticket may still count
        table.now = 1001.01 + GRACE
        assert table.acquire("b").granted
        assert [ticket.id for ticket in table.state.queue] == ["c"]
        table.now = 1002.01
        assert table.acquire("c").granted

    def test_fifty_killed_waiters_delay_no_more_than_one(self) -> None:
        table = Table()
        table.take_both_permits()
        for number in range(50):
            table.acquire(f"dead {number}")
        table.now += 0.001
        decision = table.acquire("alive")
        assert decision.expected == pytest.approx(26, abs=0.01)
        start = table.now
        while not decision.granted:
            table.now += decision.poll_after
            decision = table.acquire("alive", decision.arrived)
        assert table.now - start < 7

    def test_a_late_ticket_gets_its_place_back(self) -> None:
        table = Table()
        table.take_both_permits()
        late = table.acquire("late")
        table.now += 0.1
        table.acquire("a"), table.acquire("b"), table.acquire("c")
        table.now = 1001.0 + GRACE + 0.1
        assert table.acquire("a").granted
        assert table.acquire("b").granted
        assert "late" not in [ticket.id for ticket in table.state.queue]
        assert table.acquire("late", late.arrived).position == 0


class TestBlocks:
    def test_no_permit_is_granted_until_a_block_ends(self) -> None:
        table = Table()
        table.block_for(30)
        decision = table.acquire("a")
        assert not decision.granted
        assert decision.expected == decision.blocked == pytest.approx(30)
        table.now += 29.9
        assert not table.acquire("a").granted
        table.now += 0.2
        assert table.acquire("a").granted

    def test_a_shorter_block_does_not_end_a_longer_one(self) -> None:
        table = Table()
        table.block_for(30)
        table.block_for(1)
        assert table.acquire("a").blocked == pytest.approx(30)

    @pytest.mark.parametrize("seconds", [1e9, float("inf")])
    def test_a_block_is_capped(self, seconds: float) -> None:
        table = Table()
        table.block_for(seconds)
        assert table.acquire("a").blocked == pytest.approx(LONGEST_BLOCK)


class TestClockJumps:
    @pytest.mark.parametrize("jump", [-0.5, -3600.0, -999.0])
    def test_a_clock_set_back_neither_blocks_nor_frees_a_permit(self, jump: float) -> None:
        table = Table()
        table.take_both_permits()
        first = table.acquire("first in line")
        table.now += 0.2
        table.acquire("second in line"), table.acquire("third in line")
        table.now += jump
        decision = table.acquire("first in line", first.arrived)
        assert not decision.granted
        assert decision.expected == pytest.approx(0.8)
        assert decision.position == 0
        table.now += 0.001
        assert table.acquire("newcomer").position == 3
        table.now += 0.801
        assert table.acquire("second in line").granted
        assert table.acquire("first in line").granted

    def test_a_block_keeps_its_remaining_length(self) -> None:
        table = Table()
        table.block_for(10)
        table.now = 5.0  # the machine was restarted
        assert table.acquire("a").blocked == pytest.approx(10)


@dataclass(frozen=True)
class Caller:
    """The behaviour of one caller in a simulated run; times in seconds."""

    starts: float
    late: float  # wakes up this much late
    delay: float  # from grant to arrival
    response: float  # from arrival to response
    fate: str  # "lives", "killed waiting", "killed holding", "leaves", "fails"


def callers(*, latest: float, delay: float = TOLERATED_DELAY) -> st.SearchStrategy[list[Caller]]:
    seconds = st.floats(0, 3)
    return st.lists(
        st.builds(
            Caller,
            starts=st.floats(0, latest),
            late=st.sampled_from([0.0, 0.0, 0.001, 0.05, 0.3, 2.0]),
            delay=st.floats(0, delay),
            response=st.one_of(st.just(0.0), st.floats(0, 0.2), seconds),
            fate=st.sampled_from(["lives"] * 6 + ["killed waiting", "killed holding", "leaves", "fails"]),
        ),
        min_size=1,
        max_size=25,
    )


class Run:
    """Simulates callers that share one state."""

    def __init__(self, everybody: list[Caller], rate_limit: RateLimit, blocks: list[tuple[float, float]]) -> None:
        self.table = Table(rate_limit, now=0.0)
        self.arrivals: list[float] = []
        self.granted: list[tuple[float, int]] = []
        self.first_polls: dict[int, float] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        for at, length in blocks:
            self._later(at, partial(self.table.block_for, length))
        for number, caller in enumerate(everybody):
            self._later(caller.starts, partial(self._poll, number, caller, None))
        while self._events:
            self.table.now, _, step = heapq.heappop(self._events)
            step()
            assert self._number < 20_000, "it does not come to an end"

    def _later(self, at: float, step: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (at, self._number, step))

    def _poll(self, number: int, caller: Caller, arrived: float | None) -> None:
        ticket, now = f"ticket {number:03}", self.table.now
        decision = self.table.acquire(ticket, arrived)
        self.first_polls.setdefault(number, now)
        if decision.granted:
            self._send(number, ticket, caller)
        elif caller.fate == "leaves":
            self.table.cancel(ticket)
        elif caller.fate != "killed waiting":
            self._later(now + decision.poll_after + caller.late, lambda: self._poll(number, caller, decision.arrived))

    def _send(self, number: int, ticket: str, caller: Caller) -> None:
        self.granted.append((self.table.now, number))
        arrival = self.table.now + caller.delay
        self.arrivals.append(arrival)
        if caller.fate in ("lives", "killed waiting", "leaves"):
            self._later(arrival + caller.response, lambda: self.table.record_response(ticket))


# When each block begins, and its length.
BLOCKS = st.lists(st.tuples(st.floats(0, 10), st.floats(0, 5)))
RATES = st.one_of(st.sampled_from([0.5, 1, 2, 2.5, 2.9, 5]), st.floats(0.25, 12))


class TestAnyInterleaving:
    @settings(max_examples=200, deadline=None)
    @given(everybody=callers(latest=8.0), rate=RATES, blocks=BLOCKS)
    def test_no_second_sees_more_arrivals_than_the_limit(
        self, everybody: list[Caller], rate: float, blocks: list[tuple[float, float]]
    ) -> None:
        run = Run(everybody, RateLimit.of(rate), blocks)
        arrivals = sorted(run.arrivals)
        # Below one per second: one request per 1 / rate seconds.
        allowed, window = (math.floor(rate), 1.0) if rate >= 1 else (1, 1 / rate)
        for first, beyond in zip(arrivals, arrivals[allowed:], strict=False):
            assert beyond - first >= window - 1e-9

    @settings(max_examples=200, deadline=None)
    @given(everybody=callers(latest=8.0), rate=RATES, blocks=BLOCKS)
    def test_no_permit_is_granted_during_any_block(
        self, everybody: list[Caller], rate: float, blocks: list[tuple[float, float]]
    ) -> None:
        run = Run(everybody, RateLimit.of(rate), blocks)
        for at, length in blocks:
            assert not [granted for granted, _ in run.granted if at < granted < at + length]

    @settings(max_examples=200, deadline=None)
    @given(everybody=callers(latest=8.0), rate=RATES)
    def test_every_live_ticket_gets_a_permit(self, everybody: list[Caller], rate: float) -> None:
        run = Run(everybody, RateLimit.of(rate), [])
        alive = {
            number for number, caller in enumerate(everybody) if caller.fate in ("lives", "killed holding", "fails")
        }
        assert alive <= {number for _, number in run.granted}

    @settings(max_examples=200, deadline=None)
    @given(everybody=callers(latest=8.0, delay=0.2), rate=RATES)
    def test_order_of_arrival_is_order_of_service(self, everybody: list[Caller], rate: float) -> None:
        punctual = [Caller(caller.starts, 0.0, caller.delay, caller.response, "lives") for caller in everybody]
        run = Run(punctual, RateLimit.of(rate), [])
        order = sorted(run.first_polls, key=lambda number: (run.first_polls[number], number))
        places = {number: place for place, number in enumerate(order)}
        served = [places[number] for _, number in run.granted]
        # If both can start, the later one may poll first.
        for earlier, later in itertools.pairwise(served):
            assert later > earlier - RateLimit.of(rate).permits

    @settings(max_examples=100, deadline=None)
    @given(number=st.integers(10, 25), rate=st.sampled_from([1, 2, 5]))
    def test_quick_responses_use_the_whole_rate(self, number: int, rate: int) -> None:
        everybody = [Caller(0.0, 0.0, 0.0, 0.0, "lives") for _ in range(number)]
        run = Run(everybody, RateLimit.of(rate), [])
        assert max(run.arrivals) <= (number - 1) // rate + 1e-6

    @pytest.mark.parametrize(("rate", "seconds"), [(2.5, 9), (2.9, 9), (1.5, 19), (0.5, 38)])
    def test_a_rate_above_one_is_rounded_down(self, rate: float, seconds: float) -> None:
        run = Run([Caller(0.0, 0.0, 0.0, 0.0, "lives")] * 20, RateLimit.of(rate), [])
        assert max(run.arrivals) == pytest.approx(seconds)
