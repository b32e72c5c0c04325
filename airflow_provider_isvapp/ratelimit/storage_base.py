# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What a storage of the limiter's state does, and the update by compare-and-set that most share."""

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
"""How many characters of a stored text count. A limiter's longest state is shorter; what is longer was not its own."""

# Gets the stored text (None: certainly never written) and the storage's clock in seconds; gives the new text and a
# result. It may be called several times for one update, so it must not do anything but compute.
Change = Callable[[str | None, float], tuple[str, T]]


class Limiter(Protocol):
    """One account's request budget. Safe to share between threads; both methods block, so a coroutine runs them in one.

    In an event loop, run the whole exchange in a thread, for instance with ``asyncio.to_thread``: waiting for a permit
    can take as long as the queue is.
    """

    def permit(self) -> AbstractContextManager[None]:
        """Wait for the turn to send one request.

        Leave the context as soon as the answer's headers are there: the permit's pause begins then, so reading
        a long body inside it would slow everybody down. Leaving with an exception says that the request's fate is
        unknown, and the permit frees itself a little later.

        :raises LimiterUnavailable: the storage does not answer.
        :raises LimiterTimeout: the turn did not come in time.
        """

    def push_back(self, seconds: float) -> None:
        """Let nobody send for a while, because the vendor answered 429 all the same.

        :param seconds: how long, from now; at most five minutes count.
        """


class Storage(Protocol):
    """Keeps one text for everybody who shares a limiter, with a clock of its own.

    Of a text that somebody else put there, however long, it reads not much more than `LONGEST_TEXT`, and the next
    update replaces it.
    """

    @property
    def name(self) -> str:
        """Where it is, for messages, without a password."""

    def update(self, change: Change[T], *, patience: float) -> T:
        """Replace the text by what ``change`` makes of it, so that no other update comes between.

        :param patience: for how many seconds to try when the storage is busy or out of reach.
        :raises LimiterUnavailable: it stayed so.
        """

    def rest(self) -> None:
        """Give back what is only worth keeping for updates that follow each other closely."""


_PAUSE_AFTER_CONFLICT = 0.005
_PAUSE_AFTER_FAILURE = 0.25
_LONGEST_WORDS = 500


class Cell(Protocol):
    """One text on a server. Both methods raise LimiterUnavailable if the server does not answer within seconds."""

    name: str

    def read(self) -> tuple[str | None, float]:
        """Get the text and the server's clock in seconds."""

    def replace(self, old: str | None, new: str) -> bool:
        """Write ``new`` if the text is still ``old``, and tell whether it was."""


def compare_and_set(cell: Cell, change: Change[T], *, patience: float) -> T:
    """Do one update, as often as it takes; see `Storage.update`."""
    deadline = time.monotonic() + patience
    while True:
        pause = _PAUSE_AFTER_CONFLICT
        try:
            old, now = cell.read()
            new, result = change(old, now)
            if cell.replace(old, new):
                return result
            failure = LimiterUnavailable(
                f"The rate limiter's storage {cell.name} is too slow for the number of processes that use it:"
                f" somebody else's update came first for {patience:g} s."
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
    """Say what a driver's exception says, without keeping the exception: its frames and objects know the password."""
    return LimiterUnavailable(
        f"The rate limiter's storage {storage_name(url)} does not answer: {_words(url, error)}. Requests are not sent"
        " without it: check that it runs and the connection's extra rate_limit_storage."
    )


def refused(url: SplitResult, error: Exception, *, where: str) -> LimiterUnavailable:
    """Say why a server that answers refuses a statement; see `unavailable`.

    :param where: the place on the server that it was about, which something else may occupy.
    """
    return LimiterUnavailable(
        f"The rate limiter's storage {storage_name(url)} refuses what the limiter needs: {_words(url, error)}. Requests"
        f" are not sent without it: check the user's rights and remove what stands in the place of {where}, or set the"
        " connection's extra rate_limit_storage to another place."
    )


def _words(url: SplitResult, error: Exception) -> str:
    text = str(error)
    for spelling in sorted(_spellings(url), key=len, reverse=True):
        text = text.replace(spelling, "***")
    text = " ".join(text.split()) or type(error).__name__
    return text if len(text) <= _LONGEST_WORDS else f"{text[:_LONGEST_WORDS]}…"


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
    """One text for each key, as long as the process lives."""

    def __init__(self, key: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._key = key
        self._clock = clock
        self.name = "memory://"

    def update(self, change: Change[T], *, patience: float) -> T:
        """See `Storage`."""
        cell = _cells.setdefault(self._key, _Cell())
        with cell.lock:
            cell.text, result = change(cell.text, self._clock())
        return result

    def rest(self) -> None:
        """Nothing is kept."""


_cells: dict[str, _Cell] = {}
# A forked child is a process of its own; a lock that another thread of the parent held would never open in it.
os.register_at_fork(after_in_child=_cells.clear)
