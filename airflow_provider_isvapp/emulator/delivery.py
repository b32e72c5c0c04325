# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Sends a response, with the faults of its connection."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from itertools import pairwise

from aiohttp import web

from airflow_provider_isvapp.emulator.faults import Fault, FaultKind
from airflow_provider_isvapp.emulator.responses import FileSlice, Response

CHUNK_BYTES = 1 << 18
_STEPS_PER_SECOND = 20
"""How finely a slow body trickles."""
_ENDINGS = frozenset({FaultKind.CUT, FaultKind.RESET})
_IN_BODY = _ENDINGS | {FaultKind.DELAY, FaultKind.SLOW}


class _UntilClose(web.StreamResponse):
    """A body that neither a length nor chunks delimit, only the end of the connection."""

    _length_check = False


async def before_response(request: web.Request, faults: Sequence[Fault], rng: random.Random) -> bool:
    """Wait, or reset the connection, before anything is sent.

    :returns: whether there still is a connection to respond on.
    """
    for fault in faults:
        if _is_before_response(fault):
            if fault.kind == FaultKind.RESET:
                _end(request, reset=True)
                return False
            await asyncio.sleep(_seconds(fault, rng))
    return True


async def deliver(
    request: web.Request, content: Response, faults: Sequence[Fault], rng: random.Random
) -> web.StreamResponse:
    """Send a response; the faults say where the body pauses, trickles or ends."""
    disturbing = [fault for fault in faults if fault.kind in _IN_BODY and not _is_before_response(fault)]
    headers = {"Content-Type": content.content_type, **content.headers}
    if isinstance(content.body, bytes) and not disturbing:
        return web.Response(status=content.status, body=content.body, headers=headers)
    response = (_UntilClose if content.framing == "close" else web.StreamResponse)(
        status=content.status, headers=headers
    )
    if content.framing == "length":
        response.content_length = content.length
    elif content.framing == "chunked":
        response.enable_chunked_encoding()
    else:
        response.force_close()
    ending = next((fault for fault in disturbing if fault.kind in _ENDINGS), None)
    end = content.length if ending is None else ending.position(content.length)
    pauses = {fault.position(content.length): fault for fault in disturbing if fault.kind == FaultKind.DELAY}
    rate = next((fault.bytes_per_second for fault in disturbing if fault.kind == FaultKind.SLOW), None)
    with suppress(ConnectionError):  # the client may leave whenever it wants
        await response.prepare(request)
        for start, stop in pairwise(sorted({0, end, *(place for place in pauses if place < end)})):
            if start in pauses:
                await asyncio.sleep(_seconds(pauses[start], rng))
            await _send(response, content.body, start, stop, rate)
        if ending is None:
            await response.write_eof()
    if ending is not None:
        _end(request, reset=ending.kind == FaultKind.RESET)
    return response


def _is_before_response(fault: Fault) -> bool:
    return fault.at is None and fault.kind in (FaultKind.DELAY, FaultKind.RESET)


def _seconds(fault: Fault, rng: random.Random) -> float:
    return fault.seconds if fault.up_to is None else rng.uniform(fault.seconds, fault.up_to)


async def _send(
    response: web.StreamResponse, body: bytes | FileSlice, start: int, stop: int, rate: float | None
) -> None:
    size = CHUNK_BYTES if rate is None else max(1, min(CHUNK_BYTES, int(rate / _STEPS_PER_SECOND)))
    async for chunk in _chunks(body, start, stop, size):
        await response.write(chunk)
        if rate is not None:
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


def _end(request: web.Request, *, reset: bool) -> None:
    """End the connection: in request, after all that was sent, or with a TCP reset."""
    transport = request.transport
    if transport is None:
        return
    if reset:
        connection: socket.socket = transport.get_extra_info("socket")
        # Linger of zero seconds: the kernel sends RST instead of FIN.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()
