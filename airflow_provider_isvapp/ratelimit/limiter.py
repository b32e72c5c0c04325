# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The limiter that all processes of an account share, and how it is opened from a connection's settings."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from airflow_provider_isvapp.errors import InvalidConnection, LimiterTimeout, LimiterUnavailable
from airflow_provider_isvapp.events import Observer, PermitAcquired, no_op_observer
from airflow_provider_isvapp.ratelimit import algorithm
from airflow_provider_isvapp.ratelimit.algorithm import (
    HIGHEST_RATE,
    LOWEST_RATE,
    Decision,
    LimiterState,
    RateLimit,
    decode,
    encode,
)
from airflow_provider_isvapp.ratelimit.storage import Storage, open_storage

logger = logging.getLogger(__name__)

# A storage that restarts is back within this time. A longer outage is an error.
ACQUIRE_TIMEOUT = 10.0
# Best-effort bookkeeping gets a short timeout: a permit expires, and a ticket is dropped.
BOOKKEEPING_TIMEOUT = 1.0
ANNOUNCED_WAIT = 3.0
# The connection to the storage stays open during sleeps up to this length.
SHORT_SLEEP = 2.0


class Limiter(Protocol):
    """One account's request budget. Thread-safe. Both methods block.

    On an event loop, run the whole request in a thread, for example with ``asyncio.to_thread``: the wait for a permit
    is as long as the queue.
    """

    def acquire(self) -> AbstractContextManager[None]:
        """Wait for a permit to send one request.

        Leave the context as soon as the headers of the response are there: the permit's pause begins then, and reading
        a long body inside the context slows down all processes. After an exception it is unknown whether the vendor
        received the request, and the permit expires a little later.

        :raises LimiterUnavailable: the storage does not respond.
        :raises LimiterTimeout: no permit was granted in time.
        """

    def block_for(self, seconds: float) -> None:
        """Grant no permit for a while, because the vendor responded with 429 despite the limit.

        An earlier block that lasts longer stays.

        :param seconds: how long, from now; at most five minutes.
        """


