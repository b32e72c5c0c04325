# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Puts an answer on the wire, and lets the connection fail on the way."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

from aiohttp import web

from airflow_provider_isvapp.emulator.answer import Answer, FileSlice
from airflow_provider_isvapp.emulator.faults import Fault, FaultKind

CHUNK_BYTES = 1 << 18
_STEPS_PER_SECOND = 20
"""How finely a slow body trickles."""


@dataclass(frozen=True)
class _Pause:
    at: int
    seconds: float


async def deliver(
    request: web.Request, answer: Answer, faults: Sequence[Fault], rng: random.Random
) -> web.StreamResponse:
    """Send an answer; the faults say where the body pauses, trickles or ends.

    :raises ConnectionResetError: the fault was to reset the connection.
    """
    disturbed = [fault for fault in faults if fault.kind in _IN_BODY and not _is_before_answer(fault)]
    if isinstance(answer.body, bytes) and not disturbed and not answer.chunked:
        return web.Response(status=answer.status, body=answer.body, headers=_headers(answer))
    response = web.StreamResponse(status=answer.status, headers=_headers(answer))
    if answer.chunked:
        response.enable_chunked_encoding()
    else:
        response.content_length = answer.length
    await response.prepare(request)
    ending = next((fault for fault in disturbed if fault.kind in (FaultKind.CUT, FaultKind.RESET)), None)
    end = answer.length if ending is None else ending.position(answer.length)
    pauses = [_Pause(f.position(answer.length), delay(f, rng)) for f in disturbed if f.kind == FaultKind.DELAY]
    rate = min((f.bytes_per_second or 0 for f in disturbed if f.kind == FaultKind.SLOW), default=None)
    with suppress(ConnectionError):  # the client may leave whenever it wants
        await _send(response, answer.body, end, pauses, rate)
        if ending is None:
            await response.write_eof()
    if ending is not None:
        await _end(request, reset=ending.kind == FaultKind.RESET)
    return response


_IN_BODY = frozenset({FaultKind.CUT, FaultKind.RESET, FaultKind.DELAY, FaultKind.SLOW})


def _is_before_answer(fault: Fault) -> bool:
    return fault.at is None and fault.kind in (FaultKind.DELAY, FaultKind.RESET)


def delay(fault: Fault, rng: random.Random) -> float:
    """Draw the seconds that a delay takes."""
    return fault.seconds if fault.up_to is None else rng.uniform(fault.seconds, fault.up_to)


async def before_answer(request: web.Request, faults: Sequence[Fault], rng: random.Random) -> bool:
    """Wait or reset the connection before anything is answered; returns False if there is no connection any more."""
    for fault in faults:
        if _is_before_answer(fault):
            if fault.kind == FaultKind.RESET:
                await _end(request, reset=True)
                return False
            await asyncio.sleep(delay(fault, rng))
    return True


async def _send(
    response: web.StreamResponse, body: bytes | FileSlice, end: int, pauses: list[_Pause], rate: float | None
) -> None:
    size = CHUNK_BYTES if not rate else max(1, min(CHUNK_BYTES, int(rate / _STEPS_PER_SECOND)))
    stops = sorted({0, end, *(pause.at for pause in pauses if pause.at < end)})
    for start, stop in pairwise(stops):
        await asyncio.sleep(sum(pause.seconds for pause in pauses if pause.at == start))
        async for chunk in _chunks(body, start, stop, size):
            await response.write(chunk)
            if rate:
                await asyncio.sleep(len(chunk) / rate)


async def _chunks(body: bytes | FileSlice, start: int, stop: int, size: int) -> AsyncIterator[bytes]:
    if isinstance(body, bytes):
        for offset in range(start, stop, size):
            yield body[offset : min(offset + size, stop)]
        return
    file = await asyncio.to_thread(os.open, body.path, os.O_RDONLY)
    try:
        for offset in range(start, stop, size):
            yield await asyncio.to_thread(os.pread, file, min(size, stop - offset), body.offset + offset)
    finally:
        os.close(file)


def _headers(answer: Answer) -> dict[str, str]:
    return {"Content-Type": answer.content_type, **answer.headers}


async def _end(request: web.Request, *, reset: bool) -> None:
    """End the connection: in order after what was sent so far, or with a TCP reset."""
    transport = request.transport
    if transport is None:
        return
    if reset:
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()
