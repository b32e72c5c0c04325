# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The path of every request (log, rate limit, faults, handler, delivery) and the state that all requests share."""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import secrets
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from typing import Any

from aiohttp import web

from airflow_provider_isvapp.emulator.config import MONTH, Clock, EmulatorConfig
from airflow_provider_isvapp.emulator.data import seeded
from airflow_provider_isvapp.emulator.exports import Exports, Spool
from airflow_provider_isvapp.emulator.faults import REPLACES_ENDPOINT, Fault, FaultKind, Faults
from airflow_provider_isvapp.emulator.http import (
    GATEWAY_PAGE,
    HTML,
    Endpoint,
    ErrorResponse,
    FileSlice,
    RequestLog,
    RequestRecord,
    Response,
    SlidingWindow,
    TokenIssuer,
    error_response,
)


class State:
    """The parts of one emulator, which its endpoints share."""

    def __init__(
        self, config: EmulatorConfig, clock: Clock, on_request: Callable[[RequestRecord], None] | None
    ) -> None:
        self.config = config
        self.clock = clock
        self.log = RequestLog(on_request)
        self.faults = Faults()
        self.token_mark = secrets.token_hex(8)
        self.tokens = TokenIssuer(config, clock, self.token_mark)
        self.window = SlidingWindow(config.requests_per_second)
        self.spool = Spool(config)
        self.exports = Exports(config, clock, self.spool, self.token_mark)

    def reset(self) -> None:
        """Remove faults, exports, tokens and the request log."""
        self.faults.clear()
        self.exports.clear()
        self.tokens.clear()
        self.window.clear()
        self.log.clear()


@dataclass(frozen=True)
class Call:
    """A request and its faults."""

    request: web.Request
    faults: tuple[Fault, ...]

    def fault(self, kind: FaultKind) -> Fault | None:
        """Return the first fault of a kind."""
        return next((fault for fault in self.faults if fault.kind == kind), None)

    @property
    def base_url(self) -> str:
        """Scheme, host and port that the caller used, so that URLs in responses work for the caller."""
        return f"{self.request.scheme}://{self.request.host}"


Handler = Callable[[Call], Awaitable[Response]]


