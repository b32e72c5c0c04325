# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A server that sends any bytes, at any rate."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable
from contextlib import suppress


class RawServer:
    """Sends the same pieces for each connection, then closes it. A context manager.

    :ivar requests: the number of requests so far.
    :ivar pieces: what to send, set by the test; an endless iterable ends when the client or the server leaves.
    :ivar pause: seconds before each piece but the first.
    :ivar stays: whether to keep the connection open after the last piece, without sending more.
    """

    def __init__(self, pieces: Iterable[bytes] = (), *, pause: float = 0.0, stays: bool = False) -> None:
        self.requests = 0
        self.pieces = pieces
        self.pause = pause
        self.stays = stays
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> RawServer:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

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
