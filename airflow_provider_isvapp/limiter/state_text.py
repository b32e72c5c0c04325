# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The schedule as the text that storages keep: one line of JSON."""

from __future__ import annotations

import json
import math
from typing import Any

from airflow_provider_isvapp.limiter.interfaces import LONGEST_TEXT
from airflow_provider_isvapp.limiter.schedule import (
    LOOK_SELDOM,
    MAX_PUSH_BACK,
    TOLERATED_DELAY,
    BusyPermit,
    Pace,
    Schedule,
    Ticket,
    fully_busy,
)

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
