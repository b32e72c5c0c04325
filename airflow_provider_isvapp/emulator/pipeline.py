# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The path of every request: log, rate limit, faults, handler."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any

from aiohttp import web

from airflow_provider_isvapp.emulator.data import seeded
from airflow_provider_isvapp.emulator.delivery import before_response, deliver
from airflow_provider_isvapp.emulator.export_requests import MONTH
from airflow_provider_isvapp.emulator.faults import REPLACES_ENDPOINT, Fault, FaultKind
from airflow_provider_isvapp.emulator.requests import Endpoint, RequestRecord
from airflow_provider_isvapp.emulator.responses import (
    GATEWAY_PAGE,
    HTML,
    ErrorResponse,
    FileSlice,
    Response,
    error_response,
)
from airflow_provider_isvapp.emulator.state import State


@dataclass(frozen=True)
class Call:
    """A request and the faults that are to happen to it."""

    request: web.Request
    faults: tuple[Fault, ...]

    def fault(self, kind: FaultKind) -> Fault | None:
        """Return the first fault of a kind."""
        return next((fault for fault in self.faults if fault.kind == kind), None)

    @property
    def base_url(self) -> str:
        """Scheme, host and port as the caller spelled them, so that URLs in responses work for them."""
        return f"{self.request.scheme}://{self.request.host}"


Handler = Callable[[Call], Awaitable[Response]]


class Pipeline:
    """Wraps the handlers of both vendors."""

    def __init__(self, state: State) -> None:
        self._config = state.config
        self._clock = state.clock
        self._tokens = state.tokens
        self._window = state.window
        self._faults = state.faults
        self._log = state.log
        self._rng = seeded("delays", state.config.seed)

    def serve(self, endpoint: Endpoint, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Turn a handler into what aiohttp routes to."""

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
                return self._instead(endpoint, fault), faults
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

    def _instead(self, endpoint: Endpoint, fault: Fault) -> Response:
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
        # A date has whole seconds: round up, so that who waits for it has waited long enough.
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
    """Return the month that a create request asks for, if it asks for a single one."""
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
