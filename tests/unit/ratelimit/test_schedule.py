# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The decision itself, with time as an argument."""

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

from airflow_provider_isvapp.ratelimit import schedule
from airflow_provider_isvapp.ratelimit.schedule import (
    GRACE,
    LOOK_OFTEN,
    MAX_PUSH_BACK,
    TOLERATED_DELAY,
    BusyPermit,
    Pace,
    Schedule,
    Turn,
)

TWO = Pace.of(2)


class Table:
    """A state and its clock, with the steps as methods."""

    def __init__(self, pace: Pace = TWO, now: float = 1000.0) -> None:
        self.pace = pace
        self.now = now
        self.state = Schedule(at=now)

    def ask(self, ticket: str, arrived: float | None = None) -> Turn:
        self.state, turn = schedule.ask(self.state, self.pace, self.now, ticket, arrived)
        return turn

    def answered(self, ticket: str) -> None:
        self.state = schedule.answered(self.state, self.pace, self.now, ticket)

    def leave(self, ticket: str) -> None:
        self.state = schedule.leave(self.state, self.now, ticket)

    def push_back(self, seconds: float) -> None:
        self.state = schedule.push_back(self.state, self.now, seconds)

    def take_both_permits(self) -> None:
        """Grant both at 1000.0 and answer both at once."""
        for ticket in ("first", "second"):
            assert self.ask(ticket).granted
            self.answered(ticket)


class TestPace:
    @pytest.mark.parametrize(
        ("rate", "permits", "hold"),
        [(2, 2, 1.0), (1, 1, 1.0), (0.5, 1, 2.0), (1.5, 1, 1.0), (2.9, 2, 1.0), (10, 10, 1.0)],
    )
    def test_permits_and_hold_give_the_rate(self, rate: float, permits: int, hold: float) -> None:
        assert Pace.of(rate).permits == permits
        assert Pace.of(rate).hold == pytest.approx(hold)


class TestTurns:
    def test_as_many_as_there_are_permits_go_at_once(self) -> None:
        table = Table()
        assert [table.ask(ticket).granted for ticket in "abc"] == [True, True, False]

    def test_a_permit_is_free_one_hold_after_the_answer(self) -> None:
        table = Table()
        table.ask("a"), table.ask("b")
        table.now = 1000.3
        table.answered("a")
        turn = table.ask("c")
        assert not turn.granted
        assert turn.look_again == pytest.approx(1.0)
        table.now = 1001.29
        assert not table.ask("c").granted
        table.now = 1001.3001
        assert table.ask("c").granted

    def test_without_an_answer_a_permit_frees_itself(self) -> None:
        table = Table()
        table.ask("killed"), table.ask("killed too")
        table.now = 1000.0 + TWO.hold + TOLERATED_DELAY - 0.01
        assert not table.ask("c").granted
        table.now += 0.02
        assert table.ask("c").granted
        assert table.ask("d").granted

    def test_an_answer_after_the_lease_does_not_touch_the_next_holder(self) -> None:
        table = Table()
        table.ask("slow"), table.ask("b")
        table.now = 1002.1
        assert table.ask("next").granted
        table.answered("slow")
        assert BusyPermit(1002.1 + TWO.lease, "next") in table.state.busy

    def test_a_late_answer_does_not_lengthen_the_lease(self) -> None:
        table = Table()
        table.ask("slow")
        table.now = 1001.9
        table.answered("slow")
        assert table.state.busy == (BusyPermit(1000.0 + TWO.lease, None),)

    def test_a_grant_whose_message_was_lost_is_given_again_on_the_same_permit(self) -> None:
        table = Table()
        table.ask("a")
        table.now += 0.1
        assert table.ask("a").granted
        assert table.ask("b").granted

    def test_leaving_gives_an_unused_permit_back(self) -> None:
        table = Table()
        table.ask("a"), table.ask("b")
        table.leave("a")
        assert table.ask("c").granted

    def test_connections_that_disagree_about_the_limit_share_the_state(self) -> None:
        table = Table(Pace.of(4))
        for ticket in "abcd":
            assert table.ask(ticket).granted
            table.answered(ticket)
            table.now += 0.1
        table.pace = TWO
        turn = table.ask("e")
        assert not turn.granted
        table.now += turn.expected
        assert table.now == pytest.approx(1001.2)  # three of the four are free again, so less than two are busy
        assert table.ask("e").granted


