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
from urllib.parse import SplitResult, parse_qsl, unquote

from airflow_provider_isvapp.errors import LimiterUnavailable
from airflow_provider_isvapp.limiter.interfaces import Change, T

_PAUSE_AFTER_CONFLICT = 0.005
_PAUSE_AFTER_FAILURE = 0.25


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
    detail = " ".join(str(error).split()) or type(error).__name__
    options = dict(parse_qsl(url.query))
    for secret in (url.password, unquote(url.password or ""), options.get("password"), options.get("sslpassword")):
        if secret:
            detail = detail.replace(secret, "***")
    return LimiterUnavailable(
        f"The rate limiter's storage {storage_name(url)} does not answer: {detail}. Requests are not sent without it:"
        " check that it runs and the connection's extra rate_limit_storage."
    )
