# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A real HTTP server that sends the responses of a test, including broken ones."""

from __future__ import annotations

import json
import socket
import struct
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.support.http_server import HttpServer, QuietHandler


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode()))


@dataclass(frozen=True)
class ScriptedResponse:
    """A response: a status and a body, or a fault ("reset", "hang")."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    fault: str | None = None


def data(value: Any, **envelope: Any) -> ScriptedResponse:
    """A response in ISVapp's envelope."""
    return ScriptedResponse(body=json.dumps({"data": value, "success": True} | envelope).encode())


def token(value: str = "token-1", scope: str | None = None, expires_in: float | None = 3600) -> ScriptedResponse:
    """A response of a token endpoint."""
    response = {"access_token": value, "token_type": "Bearer", "expires_in": expires_in}
    return ScriptedResponse(body=json.dumps(response | ({"scope": scope} if scope else {})).encode())


class ScriptedServer(HttpServer):
    """Responds to each request with the next scripted response for its path, or for "*"."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.default = ScriptedResponse(500, b'{"error": "nothing scripted"}')
        self._scripts: dict[str, deque[ScriptedResponse]] = {}
        super().__init__()

    def script(self, path: str, *responses: ScriptedResponse) -> None:
        self._scripts.setdefault(path, deque()).extend(responses)

    def paths(self) -> list[str]:
        return [seen.path for seen in self.seen]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        script = self

        class Handler(QuietHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                script.seen.append(Seen(self.command, parts.path, dict(parse_qsl(parts.query)), headers, body))
                queue = script._scripts.get(parts.path) or script._scripts.get("*")
                response = queue.popleft() if queue else script.default
                if response.fault == "reset":
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                    self.close_connection = True
                    return
                if response.fault == "hang":
                    script._over.wait(30)
                    self.close_connection = True
                    return
                self.send_response_only(response.status)
                if "Date" not in response.headers:
                    self.send_header("Date", self.date_time_string())
                for name, value in response.headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in response.headers:
                    self.send_header("Content-Length", str(len(response.body)))
                self.end_headers()
                self.wfile.write(response.body)
                if int(response.headers.get("Content-Length", len(response.body))) != len(response.body):
                    self.close_connection = True

            do_POST = do_GET

        return Handler
