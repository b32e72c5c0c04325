# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""When the next request may be sent: the pure arithmetic of the limit and how its state is stored as text."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_isvapp.ratelimit.storage_base import LONGEST_TEXT

# A request that has not reached the vendor this long after its grant is beyond the promise above.
TOLERATED_DELAY = 1.0
# A ticket may be this much later than it was told to: a loaded machine wakes sleepers late.
GRACE = 0.25
# How often a waiting caller looks: at least this often near the front, more rarely the further its turn is away.
LOOK_OFTEN, LOOK_SHARE, LOOK_SELDOM = 1.0, 8.0, 10.0
MAX_PUSH_BACK = 300.0
# Keeps the state below what storages read. Whoever waits behind them is not written down and comes back for a place.
MOST_WAITING = 5000


@dataclass(frozen=True, kw_only=True)
class Pace:
    """A limit in the terms of this module; times in seconds.

    :param permits: how many requests may be under way or have been answered less than ``hold`` ago.
    :param hold: how long a permit stays busy after the answer.
    """

    permits: int
    hold: float

    @property
    def lease(self) -> float:
        """How long a permit stays busy after its grant, if nothing is heard of the answer."""
        return self.hold + TOLERATED_DELAY

    @classmethod
    def of(cls, requests_per_second: float) -> Pace:
        """Put a limit in requests per second into these terms."""
        if requests_per_second < 1:
            return cls(permits=1, hold=1 / requests_per_second)
        return cls(permits=math.floor(requests_per_second), hold=1.0)


@dataclass(frozen=True)
class BusyPermit:
    """A permit in use: by the holder of that ticket until it reports the answer, then by nobody until ``free_at``."""

    free_at: float
    holder: str | None


@dataclass(frozen=True, order=True)
class Ticket:
    """A place in the queue, in the queue's order; its owner was told to look again at ``due``."""

    arrived: float
    id: str
    due: float


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The whole state of one limiter, on its storage's clock, as it was at the moment ``at``."""

    at: float
    busy: tuple[BusyPermit, ...] = ()
    queue: tuple[Ticket, ...] = ()
    blocked_until: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Turn:
    """The answer to a look.

    :param granted: whether the request may be sent now.
    :param look_again: when to ask again, in seconds from now.
    :param expected: when the turn comes, in seconds from now; it can come later, hardly earlier.
    :param position: the place in the queue, from 0.
    :param depth: how many wait, this one included.
    :param blocked: how much longer a push-back stops everybody, in seconds.
    :param arrived: the ticket's place in the order, to be brought along at the next look.
    """

    granted: bool
    look_again: float = 0.0
    expected: float = 0.0
    position: int = 0
    depth: int = 1
    blocked: float = 0.0
    arrived: float


def fully_busy(pace: Pace, now: float) -> Schedule:
    """Stands in for a state that was lost: as if every permit's answer had come just now."""
    return Schedule(at=now, busy=(BusyPermit(now + pace.hold, None),) * pace.permits)


def ask(schedule: Schedule, pace: Pace, now: float, ticket: str, arrived: float | None) -> tuple[Schedule, Turn]:
    """Look whether it is this ticket's turn.

    :param ticket: the ticket's id.
    :param arrived: what the previous look said, or None at the first.
    """
    schedule = _brought_up_to(schedule, now)
    known = next((other.arrived for other in schedule.queue if other.id == ticket), None)
    if known is not None:
        arrived = known
    arrived = now if arrived is None else min(arrived, now)
    # If this ticket holds a permit already, the message about it was lost, so nothing was sent under it.
    schedule = replace(schedule, busy=tuple(permit for permit in schedule.busy if permit.holder != ticket))
    others = [other for other in schedule.queue if other.id != ticket and now <= other.due + GRACE]
    ahead = [other for other in others if (other.arrived, other.id) < (arrived, ticket)]
    free = pace.permits - len(schedule.busy) if now >= schedule.blocked_until else 0
    if len(ahead) < free:
        granted = BusyPermit(now + pace.lease, ticket)
        return (
            replace(schedule, busy=(*schedule.busy, granted), queue=tuple(others)),
            Turn(granted=True, arrived=arrived),
        )
    expected = _expected_start(schedule, pace, now, len(ahead)) - now
    look_again = min(expected, max(LOOK_OFTEN, expected / LOOK_SHARE), LOOK_SELDOM)
    mine = Ticket(arrived, ticket, now + look_again)
    queue = (*ahead, mine, *others[len(ahead) :])
    turn = Turn(
        granted=False,
        look_again=look_again,
        expected=expected,
        position=len(ahead),
        depth=len(queue),
        blocked=max(0.0, schedule.blocked_until - now),
        arrived=arrived,
    )
    return replace(schedule, queue=queue[:MOST_WAITING]), turn