class TestQueue:
    def test_first_come_first_served(self) -> None:
        table = Table()
        table.take_both_permits()
        table.ask("early")
        table.now += 0.1
        table.ask("late")
        table.now = 1001.0
        assert table.ask("late").granted  # two permits are free, and one is kept for the earlier ticket
        assert not table.ask("newcomer").granted
        assert table.ask("early").granted

    def test_a_newcomer_does_not_overtake_a_sleeper_who_is_about_to_wake(self) -> None:
        table = Table()
        table.take_both_permits()
        table.ask("sleeper"), table.ask("other sleeper")
        table.now = 1001.01
        assert not table.ask("newcomer").granted

    def test_place_depth_and_expected_start(self) -> None:
        table = Table()
        table.take_both_permits()
        turns = [table.ask(ticket) for ticket in "abcde"]
        assert [turn.position for turn in turns] == [0, 1, 2, 3, 4]
        assert [turn.depth for turn in turns] == [1, 2, 3, 4, 5]
        assert [turn.expected for turn in turns] == pytest.approx([1, 1, 2, 2, 3])

    def test_the_head_needs_no_look_before_an_answer_can_matter(self) -> None:
        table = Table()
        table.ask("a"), table.ask("b")
        table.now += 0.5
        assert table.ask("c").look_again == pytest.approx(TWO.hold)

    def test_looks_get_rare_far_from_the_front(self) -> None:
        table = Table()
        table.take_both_permits()
        looks = [table.ask(f"{number:03}").look_again for number in range(200)]
        assert looks[:2] == pytest.approx([1, 1])
        assert looks[2:14] == pytest.approx([LOOK_OFTEN] * 12)
        assert looks == sorted(looks)
        assert looks[199] == pytest.approx(10.0)

    def test_the_queue_has_a_bound_and_who_is_behind_it_keeps_the_order(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(schedule, "MOST_WAITING", 2)
        table = Table()
        table.take_both_permits()
        turns = {}
        for ticket in "abcd":
            turns[ticket] = table.ask(ticket)
            table.now += 0.01
        assert [ticket.id for ticket in table.state.queue] == ["a", "b"]
        assert turns["d"].position == 2
        table.now = 1001.0
        assert table.ask("a").granted
        assert table.ask("b").granted
        table.now = 1001.04
        assert table.ask("d", turns["d"].arrived).position == 0
        assert table.ask("c", turns["c"].arrived).position == 0
        assert [ticket.id for ticket in table.state.queue] == ["c", "d"]

    def test_a_killed_waiter_costs_at_most_one_turn_once(self) -> None:
        table = Table()
        table.take_both_permits()
        for ticket in ("dead", "a", "b", "c"):
            table.ask(ticket)
            table.now += 0.001
        table.now = 1001.01
        assert table.ask("a").granted
        table.answered("a")
        table.ask("c")
        assert not table.ask("b").granted  # could still be the dead one's turn
        table.now = 1001.01 + GRACE
        assert table.ask("b").granted
        assert [ticket.id for ticket in table.state.queue] == ["c"]
        table.now = 1002.01
        assert table.ask("c").granted

    def test_fifty_killed_waiters_cost_no_more_than_one(self) -> None:
        table = Table()
        table.take_both_permits()
        for number in range(50):
            table.ask(f"dead {number}")
        table.now += 0.001
        turn = table.ask("alive")
        assert turn.expected == pytest.approx(26, abs=0.01)
        start = table.now
        while not turn.granted:
            table.now += turn.look_again
            turn = table.ask("alive", turn.arrived)
        assert table.now - start < 7

    def test_a_late_waiter_takes_its_old_place_again(self) -> None:
        table = Table()
        table.take_both_permits()
        late = table.ask("late")
        table.now += 0.1
        table.ask("a"), table.ask("b"), table.ask("c")
        table.now = 1001.0 + GRACE + 0.1
        assert table.ask("a").granted
        assert table.ask("b").granted
        assert "late" not in [ticket.id for ticket in table.state.queue]
        assert table.ask("late", late.arrived).position == 0


class TestPushBack:
    def test_nobody_goes_until_it_is_over(self) -> None:
        table = Table()
        table.push_back(30)
        turn = table.ask("a")
        assert not turn.granted
        assert turn.expected == turn.blocked == pytest.approx(30)
        table.now += 29.9
        assert not table.ask("a").granted
        table.now += 0.2
        assert table.ask("a").granted

    def test_a_shorter_one_does_not_end_a_longer_one(self) -> None:
        table = Table()
        table.push_back(30)
        table.push_back(1)
        assert table.ask("a").blocked == pytest.approx(30)

    @pytest.mark.parametrize("seconds", [1e9, float("inf")])
    def test_it_is_capped(self, seconds: float) -> None:
        table = Table()
        table.push_back(seconds)
        assert table.ask("a").blocked == pytest.approx(MAX_PUSH_BACK)


class TestClockJumps:
    @pytest.mark.parametrize("jump", [-0.5, -3600.0, -999.0])
    def test_a_clock_set_back_freezes_nothing_and_frees_nothing(self, jump: float) -> None:
        table = Table()
        table.take_both_permits()
        first = table.ask("first in line")
        table.now += 0.2
        table.ask("second in line"), table.ask("third in line")
        table.now += jump
        turn = table.ask("first in line", first.arrived)
        assert not turn.granted
        assert turn.expected == pytest.approx(0.8)
        assert turn.position == 0
        table.now += 0.001
        assert table.ask("newcomer").position == 3
        table.now += 0.801
        assert table.ask("second in line").granted
        assert table.ask("first in line").granted

    def test_a_push_back_keeps_its_remaining_length(self) -> None:
        table = Table()
        table.push_back(10)
        table.now = 5.0  # the machine was started anew
        assert table.ask("a").blocked == pytest.approx(10)


@dataclass(frozen=True)
class Caller:
    """What one caller does in a simulated run, in seconds."""

    starts: float
    late: float  # wakes up so much later than told
    delay: float  # from grant to arrival
    answer: float  # from arrival to answer
    fate: str  # "lives", "killed waiting", "killed holding", "leaves", "fails"


def callers(*, latest: float, delay: float = TOLERATED_DELAY) -> st.SearchStrategy[list[Caller]]:
    seconds = st.floats(0, 3)
    return st.lists(
        st.builds(
            Caller,
            starts=st.floats(0, latest),
            late=st.sampled_from([0.0, 0.0, 0.001, 0.05, 0.3, 2.0]),
            delay=st.floats(0, delay),
            answer=st.one_of(st.just(0.0), st.floats(0, 0.2), seconds),
            fate=st.sampled_from(["lives"] * 6 + ["killed waiting", "killed holding", "leaves", "fails"]),
        ),
        min_size=1,
        max_size=25,
    )


class Run:
    """Plays callers against one state in simulated time."""

    def __init__(self, everybody: list[Caller], pace: Pace, push_backs: list[tuple[float, float]]) -> None:
        self.table = Table(pace, now=0.0)
        self.arrivals: list[float] = []
        self.granted: list[tuple[float, int]] = []
        self.first_looks: dict[int, float] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        for at, length in push_backs:
            self._later(at, partial(self.table.push_back, length))
        for number, caller in enumerate(everybody):
            self._later(caller.starts, partial(self._look, number, caller, None))
        while self._events:
            self.table.now, _, step = heapq.heappop(self._events)
            step()
            assert self._number < 20_000, "it does not come to an end"

    def _later(self, at: float, step: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (at, self._number, step))

    def _look(self, number: int, caller: Caller, arrived: float | None) -> None:
        ticket, now = f"ticket {number:03}", self.table.now
        turn = self.table.ask(ticket, arrived)
        self.first_looks.setdefault(number, now)
        if turn.granted:
            self._send(number, ticket, caller)
        elif caller.fate == "leaves":
            self.table.leave(ticket)
        elif caller.fate != "killed waiting":
            self._later(now + turn.look_again + caller.late, lambda: self._look(number, caller, turn.arrived))

    def _send(self, number: int, ticket: str, caller: Caller) -> None:
        self.granted.append((self.table.now, number))
        arrival = self.table.now + caller.delay
        self.arrivals.append(arrival)
        if caller.fate in ("lives", "killed waiting", "leaves"):
            self._later(arrival + caller.answer, lambda: self.table.answered(ticket))


RATES = st.one_of(st.sampled_from([0.5, 1, 2, 2.5, 2.9, 5]), st.floats(0.25, 12))


class TestAnyInterleaving:
    @settings(max_examples=300, deadline=None)
    @given(everybody=callers(latest=8.0), rate=RATES, push_backs=st.lists(st.tuples(st.floats(0, 10), st.floats(0, 5))))
    def test_no_second_sees_more_arrivals_than_the_limit(
        self, everybody: list[Caller], rate: float, push_backs: list[tuple[float, float]]
    ) -> None:
        run = Run(everybody, Pace.of(rate), push_backs)
        arrivals = sorted(run.arrivals)
        # Below one per second: one in as many seconds as make one whole request.
        allowed, window = (math.floor(rate), 1.0) if rate >= 1 else (1, 1 / rate)
        for first, beyond in zip(arrivals, arrivals[allowed:], strict=False):
            assert beyond - first >= window - 1e-9
        for at, length in push_backs:
            assert not [granted for granted, _ in run.granted if at < granted < at + length]

    @settings(max_examples=200, deadline=None)
    @given(everybody=callers(latest=8.0), rate=RATES)
    def test_everybody_alive_is_served(self, everybody: list[Caller], rate: float) -> None:
        run = Run(everybody, Pace.of(rate), [])
        alive = {
            number for number, caller in enumerate(everybody) if caller.fate in ("lives", "killed holding", "fails")
        }
        assert alive <= {number for _, number in run.granted}

    @settings(max_examples=200, deadline=None)
    @given(everybody=callers(latest=8.0, delay=0.2), rate=RATES)
    def test_order_of_arrival_is_order_of_service(self, everybody: list[Caller], rate: float) -> None:
        punctual = [Caller(caller.starts, 0.0, caller.delay, caller.answer, "lives") for caller in everybody]
        run = Run(punctual, Pace.of(rate), [])
        order = sorted(run.first_looks, key=lambda number: (run.first_looks[number], number))
        places = {number: place for place, number in enumerate(order)}
        served = [places[number] for _, number in run.granted]
        # At one instant the later of two may be told first that both can go.
        for earlier, later in itertools.pairwise(served):
            assert later > earlier - Pace.of(rate).permits

    @settings(max_examples=100, deadline=None)
    @given(number=st.integers(10, 25), rate=st.sampled_from([1, 2, 5]))
    def test_with_quick_answers_the_whole_rate_is_used(self, number: int, rate: int) -> None:
        everybody = [Caller(0.0, 0.0, 0.0, 0.0, "lives") for _ in range(number)]
        run = Run(everybody, Pace.of(rate), [])
        assert max(run.arrivals) <= (number - 1) // rate + 1e-6

    @pytest.mark.parametrize(("rate", "seconds"), [(2.5, 9), (2.9, 9), (1.5, 19), (0.5, 38)])
    def test_a_fraction_above_one_is_given_up(self, rate: float, seconds: float) -> None:
        run = Run([Caller(0.0, 0.0, 0.0, 0.0, "lives")] * 20, Pace.of(rate), [])
        assert max(run.arrivals) == pytest.approx(seconds)
