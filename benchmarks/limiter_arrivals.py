# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A server that records the arrival of each request, for `benchmarks/limiter.py`."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection


@dataclass(frozen=True)
class Arrival:
    """A request of one caller, in seconds of CLOCK_MONOTONIC."""

    at: float
    caller: int


def serve(control: Connection, longest_delay: float) -> None:
    """Send the port, serve ``GET /CALLER`` until anything is received, then send the arrivals.

    :param longest_delay: each request is delayed by a random time of at most this many seconds before its arrival,
        as in a network.
    """
    asyncio.run(_serve(control, longest_delay))


async def _serve(control: Connection, longest_delay: float) -> None:
    arrivals: list[Arrival] = []
    randomness = random.Random(2)

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                if longest_delay:
                    await asyncio.sleep(randomness.uniform(0, longest_delay))
                arrivals.append(Arrival(time.monotonic(), int(request.split()[1].strip(b"/"))))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the caller ended, or the measurement did
        finally:
            writer.close()

    stopped = asyncio.Event()
    asyncio.get_running_loop().add_reader(control.fileno(), stopped.set)
    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    control.send(server.sockets[0].getsockname()[1])
    await stopped.wait()
    server.close()
    control.send(arrivals)
