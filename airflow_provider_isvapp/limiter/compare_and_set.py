# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Atomic updates on a server without holding a lock there: read, compute here, write if nobody else wrote meanwhile.

A client that stalls or dies between the two steps keeps nothing locked, and the decision stays in one place, in Python,
whichever server keeps the state.
"""

from __future__ import annotations

import random
import time
from typing import Protocol
from urllib.parse import SplitResult, parse_qsl, quote, quote_plus, unquote

from airflow_provider_isvapp.errors import LimiterUnavailable
from airflow_provider_isvapp.limiter.interfaces import Change, T

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


def update(cell: Cell, change: Change[T], *, patience: float) -> T:
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
