# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Decides when the next request may be sent: pure functions of the limiter's state, and that state as text."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import msgspec

from airflow_provider_isvapp.ratelimit.storage import LONGEST_TEXT

# The limit holds for requests that reach the vendor within this time after their permit was granted.
TOLERATED_DELAY = 1.0
# How late a ticket may poll: a loaded machine wakes sleeping threads late.
GRACE = 0.25
# Seconds between the polls of a waiting caller: the shortest interval, the divisor of the expected wait, the longest.
POLL_OFTEN, POLL_SHARE, POLL_SELDOM = 1.0, 8.0, 10.0
LONGEST_BLOCK = 300.0
# Keeps the state below the size that storages read. Further callers are not recorded; their next poll is a new request.
MOST_WAITING = 5000


@dataclass(frozen=True, kw_only=True)
class RateLimit:
    """A limit in terms of permits; times in seconds.

    :param permits: how many requests may be in flight, or have had their response less than ``hold`` ago.
    :param hold: how long a permit stays busy after the response.
    """

    permits: int
    hold: float

    @property
    def lease(self) -> float:
        """How long a permit stays busy after it was granted, if no response is recorded."""
        return self.hold + TOLERATED_DELAY

    @classmethod
    def of(cls, requests_per_second: float) -> RateLimit:
        """Convert a limit in requests per second."""
        if requests_per_second < 1:
            return cls(permits=1, hold=1 / requests_per_second)
        return cls(permits=math.floor(requests_per_second), hold=1.0)


class BusyPermit(msgspec.Struct, frozen=True, array_like=True):
    """A permit in use: leased to a ticket until its response is recorded, then held by no ticket until ``free_at``."""

    free_at: float
    holder: str | None


class Ticket(msgspec.Struct, frozen=True, order=True, array_like=True):
    """A place in the queue, in the queue's order; its owner polls again at ``due``."""

    arrived: float
    id: str
    due: float


@dataclass(frozen=True, kw_only=True)
class LimiterState:
    """The whole state of one limiter at the time ``at``, by its storage's clock."""

    at: float
    busy: tuple[BusyPermit, ...]
    queue: tuple[Ticket, ...]
    blocked_until: float


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The result of a poll.

    :param granted: whether the request may be sent now.
    :param poll_after: when to poll again, in seconds from now.
    :param expected: seconds until a permit is expected; it may take longer, hardly less.
    :param position: the place in the queue, from 0.
    :param depth: the length of the queue, this ticket included.
    :param blocked: for how many more seconds no permit is granted, after a 429.
    :param arrived: the ticket's place in the order, an argument of its next poll.
    """

    granted: bool
    poll_after: float = 0.0
    expected: float = 0.0
    position: int = 0
    depth: int = 1
    blocked: float = 0.0
    arrived: float


def fully_busy(rate_limit: RateLimit, now: float) -> LimiterState:
    """Return a replacement for a lost state: as if the response to every permit had just arrived."""
    busy = (BusyPermit(now + rate_limit.hold, None),) * rate_limit.permits
    return LimiterState(at=now, busy=busy, queue=(), blocked_until=0.0)


def acquire(
    state: LimiterState, rate_limit: RateLimit, now: float, ticket: str, arrived: float | None
) -> tuple[LimiterState, Decision]:
    """Grant a permit to a ticket, or a place in the queue.

    :param ticket: the ticket's id.
    :param arrived: what the previous poll returned; None at the first.
    """
    state = _advance_to(state, now)
    known = next((other.arrived for other in state.queue if other.id == ticket), None)
    if known is not None:
        arrived = known
    arrived = now if arrived is None else min(arrived, now)
    # If this ticket holds a permit, the message about it was lost, so no request was sent with it.
    state = replace(state, busy=tuple(permit for permit in state.busy if permit.holder != ticket))
    others = [other for other in state.queue if other.id != ticket and now <= other.due + GRACE]
    ahead = [other for other in others if (other.arrived, other.id) < (arrived, ticket)]
    free = rate_limit.permits - len(state.busy) if now >= state.blocked_until else 0
    if len(ahead) < free:
        granted = BusyPermit(now + rate_limit.lease, ticket)
        return (
            replace(state, busy=(*state.busy, granted), queue=tuple(others)),
            Decision(granted=True, arrived=arrived),
        )
    expected = _expected_start(state, rate_limit, now, len(ahead)) - now
    poll_after = min(expected, max(POLL_OFTEN, expected / POLL_SHARE), POLL_SELDOM)
    mine = Ticket(arrived, ticket, now + poll_after)
    queue = (*ahead, mine, *others[len(ahead) :])
    decision = Decision(
        granted=False,
        poll_after=poll_after,
        expected=expected,
        position=len(ahead),
        depth=len(queue),
        blocked=max(0.0, state.blocked_until - now),
        arrived=arrived,
    )
    return replace(state, queue=queue[:MOST_WAITING]), decision


def record_response(state: LimiterState, rate_limit: RateLimit, now: float, ticket: str) -> LimiterState:
    """Record that the response to the ticket's request arrived, so that its permit has a known end."""
    state = _advance_to(state, now)
    busy = tuple(
        BusyPermit(min(permit.free_at, now + rate_limit.hold), None) if permit.holder == ticket else permit
        for permit in state.busy
    )
    return replace(state, busy=busy)


