# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A server that sends arbitrary bytes as responses."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import parse_qs, urlsplit

from tests.support.raw_server import SocketServer


@dataclass(frozen=True)
class Seen:
    """A request as it arrived.

    :param head: request line and headers.
    """

    head: bytes
    body: bytes

    @property
    def method(self) -> str:
        return self.head.split(b" ", 1)[0].decode("latin-1")

    @property
    def path(self) -> str:
        return urlsplit(self.head.split(b" ", 2)[1].decode("latin-1")).path

    @property
    def form(self) -> dict[str, list[str]]:
        return parse_qs(self.body.decode("latin-1"))


@dataclass(frozen=True)
class Silence:
    """Send nothing more and keep the connection open."""


@dataclass(frozen=True)
class Drip:
    """Send the same bytes again and again, with pauses.

    :param every: seconds; 0 is as fast as the client takes them.
    """

    data: bytes
    every: float = 0.0


@dataclass(frozen=True)
class Reset:
    """End the connection with a TCP reset."""


@dataclass(frozen=True)
class KeepAlive:
    """Keep the connection open for the next request."""


Step: TypeAlias = bytes | Silence | Drip | Reset | KeepAlive
Respond: TypeAlias = Callable[[Seen], Iterable[Step]]

# Longer than a client waits in any test: a longer wait fails the test.
_LONGEST = 60.0


class WireServer(SocketServer):
    """Plays a response to each request.

    :param respond: called in the connection's thread. The connection ends after the last step, unless that is
        :class:`KeepAlive`.
    """

    def __init__(self, respond: Respond) -> None:
        super().__init__()
        self.respond = respond
        self.seen: list[Seen] = []
        self._open: set[socket.socket] = set()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _serve(self, connection: socket.socket) -> None:
        self._open.add(connection)
        connection.settimeout(_LONGEST)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError), connection:
            for request in _requests(connection):
                self.seen.append(request)
                if not self._play(connection, self.respond(request)):
                    break
        self._open.discard(connection)

    def _play(self, connection: socket.socket, steps: Iterable[Step]) -> bool:
        """Send a response; return whether the connection stays open."""
        for step in steps:
            match step:
                case bytes():
                    connection.sendall(step)
                case Drip():
                    while not self._over.wait(step.every) if step.every else not self._over.is_set():
                        connection.sendall(step.data)
                case Silence():
                    connection.recv(1)  # returns when the client has left
                case Reset():
                    # Linger of zero seconds: the kernel sends RST instead of FIN.
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return False
                case KeepAlive():
                    return True
        return False


def _requests(connection: socket.socket) -> Iterator[Seen]:
    buffered = b""
    while True:
        while b"\r\n\r\n" not in buffered:
            received = connection.recv(65536)
            if not received:
                return
            buffered += received
        head, _, buffered = buffered.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length":
                length = int(value)
        while len(buffered) < length:
            received = connection.recv(65536)
            if not received:
                return
            buffered += received
        yield Seen(head, buffered[:length])
        buffered = buffered[length:]
