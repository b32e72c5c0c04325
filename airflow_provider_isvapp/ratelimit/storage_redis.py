# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Shares a limit between all hosts that reach one Redis or Valkey server, by that server's clock."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from airflow_provider_isvapp.errors import LimiterUnavailable
from airflow_provider_isvapp.ratelimit.storage import (
    LONGEST_TEXT,
    Change,
    T,
    compare_and_set,
    refused,
    storage_name,
    unavailable,
)

_TIMEOUT = 2.0
# Much longer than any wait of a state.
_KEPT_AFTER_USE = 3600

# The beginning of a text is enough to detect one that is too long, and to compare it.
_READ = f"return {{redis.call('GETRANGE', KEYS[1], 0, {LONGEST_TEXT}), redis.call('TIME')}}"
_REPLACE = f"""
if redis.call('GETRANGE', KEYS[1], 0, {LONGEST_TEXT}) == ARGV[1] then
    redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
    return 1
end
return 0
"""


class RedisStorage:
    """One string per key. The driver opens a connection for each thread that needs one, and again after a fork.

    A missing key may have expired, or the server may have lost it: the permits are treated as busy, which delays the
    first request after an idle hour by one pause.
    """

    def __init__(self, url: SplitResult, key: str) -> None:
        self._url = url
        self._key = f"isvapp:rate-limit:{key}"
        self.name = storage_name(url)
        self._client = Redis.from_url(
            url.geturl(),
            decode_responses=True,
            # A text that is not UTF-8 is not a limiter's, but it is compared when it is replaced.
            encoding_errors="surrogateescape",
            socket_timeout=_TIMEOUT,
            socket_connect_timeout=_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
        )
        # The driver treats a database that is not a number as 0.
        if not _usable(self._client) or not re.fullmatch(r"(/\d*)?", url.path):
            raise ValueError("the driver does not understand this URL")

    def update(self, change: Change[T], *, timeout: float) -> T:
        """See `Storage`."""
        return compare_and_set(self, change, timeout=timeout)

    def release(self) -> None:
        """Keep the connection: a Redis server has enough of them."""

    def read(self) -> tuple[str, float]:
        """See `Cell`."""
        return self._eval(_text_and_time, _READ)

    def replace(self, old: str | None, new: str) -> bool:
        """See `Cell`."""
        return self._eval(lambda replaced: bool(replaced == 1), _REPLACE, old or "", new, str(_KEPT_AFTER_USE))

    def _eval(self, understand: Callable[[Any], T], script: str, *arguments: str) -> T:
        failure: LimiterUnavailable
        try:
            return understand(self._client.eval(script, 1, self._key, *arguments))
        except ResponseError as error:
            failure = refused(self._url, error, where=f"key {self._key}")
        # ValueError and TypeError: the server does not speak Redis, or its name is invalid.
        except (RedisError, OSError, ValueError, TypeError) as error:
            failure = unavailable(self._url, error)
        raise failure


def _text_and_time(response: Any) -> tuple[str, float]:
    text, (seconds, microseconds) = response
    return str(text), int(seconds) + int(microseconds) / 1e6


def _usable(client: Redis) -> bool:
    pool = client.connection_pool
    try:
        # Does not connect. The driver checks the options of a URL only here.
        pool.connection_class(**pool.connection_kwargs)
    except TypeError:
        return False
    return True
