# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A statsd server that records what it receives over UDP."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

PREFIX = "airflow."
CLOSING = b"that is all"


@dataclass(frozen=True)
class Line:
    """One metric as received: ``airflow.isvapp.exports.created:1|c`` without the prefix."""

    name: str
    value: float
    kind: str

    @classmethod
    def parsed(cls, text: str) -> Line:
        name, _, rest = text.removeprefix(PREFIX).rpartition(":")
        value, kind, *_ = rest.split("|")
        return cls(name, float(value), kind)


class StatsdServer:
    """Receives at ``host:port`` from the start to the end of its context."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._lines: list[Line] = []
        self.host, self.port = self._socket.getsockname()

    def __enter__(self) -> StatsdServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.sendto(CLOSING, (self.host, self.port))
        self._thread.join(timeout=5)
        self._socket.close()

    @property
    def settings(self) -> dict[str, str]:
        """The environment variables that make Airflow send its metrics here."""
        return {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": self.host,
            "AIRFLOW__METRICS__STATSD_PORT": str(self.port),
        }

    def received(self) -> list[Line]:
        """Return this package's metrics so far; a packet of another process may arrive a moment later."""
        before = -1
        while before != len(self._lines):
            before = len(self._lines)
            time.sleep(0.05)
        return [line for line in self._lines if line.name.startswith("isvapp.")]

    def _receive(self) -> None:
        while (packet := self._socket.recv(65535)) != CLOSING:
            self._lines += [Line.parsed(text) for text in packet.decode().splitlines() if text]


@pytest.fixture(scope="session")
def statsd() -> Iterator[StatsdServer]:
    with StatsdServer() as server:
        yield server


def total(lines: Sequence[Line], name: str) -> float:
    """Add up the values of a metric."""
    return sum(line.value for line in lines if line.name == name)


def values(lines: Sequence[Line], name: str) -> list[float]:
    """Return each value of a metric."""
    return [line.value for line in lines if line.name == name]