def cancel(state: LimiterState, now: float, ticket: str) -> LimiterState:
    """Remove a ticket whose owner stopped waiting before it sent a request."""
    state = _advance_to(state, now)
    return replace(
        state,
        busy=tuple(permit for permit in state.busy if permit.holder != ticket),
        queue=tuple(other for other in state.queue if other.id != ticket),
    )


def block_for(state: LimiterState, now: float, seconds: float) -> LimiterState:
    """Grant no permit for that long; an earlier block that lasts longer stays."""
    state = _advance_to(state, now)
    return replace(state, blocked_until=max(state.blocked_until, now + min(seconds, LONGEST_BLOCK)))


def _advance_to(state: LimiterState, now: float) -> LimiterState:
    """Drop permits that are free by now.

    If the clock was set back, or restarted with the machine, all times move with it: what had a second left still has
    a second left, and no ticket waits for hours.
    """
    if (shift := now - state.at) < 0:
        state = LimiterState(
            at=now,
            busy=tuple(BusyPermit(permit.free_at + shift, permit.holder) for permit in state.busy),
            queue=tuple(Ticket(other.arrived + shift, other.id, other.due + shift) for other in state.queue),
            blocked_until=state.blocked_until + shift,
        )
    return replace(state, at=now, busy=tuple(permit for permit in state.busy if permit.free_at > now))


def _expected_start(state: LimiterState, rate_limit: RateLimit, now: float, position: int) -> float:
    """Return the earliest time for the ticket at a position: as if all outstanding responses arrived now.

    A poll at that time finds the true end of the permit, since the response has arrived by then, so short polling
    intervals are not needed.
    """
    ends = sorted(
        permit.free_at if permit.holder is None else min(permit.free_at, now + rate_limit.hold) for permit in state.busy
    )
    # Connections to one account may disagree about its limit: then more permits can be busy than this limit has.
    ends = [now] * (rate_limit.permits - len(ends)) + ends[max(0, len(ends) - rate_limit.permits) :]
    rounds, place = divmod(position, rate_limit.permits)
    return max(ends[place], state.blocked_until) + rounds * rate_limit.hold


# The lowest rate that `open_limiter` accepts bounds how far ahead a permit's end can lie in a valid state, the highest
# one how long the text of a state can be.
LOWEST_RATE, HIGHEST_RATE = 0.01, 1000.0
_LONGEST_LEASE = 1 / LOWEST_RATE + TOLERATED_DELAY


def encode(state: LimiterState) -> str:
    """Serialize a state."""
    return msgspec.json.encode(state).decode()


def decode(text: str | None, rate_limit: RateLimit, now: float) -> LimiterState:
    """Read a stored state; an invalid one is treated as lost.

    :param text: None if no state was ever written, so that all permits are free.
    """
    if text is None:
        return LimiterState(at=now, busy=(), queue=(), blocked_until=0.0)
    try:
        if len(text) > LONGEST_TEXT:
            raise ValueError("a limiter's state is not that long")
        state = msgspec.json.decode(text, type=LimiterState)
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return fully_busy(rate_limit, now)
    return replace(state, queue=tuple(sorted(state.queue))) if _is_possible(state) else fully_busy(rate_limit, now)


def _is_possible(state: LimiterState) -> bool:
    """Check that no time lies further ahead than a limiter sets it."""
    latest = state.at + 1e-3  # for the rounding of a clock that counts from 1970
    return (
        state.blocked_until <= latest + LONGEST_BLOCK
        and all(permit.free_at <= latest + _LONGEST_LEASE for permit in state.busy)
        and all(ticket.arrived <= latest and ticket.due <= latest + POLL_SELDOM for ticket in state.queue)
    )
