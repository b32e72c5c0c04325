# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The limiter over any storage: waits for turns, reports answers, cleans up after itself."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from airflow_provider_isvapp.errors import LimiterTimeout, LimiterUnavailable
from airflow_provider_isvapp.limiter import schedule
from airflow_provider_isvapp.limiter.interfaces import Storage
from airflow_provider_isvapp.limiter.schedule import Pace, Schedule, Turn
from airflow_provider_isvapp.limiter.state_text import decode, encode
from airflow_provider_isvapp.observer import Observer, TurnAwaited, unobserved

logger = logging.getLogger(__name__)

# A storage that restarts is waited for; one that stays away is an error.
PATIENCE_TO_SEND = 10.0
# What is only good manners towards the others is not worth much waiting: a permit frees itself, a ticket is dropped.
PATIENCE_AFTERWARDS = 1.0
ANNOUNCED_WAIT = 3.0
# Up to this long a storage keeps its connection between two looks.
SHORT_SLEEP = 2.0


class SharedLimiter:
    """See `Limiter` for the promises.

    :param storage: what the sharers have in common.
    :param pace: the vendor's limit.
    :param wait_timeout: seconds after which a wait for a turn ends with LimiterTimeout.
    :param on_wait: gets one sentence, once for each wait that takes more than three seconds.
    :param observe: told of each wait when it is over, however short it was.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        pace: Pace,
        wait_timeout: float,
        on_wait: Callable[[str], None],
        observe: Observer = unobserved,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._storage = storage
        self._pace = pace
        self._wait_timeout = wait_timeout
        self._on_wait = on_wait
        self._observe = observe
        self._clock = clock
        self._sleep = sleep

    def __repr__(self) -> str:
        return f"<SharedLimiter {self._limit} in {self._storage.name}>"

    @contextmanager
    def permit(self) -> Iterator[None]:
        """See `Limiter`."""
        ticket = secrets.token_hex(6)
        asked_at = self._clock()
        try:
            self._wait_for_turn(ticket)
        except LimiterUnavailable:
            self._storage.rest()
            raise
        except BaseException:
            self._afterwards(lambda state, now: schedule.leave(state, now, ticket))
            raise
        finally:
            self._observe(TurnAwaited(seconds=self._clock() - asked_at))
        try:
            yield
        except BaseException:
            # The request may still be on its way: its permit frees itself when that is no longer possible.
            self._storage.rest()
            raise
        self._afterwards(lambda state, now: schedule.answered(state, self._pace, now, ticket))

    def push_back(self, seconds: float) -> None:
        """See `Limiter`."""
        if seconds > 0:
            self._afterwards(lambda state, now: schedule.push_back(state, now, seconds))

    def _wait_for_turn(self, ticket: str) -> None:
        started = self._clock()
        announced = False
        arrived: float | None = None
        while not (turn := self._ask(ticket, arrived)).granted:
            arrived = turn.arrived
            waited = self._clock() - started
            if not announced and waited + turn.expected >= ANNOUNCED_WAIT:
                announced = True
                self._on_wait(self._announcement(turn))
            left = self._wait_timeout - waited
            if left <= 0:
                raise LimiterTimeout(
                    f"No turn within {self._wait_timeout:g} s under the shared limit of {self._limit}: still"
                    f" {_place(turn)} (limiter {self._storage.name}). Run fewer tasks at once on this account,"
                    " or let the task's retries try again later."
                )
            pause = min(turn.look_again, left)
            if pause > SHORT_SLEEP:
                self._storage.rest()
            self._sleep(pause)

    def _ask(self, ticket: str, arrived: float | None) -> Turn:
        def change(text: str | None, now: float) -> tuple[str, Turn]:
            state, turn = schedule.ask(decode(text, self._pace, now), self._pace, now, ticket, arrived)
            return encode(state), turn

        return self._storage.update(change, patience=PATIENCE_TO_SEND)

    def _afterwards(self, step: Callable[[Schedule, float], Schedule]) -> None:
        """Tell the others, if possible: what the caller has in hand (an answer, an exception) is worth more."""

        def change(text: str | None, now: float) -> tuple[str, None]:
            return encode(step(decode(text, self._pace, now), now)), None

        try:
            self._storage.update(change, patience=PATIENCE_AFTERWARDS)
        except LimiterUnavailable as error:
            logger.warning("The shared rate limiter did not take what it was told after a request: %s", error)
        self._storage.rest()

    @property
    def _limit(self) -> str:
        return f"{self._pace.permits / self._pace.hold:g} requests/s"

    def _announcement(self, turn: Turn) -> str:
        pause = f"; after a 429, nobody sends for another {turn.blocked:.0f} s" if turn.blocked else ""
        return (
            f"Waiting for a turn under the shared limit of {self._limit}: {_place(turn)}, expected to start in"
            f" {turn.expected:.0f} s{pause} (limiter {self._storage.name})."
        )


def _place(turn: Turn) -> str:
    return f"number {turn.position + 1} of {turn.depth} waiting"
