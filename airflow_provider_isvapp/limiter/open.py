# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""From the connection's extra ``rate_limit_storage`` to a limiter."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from airflow_provider_isvapp.errors import InvalidConnection
from airflow_provider_isvapp.limiter.interfaces import Limiter, Storage
from airflow_provider_isvapp.limiter.schedule import Pace
from airflow_provider_isvapp.limiter.shared import SharedLimiter
from airflow_provider_isvapp.limiter.state_text import FASTEST_PACE, SLOWEST_PACE
from airflow_provider_isvapp.observer import Observer, unobserved

logger = logging.getLogger(__name__)

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
            from airflow_provider_isvapp.limiter.file import FileStorage

            if url.netloc or url.query:
                raise _invalid("a directory is written with three slashes, as in file:///var/lib/airflow/limiter.")
            return FileStorage(Path(unquote(url.path)) if url.path else None, key)
        case "memory":
            from airflow_provider_isvapp.limiter.memory import MemoryStorage

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
            from airflow_provider_isvapp.limiter.redis import RedisStorage

            return RedisStorage(url, key)
        from airflow_provider_isvapp.limiter.postgresql import PostgresqlStorage

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
