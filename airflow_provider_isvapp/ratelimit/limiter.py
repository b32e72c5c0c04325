# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The limiter that all processes of an account share, and how it is opened from a connection's settings."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from airflow_provider_isvapp.errors import InvalidConnection, LimiterTimeout, LimiterUnavailable
from airflow_provider_isvapp.events import Observer, TurnAwaited, unobserved
from airflow_provider_isvapp.ratelimit import schedule
from airflow_provider_isvapp.ratelimit.schedule import FASTEST_PACE, SLOWEST_PACE, Pace, Schedule, Turn, decode, encode
from airflow_provider_isvapp.ratelimit.storage_base import Limiter, Storage

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


_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def open_limiter(
    storage: str,
    *,
    key: str,
    requests_per_second: float,
    wait_timeout: float = 600.0,
    on_wait: Callable[[str], None] = logger.info,
    observe: Observer = unobserved,
) -> Limiter:
    """Open the limiter that everybody with the same storage and key shares.

    :param storage: ``""`` or ``file://`` (a file of this user on this host), ``file:///directory``, ``memory://`` (this
        process only), ``redis://…``, ``rediss://…`` or ``postgresql://…``.
    :param key: what the limit applies to, such as a hash of origin and credential. It is visible in the storage.
    :param requests_per_second: the vendor's limit, from 0.01 to 1000. A fraction above one does not count: no second
        holds more than two requests for 2.5.
    :param wait_timeout: seconds after which the wait for one request ends with LimiterTimeout.
    :param on_wait: gets one sentence with the place in the queue and the expected start, once for each wait of more
        than about three seconds.
    :param observe: told of each wait when it is over.
    :raises InvalidConnection: the storage cannot be used as given; the message does not repeat it, as it may hold a
        password.
    """
    if not _KEY.fullmatch(key):
        raise ValueError(f"A limiter's key has letters, digits, '.', '_' and '-' only, at most 128: {key!r}")
    if not SLOWEST_PACE <= requests_per_second <= FASTEST_PACE:  # false for nan, too
        raise InvalidConnection(
            f"The connection's extra requests_per_second must be a number from {SLOWEST_PACE:g} to {FASTEST_PACE:g},"
            f" not {requests_per_second:g}."
        )
    return SharedLimiter(
        _open_storage(storage.strip(), key),
        pace=Pace.of(requests_per_second),
        wait_timeout=wait_timeout,
        on_wait=on_wait,
        observe=observe,
    )


def _open_storage(storage: str, key: str) -> Storage:
    # Each storage is imported where it is chosen: the drivers take hundreds of milliseconds.
    url = _split(storage or "file://")
    match url.scheme:
        case "file":
            from airflow_provider_isvapp.ratelimit.storage_file import FileStorage

            if url.netloc or url.query:
                raise _invalid("a directory is written with three slashes, as in file:///var/lib/airflow/limiter.")
            return FileStorage(Path(unquote(url.path)) if url.path else None, key)
        case "memory":
            from airflow_provider_isvapp.ratelimit.storage_base import MemoryStorage

            if url.netloc or url.path or url.query:
                raise _invalid("nothing may follow memory://.")
            return MemoryStorage(key)
        case "redis" | "rediss" | "postgresql" | "postgres":
            return _open_server(url, key)
        case _:
            # The scheme alone is repeated: the rest may hold a password.
            hint = f"{url.scheme}:// is not known" if url.scheme else "it is not a URL"
            raise _invalid(
                f"{hint}. Use file:///directory, redis://host:port/0 or postgresql://host:port/database,"
                " or leave it empty for a file of this host."
            )


def _open_server(url: SplitResult, key: str) -> Storage:
    if not url.hostname:
        raise _invalid(f"{url.scheme}:// needs a host, as in {url.scheme}://host:port/….")
    extra = "redis" if url.scheme.startswith("redis") else "postgresql"
    try:
        if extra == "redis":
            from airflow_provider_isvapp.ratelimit.storage_redis import RedisStorage

            return RedisStorage(url, key)
        from airflow_provider_isvapp.ratelimit.storage_postgresql import PostgresqlStorage

        return PostgresqlStorage(url, key)
    except ImportError:
        problem = (
            f"the driver for {url.scheme}:// is not installed here."
            f" Install it with: pip install 'airflow-provider-isvapp[{extra}]'"
        )
    except ValueError:
        problem = f"the driver for {url.scheme}:// does not understand the part after the host."
    # Raised here, as a driver's exception may quote the password.
    raise _invalid(problem)


def _split(storage: str) -> SplitResult:
    url = None
    try:
        url = urlsplit(storage)
        _ = url.port
    except ValueError:
        url = None
    # Characters that end the host part also end a password that holds them unescaped, and the rest of the password
    # would turn up as a host, a path or a port in somebody's error message.
    if url is None or url.fragment or url.netloc.count("@") > 1 or "@" in url.path + url.query:
        raise _invalid(
            "it cannot be read. Percent-encode special characters of user name and password (@ is %40, / is %2F)."
        )
    if url.password == "***":  # noqa: S105 - what Airflow's UI shows instead of a password
        raise _invalid("its password is three asterisks, which Airflow shows instead of one. Enter it again.")
    return url


def _invalid(problem: str) -> InvalidConnection:
    return InvalidConnection(f"The connection's extra rate_limit_storage is wrong: {problem}")
