# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The one way every request takes: note it, limit it, let it fail, answer it."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any

from aiohttp import web

from airflow_provider_isvapp.emulator.answer import GATEWAY_PAGE, HTML, Answer, FileSlice, Refusal, refuse
from airflow_provider_isvapp.emulator.delivery import before_answer, deliver
from airflow_provider_isvapp.emulator.endpoint import Endpoint
from airflow_provider_isvapp.emulator.export_order import MONTH
from airflow_provider_isvapp.emulator.fault import ANSWERING, Fault, FaultKind
from airflow_provider_isvapp.emulator.request_log import RequestRecord
from airflow_provider_isvapp.emulator.seeded import seeded
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
        """Scheme, host and port as the caller spelled them, so that addresses in answers work for them."""
        return f"{self.request.scheme}://{self.request.host}"


Handler = Callable[[Call], Awaitable[Answer]]


class Pipeline:
    """Wraps the handlers of both vendors."""

    def __init__(self, state: State) -> None:
        self._config = state.config
        self._clock = state.clock
        self._authority = state.authority
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
                credential=self._authority.credential(request.headers.get("Authorization")),
                export_id=request.match_info.get("export_id"),
            )
            number = self._log.arrived(record)
            status = None
            try:
                answer, faults = await self._answer(endpoint, handler, request, record)
                answer = replace(answer, headers={"Date": _http_date(self._clock.now()), **answer.headers})
                if not await before_answer(request, faults, self._rng):
                    return web.Response()
                status = answer.status
                return await deliver(request, answer, faults, self._rng)
            finally:
                self._log.finished(number, status=status, at=self._clock.monotonic())

        return handle

    async def _answer(
        self, endpoint: Endpoint, handler: Handler, request: web.Request, record: RequestRecord
    ) -> tuple[Answer, tuple[Fault, ...]]:
        try:
            if not endpoint.is_productiv:
                self._limit(record)
        except Refusal as refusal:
            return refuse(endpoint, refusal), ()
        month = await _month(request) if endpoint is Endpoint.CREATE_EXPORT else None
        faults = self._faults.take(endpoint, export_id=record.export_id, month=month)
        for fault in faults:
            if fault.kind in ANSWERING:
                return self._instead(endpoint, fault), faults
            if fault.kind == FaultKind.TOKEN_EXPIRES:
                self._authority.forget(request.headers.get("Authorization"))
        try:
            answer = await handler(Call(request, faults))
        except Refusal as refusal:
            answer = refuse(endpoint, refusal)
        for fault in faults:
            if fault.kind == FaultKind.EDIT:
                answer = _edit(answer, fault)
        return answer, faults

    def _limit(self, record: RequestRecord) -> None:
        wait = self._window.admit(record.credential or "anonymous", record.at)
        if wait is None:
            return
        form = self._config.retry_after
        headers = {} if form == "none" else self._retry_after(wait, form)
        limit = self._config.requests_per_second
        raise Refusal(429, f"Rate limit exceeded: at most {limit} requests per second.", headers=headers)

    def _instead(self, endpoint: Endpoint, fault: Fault) -> Answer:
        status = fault.answer_status
        if fault.kind == FaultKind.HTML:
            return Answer(status=status, body=GATEWAY_PAGE, content_type=HTML)
        if fault.kind == FaultKind.REDIRECT:
            return Answer(status=status, content_type=HTML, headers={"Location": fault.location or ""})
        headers = {} if fault.retry_after is None else self._retry_after(fault.retry_after, fault.retry_after_form)
        if fault.message is None:
            return Answer(status=status, headers=headers)
        return refuse(endpoint, Refusal(status, fault.message, headers=headers))

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


async def _month(request: web.Request) -> str | None:
    """Return the month that a create request asks for, if it asks for a single one."""
    try:
        body = json.loads(await request.read())
    except ValueError:
        return None
    timeframe = body.get("timeframe") if isinstance(body, dict) else None
    return timeframe if isinstance(timeframe, str) and MONTH.fullmatch(timeframe) else None


def _edit(answer: Answer, fault: Fault) -> Answer:
    if isinstance(answer.body, FileSlice) or not answer.body:
        return answer
    document = json.loads(answer.body)
    envelope = {"data", "success"} & document.keys()
    records = document.get("data", document) if envelope else document
    for record in records if isinstance(records, list) else [records]:
        if isinstance(record, dict) and fault.export_id in (None, record.get("id")):
            _edit_fields(record, fault, lambda name: name not in envelope)
    if envelope:
        _edit_fields(document, fault, lambda name: name in envelope)
    return replace(answer, body=json.dumps(document).encode())


def _edit_fields(fields: dict[str, Any], fault: Fault, wanted: Callable[[str], bool]) -> None:
    changed: Mapping[str, Any] = fault.replace
    fields.update({name: value for name, value in changed.items() if wanted(name)})
    for name in fault.remove:
        if wanted(name):
            fields.pop(name, None)