class SharedLimiter:
    """See `Limiter` for the promises.

    :param storage: the state that all processes share.
    :param rate_limit: the vendor's limit.
    :param wait_timeout: seconds after which the wait for a permit ends with LimiterTimeout.
    :param on_wait: called with a sentence, once per wait of more than three seconds.
    :param observe: called with each wait when it is over, even a short one.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        rate_limit: RateLimit,
        wait_timeout: float,
        on_wait: Callable[[str], None],
        observe: Observer = no_op_observer,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._storage = storage
        self._rate_limit = rate_limit
        self._wait_timeout = wait_timeout
        self._on_wait = on_wait
        self._observe = observe
        self._clock = clock
        self._sleep = sleep

    def __repr__(self) -> str:
        return f"<SharedLimiter {self._limit} in {self._storage.name}>"

    @contextmanager
    def acquire(self) -> Iterator[None]:
        """See `Limiter`."""
        ticket = secrets.token_hex(6)
        waiting_since = self._clock()
        try:
            self._wait_for_permit(ticket)
        except LimiterUnavailable:
            self._storage.release()
            raise
        except BaseException:
            self._update_best_effort(lambda state, now: algorithm.cancel(state, now, ticket))
            raise
        finally:
            self._observe(PermitAcquired(seconds=self._clock() - waiting_since))
        try:
            yield
        except BaseException:
            # The request may still be in transit to the vendor, so its permit expires with the lease.
            self._storage.release()
            raise
        self._update_best_effort(lambda state, now: algorithm.record_response(state, self._rate_limit, now, ticket))

    def block_for(self, seconds: float) -> None:
        """See `Limiter`."""
        if seconds > 0:
            self._update_best_effort(lambda state, now: algorithm.block_for(state, now, seconds))

    def _wait_for_permit(self, ticket: str) -> None:
        started = self._clock()
        announced = False
        arrived: float | None = None
        while not (decision := self._poll(ticket, arrived)).granted:
            arrived = decision.arrived
            waited = self._clock() - started
            if not announced and waited + decision.expected >= ANNOUNCED_WAIT:
                announced = True
                self._on_wait(self._announcement(decision))
            left = self._wait_timeout - waited
            if left <= 0:
                raise LimiterTimeout(
                    f"A request waited {self._wait_timeout:g} s for the shared rate limit of {self._limit}: still"
                    f" {_place(decision)} (limiter {self._storage.name}). Run fewer tasks at once on this account,"
                    " or retry the task later."
                )
            pause = min(decision.poll_after, left)
            if pause > SHORT_SLEEP:
                self._storage.release()
            self._sleep(pause)

    def _poll(self, ticket: str, arrived: float | None) -> Decision:
        def change(text: str | None, now: float) -> tuple[str, Decision]:
            state, decision = algorithm.acquire(
                decode(text, self._rate_limit, now), self._rate_limit, now, ticket, arrived
            )
            return encode(state), decision

        return self._storage.update(change, timeout=ACQUIRE_TIMEOUT)

    def _update_best_effort(self, step: Callable[[LimiterState, float], LimiterState]) -> None:
        """Update the shared state if possible; a failure must not replace the caller's response or exception."""

        def change(text: str | None, now: float) -> tuple[str, None]:
            return encode(step(decode(text, self._rate_limit, now), now)), None

        try:
            self._storage.update(change, timeout=BOOKKEEPING_TIMEOUT)
        except LimiterUnavailable as error:
            logger.warning("The shared rate limiter could not be updated after a request: %s", error)
        self._storage.release()

    @property
    def _limit(self) -> str:
        return f"{self._rate_limit.permits / self._rate_limit.hold:g} requests/s"

    def _announcement(self, decision: Decision) -> str:
        pause = f"; after a 429, no request is sent for another {decision.blocked:.0f} s" if decision.blocked else ""
        return (
            f"Waiting for a permit under the shared limit of {self._limit}: {_place(decision)}, expected to start in"
            f" {decision.expected:.0f} s{pause} (limiter {self._storage.name})."
        )


def _place(decision: Decision) -> str:
    return f"number {decision.position + 1} of {decision.depth} waiting"


def open_limiter(
    storage: str,
    *,
    key: str,
    requests_per_second: float,
    wait_timeout: float = 600.0,
    on_wait: Callable[[str], None] = logger.info,
    observe: Observer = no_op_observer,
) -> Limiter:
    """Open the limiter that all processes with the same storage and key share.

    :param storage: ``""`` or ``file://`` (a file of this user on this host), ``file:///directory``, ``memory://`` (this
        process only), ``redis://…``, ``rediss://…`` or ``postgresql://…``.
    :param key: identifies the limit, such as a hash of origin and credential. It is visible in the storage.
    :param requests_per_second: the vendor's limit, from 0.01 to 1000. Above one it is rounded down: 2.5 allows
        two requests in any second.
    :param wait_timeout: seconds after which the wait for one request ends with LimiterTimeout.
    :param on_wait: called with a sentence about the place in the queue and the expected start, once per wait of more
        than about three seconds.
    :param observe: called with each wait when it is over.
    :raises InvalidConnection: the storage cannot be used; the message does not repeat it, as it may contain a
        password.
    """
    if not LOWEST_RATE <= requests_per_second <= HIGHEST_RATE:  # false for nan, too
        raise InvalidConnection(
            f"extra requests_per_second: must be a number from {LOWEST_RATE:g} to {HIGHEST_RATE:g},"
            f" not {requests_per_second:g}."
        )
    return SharedLimiter(
        open_storage(storage, key=key),
        rate_limit=RateLimit.of(requests_per_second),
        wait_timeout=wait_timeout,
        on_wait=on_wait,
        observe=observe,
    )
