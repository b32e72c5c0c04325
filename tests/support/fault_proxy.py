# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A proxy in front of a storage server that injects faults into chosen requests."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, Literal

import requests

from tests.support.http_server import HttpServer, QuietHandler

# The kinds of fault of a request, besides an HTTP status:
# - reset: the connection breaks before the storage receives the request,
# - reset-inside: the connection breaks in the middle of the body,
# - stall: the body is not read, and the connection stays open,
# - silence: the storage neither acts nor responds,
# - lost: the storage acts, and the connection breaks before the response,
# - flip: one byte of the body changes in transit.
Kind = Literal["reset", "reset-inside", "stall", "silence", "lost", "flip"]
PIECE_BYTES = 1024 * 1024
KINDS: tuple[Kind, ...] = ("reset", "reset-inside", "stall", "silence", "lost", "flip")


@dataclass
class Fault:
    """A fault of matching requests.

    :param what: a kind, or the HTTP status of a response from the proxy itself.
    :param when: returns whether a request matches, by its method and path.
    :param times: the number of requests; None for all.
    """

    what: Kind | int
    when: Callable[[str, str], bool]
    times: int | None = None
    struck: int = field(default=0, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def strikes(self, method: str, path: str) -> bool:
        """Return whether the fault applies to this request."""
        with self._lock:
            if not self.when(method, path) or (self.times is not None and self.struck >= self.times):
                return False
            self.struck += 1
            return True


class FaultProxy(HttpServer):
    """Forwards requests to a storage server, except those with a fault.

    :param behind: the server's origin.
    :param refusal: returns the headers and the body of this storage's response with a status.
    :param tls: the TLS context for clients; None for plain HTTP. The server always gets plain HTTP.
    :ivar seen: method and path of each request.
    :ivar fault: the fault of the next requests.
    :ivar after_piece: called after each MiB of a body.
    :ivar before: called with the method and the path of each request before it is forwarded; may return the status
        of a refusal.
    """

    def __init__(
        self,
        behind: str,
        refusal: Callable[[int], tuple[dict[str, str], bytes]],
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.seen: list[str] = []
        self.fault: Fault | None = None
        self.before: Callable[[str, str], int | None] = lambda method, path: None
        self.after_piece: Callable[[], None] = lambda: None
        self._behind = behind
        self._refusal = refusal
        self._session = requests.Session()
        self._session.trust_env = False
        super().__init__(tls=tls)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._session.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(QuietHandler):
            def do_GET(self) -> None:
                with suppress(ConnectionError):
                    self._handle()

            do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = do_GET

            def _handle(self) -> None:
                proxy.seen.append(f"{self.command} {self.path}")
                what: Kind | int | None = proxy.before(self.command, self.path)
                if (fault := proxy.fault) is not None and fault.strikes(self.command, self.path):
                    what = fault.what
                if what == "stall":
                    proxy._over.wait()
                    return self._reset()
                if what == "reset":
                    return self._reset()
                if what == "reset-inside":
                    self.rfile.read(int(self.headers.get("Content-Length") or 0) // 2)
                    return self._reset()
                body = self._body()
                if what == "silence":
                    proxy._over.wait()
                    return self._reset()
                if isinstance(what, int):
                    return self._respond(what, *proxy._refusal(what))
                if what == "flip" and body:
                    middle = len(body) // 2
                    body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
                headers = {name: value for name, value in self.headers.items() if name != "Transfer-Encoding"}
                with proxy._session.request(
                    self.command, proxy._behind + self.path, headers=headers, data=body, stream=True
                ) as reply:
                    content = reply.raw.read()
                    if what == "lost":
                        return self._reset()
                    return self._respond(reply.status_code, dict(reply.headers), content)

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    length = int(self.headers.get("Content-Length") or 0)
                    # Without a small buffer, the kernel would take the whole body at once.
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
                    body = b""
                    while piece := self.rfile.read(min(length - len(body), PIECE_BYTES)):
                        body += piece
                        proxy.after_piece()
                    if len(body) < length:
                        raise ConnectionResetError("the client is gone")
                    return body
                body = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            def _reset(self) -> None:
                self.close_connection = True
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                with suppress(OSError):
                    self.connection.close()

            def _respond(self, status: int, headers: dict[str, Any], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in ("transfer-encoding", "connection", "date", "server", "content-length"):
                        self.send_header(name, value)
                length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

        return Handler
