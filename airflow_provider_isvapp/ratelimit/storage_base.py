# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The protocol of a storage for the limiter's state, and what the storages share: compare-and-set, errors, memory."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar
from urllib.parse import SplitResult, parse_qsl, quote, quote_plus, unquote

from airflow_provider_isvapp.errors import LimiterUnavailable

T = TypeVar("T")

LONGEST_TEXT = 512 * 1024
"""How many characters of a stored text are read. A limiter never writes a longer one."""

# Takes the stored text (None: never written) and the storage's clock in seconds; returns the new text and a result. It
# may be called several times for one update, so it must be pure.
Change = Callable[[str | None, float], tuple[str, T]]


class Limiter(Protocol):
    """One account's request budget. Thread-safe. Both methods block.

    On an event loop, run the whole request in a thread, for example with ``asyncio.to_thread``: the wait for a permit
    is as long as the queue.
    """

    def acquire(self) -> AbstractContextManager[None]:
        """Wait for a permit to send one request.

        Leave the context as soon as the headers of the response are there: the permit's pause begins then, so reading
        a long body inside it slows all processes down. After an exception it is unknown whether the request was
        received, and the permit expires a little later.

        :raises LimiterUnavailable: if the storage does not respond.
        :raises LimiterTimeout: if no permit was granted in time.
        """

    def block_for(self, seconds: float) -> None:
        """Grant no permit for a while, because the vendor responded with 429 all the same.

        :param seconds: how long, from now; at most five minutes count.
        """


class Storage(Protocol):
    """Keeps one text for all processes that share a limiter, and has a clock.

    A foreign text in its place is read up to little more than `LONGEST_TEXT` and replaced by the next update.
    """

    @property
    def name(self) -> str:
        """The location, for messages, without a password."""

    def update(self, change: Change[T], *, timeout: float) -> T:
        """Replace the text by the result of ``change``, atomically.

        :param timeout: for how many seconds to try while the storage is busy or unreachable.
        :raises LimiterUnavailable: if it stays so.
        """

    def release(self) -> None:
        """Release any connection held between updates."""


_PAUSE_AFTER_CONFLICT = 0.005
_PAUSE_AFTER_FAILURE = 0.25
_LONGEST_MESSAGE = 500


class Cell(Protocol):
    """One text on a server. Both methods raise LimiterUnavailable if the server does not respond within seconds."""

    name: str

    def read(self) -> tuple[str | None, float]:
        """Get the text and the server's clock in seconds."""

    def replace(self, old: str | None, new: str) -> bool:
        """Write ``new`` if the text is still ``old``; return whether it was."""


def compare_and_set(cell: Cell, change: Change[T], *, timeout: float) -> T:
    """Update the text, retrying until no other update interferes; see `Storage.update`."""
    deadline = time.monotonic() + timeout
    while True:
        pause = _PAUSE_AFTER_CONFLICT
        try:
            old, now = cell.read()
            new, result = change(old, now)
            if cell.replace(old, new):
                return result
            failure = LimiterUnavailable(
                f"The rate limiter's storage {cell.name} is too slow for the number of processes that use it:"
                f" another process won every update for {timeout:g} s."
            )
        except LimiterUnavailable as error:
            # A server that restarts or fails over comes back.
            failure, pause = error, _PAUSE_AFTER_FAILURE
        if time.monotonic() >= deadline:
            raise failure
        time.sleep(pause * random.uniform(0.2, 1.0))  # noqa: S311 - spreads attempts, no secret


def storage_name(url: SplitResult) -> str:
    """Name the server without user, password and options."""
    port = f":{url.port}" if url.port else ""
    return f"{url.scheme}://{url.hostname}{port}{url.path}"


def unavailable(url: SplitResult, error: Exception) -> LimiterUnavailable:
    """Quote a driver's exception without keeping it: its frames and objects know the password."""
    return LimiterUnavailable(
        f"The rate limiter's storage {storage_name(url)} does not respond: {_driver_message(url, error)}. Requests are"
        " not sent without it: check that it runs, and rate_limit_storage of the connection or of Airflow's"
        " configuration."
    )


def refused(url: SplitResult, error: Exception, *, where: str) -> LimiterUnavailable:
    """Say why a server refuses a statement; see `unavailable`.

    :param where: the key or table that the statement uses, which something else may occupy.
    """
    return LimiterUnavailable(
        f"The rate limiter's storage {storage_name(url)} refuses what the limiter needs: {_driver_message(url, error)}."
        f" Requests are not sent without it: check the user's rights and remove what stands in the place of {where}, or"
        " set the connection's extra rate_limit_storage to another place."
    )


def _driver_message(url: SplitResult, error: Exception) -> str:
    text = str(error)
    for spelling in sorted(_spellings(url), key=len, reverse=True):
        text = text.replace(spelling, "***")
    text = " ".join(text.split()) or type(error).__name__
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}…"


def _spellings(url: SplitResult) -> set[str]:
    """List the ways to write the secrets of a URL: as it is, decoded, and encoded anew by a driver."""
    # A plus sign in the options is a space to redis and itself to libpq.
    options = [*parse_qsl(url.query), *parse_qsl(url.query.replace("+", "%2B"))]
    secrets = {url.password or "", *(value for name, value in options if "pass" in name.lower())}
    plain = secrets | {unquote(secret) for secret in secrets}
    encoded = {encode(secret, safe=safe) for secret in plain for encode in (quote, quote_plus) for safe in ("", "/")}
    return {spelling for secret in plain | encoded for spelling in (secret, repr(secret)[1:-1]) if spelling}


class _Cell:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.text: str | None = None


class MemoryStorage:
    """One text per key, for the life of the process."""

    def __init__(self, key: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._key = key
        self._clock = clock
        self.name = "memory://"

    def update(self, change: Change[T], *, timeout: float) -> T:
        """See `Storage`."""
        cell = _cells.setdefault(self._key, _Cell())
        with cell.lock:
            cell.text, result = change(cell.text, self._clock())
        return result

    def release(self) -> None:
        """No connection is held."""


_cells: dict[str, _Cell] = {}
# A forked child starts without them: a lock that another thread of the parent held would never be released in it.
os.register_at_fork(after_in_child=_cells.clear)