def answered(schedule: Schedule, pace: Pace, now: float, ticket: str) -> Schedule:
    """The answer to the ticket's request is there: its permit has a known end."""
    schedule = _brought_up_to(schedule, now)
    busy = tuple(
        BusyPermit(min(permit.free_at, now + pace.hold), None) if permit.holder == ticket else permit
        for permit in schedule.busy
    )
    return replace(schedule, busy=busy)


def leave(schedule: Schedule, now: float, ticket: str) -> Schedule:
    """The ticket's owner gave up before it sent anything."""
    schedule = _brought_up_to(schedule, now)
    return replace(
        schedule,
        busy=tuple(permit for permit in schedule.busy if permit.holder != ticket),
        queue=tuple(other for other in schedule.queue if other.id != ticket),
    )


def push_back(schedule: Schedule, now: float, seconds: float) -> Schedule:
    """Nobody may send for that long; an earlier push-back that lasts longer stays."""
    schedule = _brought_up_to(schedule, now)
    return replace(schedule, blocked_until=max(schedule.blocked_until, now + min(seconds, MAX_PUSH_BACK)))


def _brought_up_to(schedule: Schedule, now: float) -> Schedule:
    """Forget permits that are free by now.

    If the clock was set back, or started anew with the machine, every time moves along with it: what was to last
    another second still does, and nothing waits for a moment that is hours away.
    """
    if (shift := now - schedule.at) < 0:
        schedule = Schedule(
            at=now,
            busy=tuple(BusyPermit(permit.free_at + shift, permit.holder) for permit in schedule.busy),
            queue=tuple(Ticket(other.arrived + shift, other.id, other.due + shift) for other in schedule.queue),
            blocked_until=schedule.blocked_until + shift,
        )
    return replace(schedule, at=now, busy=tuple(permit for permit in schedule.busy if permit.free_at > now))


def _expected_start(schedule: Schedule, pace: Pace, now: float, position: int) -> float:
    """When the ticket at that position can go at the earliest: every answer under way arriving at once.

    A look at that moment finds the true time of the permit, as the answer's time is known by then, so nobody has to
    look in short intervals.
    """
    ends = sorted(
        permit.free_at if permit.holder is None else min(permit.free_at, now + pace.hold) for permit in schedule.busy
    )
    # Connections to one account may disagree about its limit: then more permits can be busy than this pace has.
    ends = [now] * (pace.permits - len(ends)) + ends[max(0, len(ends) - pace.permits) :]
    rounds, place = divmod(position, pace.permits)
    return max(ends[place], schedule.blocked_until) + rounds * pace.hold


# The slowest pace that `open_limiter` accepts bounds how far ahead a permit's end can lie in a sound state, the fastest
# one how long the text of a state can be.
SLOWEST_PACE, FASTEST_PACE = 0.01, 1000.0
_LONGEST_LEASE = 1 / SLOWEST_PACE + TOLERATED_DELAY


def encode(schedule: Schedule) -> str:
    """Write a state down."""
    return json.dumps(
        {
            "at": schedule.at,
            "blocked_until": schedule.blocked_until,
            "busy": [[permit.free_at, permit.holder] for permit in schedule.busy],
            "queue": [[ticket.arrived, ticket.id, ticket.due] for ticket in schedule.queue],
        },
        separators=(",", ":"),
    )


def decode(text: str | None, pace: Pace, now: float) -> Schedule:
    """Read a stored state; one that cannot be right, whoever wrote it, is taken for lost.

    :param text: None if there certainly never was one, so that all permits are free.
    """
    if text is None:
        return Schedule(at=now)
    try:
        if len(text) > LONGEST_TEXT:
            raise ValueError("a limiter's state is not that long")
        return _parse(text)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return fully_busy(pace, now)


def _parse(text: str) -> Schedule:
    state = json.loads(text)
    at = _time(state["at"], latest=math.inf)
    return Schedule(
        at=at,
        blocked_until=_time(state["blocked_until"], latest=at + MAX_PUSH_BACK),
        busy=tuple(
            BusyPermit(_time(free_at, latest=at + _LONGEST_LEASE), None if holder is None else _id(holder))
            for free_at, holder in state["busy"]
        ),
        queue=tuple(
            sorted(
                Ticket(_time(arrived, latest=at), _id(ticket), _time(due, latest=at + LOOK_SELDOM))
                for arrived, ticket, due in state["queue"]
            )
        ),
    )


def _time(value: Any, *, latest: float) -> float:
    # The margin is for the rounding of a clock that counts from 1970.
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or value > latest + 1e-3
    ):
        raise ValueError("not a time of this state")
    return float(value)


def _id(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not the id of a ticket")
    return value
