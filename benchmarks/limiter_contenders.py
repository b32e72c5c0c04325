# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The limiters that `benchmarks/limiter.py` compares, each as a context around one request."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PER_SECOND = 2
Permit = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Places:
    """The storages that limiters share."""

    directory: Path
    redis: str
    postgresql: str


def waiting_first(wait: Callable[[], object]) -> Permit:
    """Make a permit from a function that only waits, as in other limiters."""

    @contextmanager
    def permit() -> Iterator[None]:
        wait()
        yield

    return permit


def ours(storage: Callable[[Places], str]) -> Callable[[Places], Permit]:
    def make(places: Places) -> Permit:
        from airflow_provider_isvapp.ratelimit import open_limiter

        return open_limiter(storage(places), key="bench", requests_per_second=PER_SECOND).acquire

    return make


def next_slot_in_a_file(places: Places) -> Permit:
    """Reserve the next slot, a little more than half a second after the last one, and sleep until then."""
    file = os.open(places.directory / "next-slot", os.O_RDWR | os.O_CREAT)

    def wait() -> None:
        fcntl.flock(file, fcntl.LOCK_EX)
        now = time.monotonic()
        slot = max(now, float(os.pread(file, 50, 0) or 0) + 0.51)
        os.pwrite(file, f"{slot:<50}".encode(), 0)
        fcntl.flock(file, fcntl.LOCK_UN)
        time.sleep(slot - now)

    return waiting_first(wait)


def pyrate(bucket: Callable[[Places], Any]) -> Callable[[Places], Permit]:
    def make(places: Places) -> Permit:
        from pyrate_limiter import Limiter

        limiter = Limiter(bucket(places))
        return waiting_first(lambda: limiter.try_acquire("bench"))

    return make


def _sqlite_bucket(places: Places) -> Any:
    from pyrate_limiter import Duration, Rate, SQLiteBucket

    rates = [Rate(PER_SECOND, Duration.SECOND)]
    return SQLiteBucket.init_from_file(rates, db_path=str(places.directory / "pyrate.sqlite"), use_file_lock=True)


def _redis_bucket(places: Places) -> Any:
    from pyrate_limiter import Duration, Rate, RedisBucket
    from redis import Redis

    return RedisBucket.init([Rate(PER_SECOND, Duration.SECOND)], Redis.from_url(places.redis), "pyrate")


def _postgresql_bucket(places: Places) -> Any:
    from psycopg_pool import ConnectionPool
    from pyrate_limiter import Duration, PostgresBucket, Rate

    pool = ConnectionPool(places.postgresql, min_size=1, max_size=2, open=True)
    return PostgresBucket(pool, "pyrate", [Rate(PER_SECOND, Duration.SECOND)])


def limits_in_redis(strategy: str) -> Callable[[Places], Permit]:
    def make(places: Places) -> Permit:
        from limits import RateLimitItemPerSecond, strategies
        from limits.storage import storage_from_string

        limiter = getattr(strategies, strategy)(storage_from_string(places.redis))
        item = RateLimitItemPerSecond(PER_SECOND)

        def wait() -> None:
            # The library returns the time of the window's reset; the caller must wait.
            while not limiter.hit(item, "bench"):
                time.sleep(max(0.005, limiter.get_window_stats(item, "bench").reset_time - time.time()))

        return waiting_first(wait)

    return make


CONTENDERS: dict[str, Callable[[Places], Permit]] = {
    "this provider, file": ours(lambda places: f"file://{places.directory}"),
    "this provider, Redis": ours(lambda places: places.redis),
    "this provider, PostgreSQL": ours(lambda places: places.postgresql),
    "next slot every 0.51 s, file": next_slot_in_a_file,
    "pyrate-limiter, SQLite and file lock": pyrate(_sqlite_bucket),
    "pyrate-limiter, Redis": pyrate(_redis_bucket),
    "pyrate-limiter, PostgreSQL": pyrate(_postgresql_bucket),
    "limits, moving window, Redis": limits_in_redis("MovingWindowRateLimiter"),
    "limits, fixed window, Redis": limits_in_redis("FixedWindowRateLimiter"),
}
OURS = tuple(name for name in CONTENDERS if name.startswith("this provider"))