class Pipeline:
    """Turns the handlers of both vendors into aiohttp's."""

    def __init__(self, state: State) -> None:
        self._config = state.config
        self._clock = state.clock
        self._tokens = state.tokens
        self._window = state.window
        self._faults = state.faults
        self._log = state.log
        self._rng = seeded("delays", state.config.seed)

    def serve(self, endpoint: Endpoint, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Wrap a handler for aiohttp's router."""

        async def handle(request: web.Request) -> web.StreamResponse:
            at = self._clock.monotonic()
            record = RequestRecord(
                at=at,
                method=request.method,
                path=_path(request),
                endpoint=endpoint.value,
                credential=self._tokens.credential(request.headers.get("Authorization")),
                export_id=request.match_info.get("export_id"),
            )
            number = self._log.arrived(record)
            status = None
            try:
                response, faults = await self._respond(endpoint, handler, request, record)
                response = replace(response, headers={"Date": _http_date(self._clock.now()), **response.headers})
                if not await before_response(request, faults, self._rng):
                    return web.Response()
                status = response.status
                return await deliver(request, response, faults, self._rng)
            finally:
                self._log.finished(number, status=status, at=self._clock.monotonic())

        return handle

    async def _respond(
        self, endpoint: Endpoint, handler: Handler, request: web.Request, record: RequestRecord
    ) -> tuple[Response, tuple[Fault, ...]]:
        try:
            if not endpoint.is_productiv:
                self._limit(record)
        except ErrorResponse as error:
            return error_response(endpoint, error), ()
        month = await _requested_month(request) if endpoint is Endpoint.CREATE_EXPORT else None
        faults = self._faults.take(endpoint, export_id=record.export_id, month=month)
        for fault in faults:
            if fault.kind in REPLACES_ENDPOINT:
                return self._fault_response(endpoint, fault), faults
            if fault.kind == FaultKind.TOKEN_EXPIRES:
                self._tokens.forget(request.headers.get("Authorization"))
        try:
            response = await handler(Call(request, faults))
        except ErrorResponse as error:
            response = error_response(endpoint, error)
        for fault in faults:
            if fault.kind == FaultKind.EDIT:
                response = _edit(response, fault)
        return response, faults

    def _limit(self, record: RequestRecord) -> None:
        wait = self._window.admit(record.credential or "anonymous", record.at)
        if wait is None:
            return
        form = self._config.retry_after
        headers = {} if form == "none" else self._retry_after(wait, form)
        limit = self._config.requests_per_second
        raise ErrorResponse(429, f"Rate limit exceeded: at most {limit} requests per second.", headers=headers)

    def _fault_response(self, endpoint: Endpoint, fault: Fault) -> Response:
        status = fault.response_status
        if fault.kind == FaultKind.HTML:
            return Response(status=status, body=GATEWAY_PAGE, content_type=HTML)
        if fault.kind == FaultKind.REDIRECT:
            return Response(status=status, content_type=HTML, headers={"Location": fault.location or ""})
        headers = {} if fault.retry_after is None else self._retry_after(fault.retry_after, fault.retry_after_form)
        if fault.message is None:
            return Response(status=status, headers=headers)
        return error_response(endpoint, ErrorResponse(status, fault.message, headers=headers))

    def _retry_after(self, seconds: float, form: str) -> dict[str, str]:
        if form == "seconds":
            return {"Retry-After": str(math.ceil(seconds))}
        # A date has whole seconds: round up, so that a caller that waits until then waits long enough.
        moment = self._clock.now() + timedelta(seconds=seconds)
        if moment.microsecond:
            moment = moment.replace(microsecond=0) + timedelta(seconds=1)
        return {"Retry-After": _http_date(moment)}


def _http_date(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


def _path(request: web.Request) -> str:
    if "token" in request.match_info:
        return f"/api/v1/exports/{request.match_info['export_id']}/download/***"
    return request.rel_url.path_qs


async def _requested_month(request: web.Request) -> str | None:
    """Return the month of a create request for a single month."""
    try:
        body = json.loads(await request.read())
    except ValueError:
        return None
    timeframe = body.get("timeframe") if isinstance(body, dict) else None
    return timeframe if isinstance(timeframe, str) and MONTH.fullmatch(timeframe) else None


def _edit(response: Response, fault: Fault) -> Response:
    if isinstance(response.body, FileSlice) or not response.body:
        return response
    document = json.loads(response.body)
    envelope = {"data", "success"} & document.keys()
    records = document.get("data", document) if envelope else document
    for record in records if isinstance(records, list) else [records]:
        if isinstance(record, dict) and fault.export_id in (None, record.get("id")):
            _edit_fields(record, fault, lambda name: name not in envelope)
    if envelope:
        _edit_fields(document, fault, lambda name: name in envelope)
    return replace(response, body=json.dumps(document).encode())


def _edit_fields(fields: dict[str, Any], fault: Fault, wanted: Callable[[str], bool]) -> None:
    changed: Mapping[str, Any] = fault.replace
    fields.update({name: value for name, value in changed.items() if wanted(name)})
    for name in fault.remove:
        if wanted(name):
            fields.pop(name, None)


CHUNK_BYTES = 1 << 18
_STEPS_PER_SECOND = 20
"""How many chunks of a slow body are sent per second."""
_ENDINGS = frozenset({FaultKind.CUT, FaultKind.RESET})
_IN_BODY = _ENDINGS | {FaultKind.DELAY, FaultKind.SLOW}


class _UntilClose(web.StreamResponse):
    """A body that ends when the connection is closed."""

    _length_check = False


async def before_response(request: web.Request, faults: Sequence[Fault], rng: random.Random) -> bool:
    """Delay, or reset the connection, before the response.

    :returns: whether the connection is still open.
    """
    for fault in faults:
        if _is_before_response(fault):
            if fault.kind == FaultKind.RESET:
                _close_connection(request, reset=True)
                return False
            await asyncio.sleep(_seconds(fault, rng))
    return True


async def deliver(
    request: web.Request, content: Response, faults: Sequence[Fault], rng: random.Random
) -> web.StreamResponse:
    """Send a response, with the faults that happen in its body."""
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
    with suppress(ConnectionError):  # the client may disconnect at any time
        await response.prepare(request)
        for start, stop in pairwise(sorted({0, end, *(place for place in pauses if place < end)})):
            if start in pauses:
                await asyncio.sleep(_seconds(pauses[start], rng))
            await _send(response, content.body, start, stop, rate)
        if ending is None:
            await response.write_eof()
    if ending is not None:
        _close_connection(request, reset=ending.kind == FaultKind.RESET)
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


def _close_connection(request: web.Request, *, reset: bool) -> None:
    """Close the connection after what was sent, or reset it."""
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
