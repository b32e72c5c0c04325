# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Servers on plain sockets: one that accepts connections, and one that sends any bytes, at any rate."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Self


class SocketServer:
    """Accepts connections from this machine, and serves each in a thread; a context manager.

    The end sets ``_over``, which ends connections that stall on purpose.

    :ivar connections: the number of connections so far.
    """

    def __init__(self) -> None:
        self.connections = 0
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def _serve(self, connection: socket.socket) -> None:
        """Serve a connection."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        # A thread that blocks in accept() does not notice that the socket was closed.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()


class RawServer(SocketServer):
    """Sends the same pieces for each connection, then closes it.

    :ivar requests: the number of requests so far.
    :ivar pieces: what to send, set by the test; an endless iterable ends when the client or the server leaves.
    :ivar pause: seconds before each piece but the first.
    :ivar stays: whether the connection stays open after the last piece.
    """

    def __init__(self, pieces: Iterable[bytes] = (), *, pause: float = 0.0, stays: bool = False) -> None:
        super().__init__()
        self.requests = 0
        self.pieces = pieces
        self.pause = pause
        self.stays = stays

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            received = b""
            while b"\r\n\r\n" not in received:
                received += connection.recv(65536)
            self.requests += 1
            for number, piece in enumerate(self.pieces):
                if number and self.pause and self._over.wait(self.pause):
                    return
                connection.sendall(piece)
            if self.stays:
                self._over.wait(30)
