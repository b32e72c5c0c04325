# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What callers see of a limiter, and what a limiter needs of its storage."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

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
