# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The one way every request takes: note it, limit it, let it fail, answer it."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

from aiohttp import web

from airflow_provider_isvapp.emulator.answer import GATEWAY_PAGE, HTML, Answer, FileSlice, Refusal, refuse
from airflow_provider_isvapp.emulator.auth import Authority
from airflow_provider_isvapp.emulator.clock import Clock
from airflow_provider_isvapp.emulator.config import EmulatorConfig
from airflow_provider_isvapp.emulator.delivery import before_answer, deliver
from airflow_provider_isvapp.emulator.endpoint import Endpoint
from airflow_provider_isvapp.emulator.faults import Fault, FaultKind, Faults
from airflow_provider_isvapp.emulator.rate_window import RateWindow
from airflow_provider_isvapp.emulator.request_log import RequestLog, RequestRecord
from airflow_provider_isvapp.emulator.seeded import seeded


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

    def __init__(
        self, *, config: EmulatorConfig, clock: Clock, authority: Authority, faults: Faults, log: RequestLog
    ) -> None:
        self._config = config
        self._clock = clock
        self._authority = authority
        self._faults = faults
        self._log = log
        self._rng = seeded("delays", config.seed)
        self.window = RateWindow(config.requests_per_second)

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
        timeframe = await _timeframe(request) if endpoint is Endpoint.CREATE_EXPORT else None
        faults = self._faults.take(endpoint, export_id=record.export_id, timeframe=timeframe)
        for fault in faults:
            if fault.kind in (FaultKind.STATUS, FaultKind.HTML, FaultKind.REDIRECT):
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
        wait = self.window.admit(record.credential or "anonymous", record.at)
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
        return {"Retry-After": format_datetime(moment, usegmt=True)}


def _path(request: web.Request) -> str:
    token = request.match_info.get("token")
    path = request.rel_url.path_qs
    return path if token is None else path.replace(token, "…")


async def _timeframe(request: web.Request) -> str | None:
    try:
        body = json.loads(await request.read())
    except ValueError:
        return None
    timeframe = body.get("timeframe") if isinstance(body, dict) else None
    return timeframe if isinstance(timeframe, str) else None


def _edit(answer: Answer, fault: Fault) -> Answer:
    if isinstance(answer.body, FileSlice) or not answer.body:
        return answer
    document = json.loads(answer.body)
    envelope = {"data", "success"} & document.keys()
    records = document.get("data", document) if envelope else document
    for record in records if isinstance(records, list) else [records]:
        if fault.export_id is None or record.get("id") == fault.export_id:
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
