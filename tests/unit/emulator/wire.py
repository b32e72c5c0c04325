# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""One request over a plain socket: the bytes of the response, before an HTTP library parses them."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class WireResponse:
    """Header lines in lower case, all bytes after them, and whether the connection was reset."""

    status: int
    headers: dict[str, str]
    body: bytes
    was_reset: bool


def exchange(url: str, bearer: str) -> WireResponse:
    target = urlsplit(url)
    assert target.hostname is not None
    with socket.create_connection((target.hostname, target.port or 80), timeout=10) as connection:
        connection.sendall(
            f"GET {target.path} HTTP/1.1\r\nHost: {target.netloc}\r\nAuthorization: Bearer {bearer}\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        received, was_reset = b"", False
        try:
            while data := connection.recv(1 << 16):
                received += data
        except ConnectionResetError:
            was_reset = True
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return WireResponse(int(first.split()[1]) if first else 0, headers, body, was_reset)
