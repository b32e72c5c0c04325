# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Deadlines: a limit on the total time of a response.

Socket timeouts, and so those of requests and urllib3, restart with each byte: a server that sends one byte per second,
or ``100 Continue`` again and again, can hold a request forever. Here no read of a response waits past its deadline.
"""

from __future__ import annotations

import http.client
import io
import math
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import requests.adapters
import urllib3
import urllib3.connection


class Deadline:
    """The time by which a response must have arrived.

    :param seconds: from now.
    """

    def __init__(self, seconds: float) -> None:
        self.extend(seconds)

    def extend(self, seconds: float) -> None:
        """Move the deadline to this many seconds from now; ``math.inf`` removes it."""
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Return the seconds until the deadline, at least zero."""
        return max(self._end - time.monotonic(), 0.0)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Apply to all responses that begin within the block, until they end."""
        token = _applied.set(self)
        try:
            yield
        finally:
            _applied.reset(token)


_applied: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


class _Reader(io.RawIOBase):
    """Reads a socket with its own timeout, but never past the deadline."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._socket = connection
        self._raw = connection.makefile("rb", buffering=0)
        self._timeout = connection.gettimeout()
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        remaining = self._deadline.remaining()
        if remaining <= 0:
            raise TimeoutError("the deadline of the response has passed")
        self._socket.settimeout(min(math.inf if self._timeout is None else self._timeout, remaining))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        deadline = _applied.get()
        if deadline is not None:
            self.fp.close()
            self.fp = io.BufferedReader(_Reader(sock, deadline))


class _HTTPConnection(urllib3.connection.HTTPConnection):
    response_class = _Response
    debuglevel = 0  # http.client prints headers, tokens included, if this is set for all connections


class _HTTPSConnection(urllib3.connection.HTTPSConnection):
    response_class = _Response
    debuglevel = 0


class _HTTPConnectionPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSConnectionPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class DeadlineAdapter(requests.adapters.HTTPAdapter):
    """Makes :meth:`Deadline.applied` work for the responses to requests, also through a proxy."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create the pools."""
        super().init_poolmanager(*args, **kwargs)
        _use_deadlines(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Create the pools of a proxy."""
        manager = super().proxy_manager_for(*args, **kwargs)
        if type(manager) is urllib3.ProxyManager:  # one for SOCKS has connections of its own
            _use_deadlines(manager)
        return manager


def _use_deadlines(manager: Any) -> None:
    manager.pool_classes_by_scheme = {"http": _HTTPConnectionPool, "https": _HTTPSConnectionPool}
