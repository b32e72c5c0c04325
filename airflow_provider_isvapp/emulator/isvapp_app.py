# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""ISVapp's endpoints."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web

from airflow_provider_isvapp.emulator.answer import Answer, Refusal, json_answer
from airflow_provider_isvapp.emulator.auth import parse_basic
from airflow_provider_isvapp.emulator.download import download_answer
from airflow_provider_isvapp.emulator.endpoint import Endpoint
from airflow_provider_isvapp.emulator.export_order import month_incomplete, parse_order
from airflow_provider_isvapp.emulator.exports import Export
from airflow_provider_isvapp.emulator.fault import DAMAGE, FaultKind
from airflow_provider_isvapp.emulator.json_text import spell_array, spell_rows
from airflow_provider_isvapp.emulator.months import earlier
from airflow_provider_isvapp.emulator.pipeline import Call, Pipeline
from airflow_provider_isvapp.emulator.salesforce_accounts import account_rows
from airflow_provider_isvapp.emulator.state import State

ACCOUNT = {"id": "6f1f5ba4-0d3c-4f0c-9f39-5a3c2e1d7b10", "company_name": "Bücher & Söhne GmbH"}


class IsvappEndpoints:
    """One method for each endpoint."""

    def __init__(self, state: State) -> None:
        self._config = state.config
        self._clock = state.clock
        self._authority = state.authority
        self._exports = state.exports
        self._spool = state.spool
        self._accounts: dict[tuple[bool, bool], bytes] = {}

    def add_routes(self, router: web.UrlDispatcher, pipeline: Pipeline) -> None:
        """Publish the endpoints."""
        routes: Mapping[Endpoint, tuple[str, str, Callable[[Call], Awaitable[Answer]]]] = {
            Endpoint.TOKEN: ("POST", "/api/oauth2/token", self.token),
            Endpoint.ACCOUNT: ("GET", "/api/v1/account", self.account),
            Endpoint.CREATE_EXPORT: ("POST", "/api/v1/exports", self.create_export),
            Endpoint.LIST_EXPORTS: ("GET", "/api/v1/exports", self.list_exports),
            Endpoint.SHOW_EXPORT: ("GET", "/api/v1/exports/{export_id}", self.show_export),
            Endpoint.DOWNLOAD: ("GET", "/api/v1/exports/{export_id}/download/{token}", self.download),
            Endpoint.SALESFORCE_ACCOUNTS: ("GET", "/api/v1/salesforce_accounts", self.salesforce_accounts),
        }
        for endpoint, (method, path, handler) in routes.items():
            router.add_route(method, path, pipeline.serve(endpoint, handler))

    async def token(self, call: Call) -> Answer:
        """Exchange client id and secret for an access token."""
        form = parse_qs((await call.request.read()).decode("utf-8", "replace"))
        if form.get("grant_type") != ["client_credentials"]:
            raise Refusal(400, "grant_type must be client_credentials.", code="unsupported_grant_type")
        client, secret = parse_basic(call.request.headers.get("Authorization")) or ("", "")
        value, token = self._authority.issue("isvapp", client, secret, " ".join(form.get("scope", [])))
        return json_answer(
            {
                "access_token": value,
                "token_type": "Bearer",
                "expires_in": int(self._config.token_seconds),
                "scope": " ".join(token.scopes),
            }
        )

    async def account(self, call: Call) -> Answer:
        """Show whose account this is."""
        self._require(call, "identity")
        return self._data(ACCOUNT)

    async def create_export(self, call: Call) -> Answer:
        """Accept an export."""
        self._require(call, "exports")
        try:
            body = json.loads(await call.request.read())
        except ValueError:
            raise Refusal(400, "The request body is not JSON.") from None
        order = parse_order(body, config=self._config, now=self._clock.now())
        if call.fault(FaultKind.MONTH_INCOMPLETE):
            raise month_incomplete(order.months[-1], latest=earlier(order.months[-1], 1))
        missing = call.fault(FaultKind.MONTH_MISSING)
        if missing:
            order = replace(order, months=tuple(month for month in order.months if month != missing.month))
        errors = call.fault(FaultKind.EXPORT_ERRORS)
        export = self._exports.create(
            order,
            error=errors.message if errors else None,
            expired=call.fault(FaultKind.EXPORT_EXPIRES) is not None,
        )
        return self._data(self._exports.new_record(export, call.base_url), status=201)

    async def list_exports(self, call: Call) -> Answer:
        """List the most recent exports."""
        self._require(call, "exports")
        exports = self._exports.recent()
        await self._exports.settle(exports)
        return self._data([self._exports.record(export, call.base_url) for export in exports])

    async def show_export(self, call: Call) -> Answer:
        """Show one export."""
        self._require(call, "exports")
        export = await self._export(call)
        await self._exports.settle([export])
        return self._data(self._exports.record(export, call.base_url))

    async def download(self, call: Call) -> Answer:
        """Send an export's file."""
        self._require(call, "exports")
        export = await self._export(call)
        self._exports.check_download(export, call.request.match_info["token"])
        file = await asyncio.wrap_future(export.file)
        damage = tuple(fault for fault in call.faults if fault.kind in DAMAGE)
        if damage:
            file = await asyncio.wrap_future(self._spool.damaged(file, damage))
        return download_answer(file, call.request.headers, self._config)

    async def salesforce_accounts(self, call: Call) -> Answer:
        """List the Salesforce accounts."""
        self._require(call, "salesforce_accounts")
        query = call.request.query
        wanted = (query.get("includeHealthScores") == "1", query.get("includeSubscriberOrgs") == "1")
        if wanted not in self._accounts:
            self._accounts[wanted] = await asyncio.to_thread(self._write_accounts, *wanted)
        return Answer(body=self._accounts[wanted])

    def _write_accounts(self, include_health_scores: bool, include_subscriber_orgs: bool) -> bytes:
        rows = account_rows(
            self._config.seed,
            self._config.account_count,
            include_health_scores=include_health_scores,
            include_subscriber_orgs=include_subscriber_orgs,
        )
        pretty = self._config.pretty
        return b'{"data":' + spell_array(spell_rows(rows, pretty=pretty), pretty=pretty).encode() + b',"success":true}'

    async def _export(self, call: Call) -> Export:
        export = self._exports.get(call.request.match_info["export_id"])
        errors = call.fault(FaultKind.EXPORT_ERRORS)
        if errors:
            export.error = errors.message
        if call.fault(FaultKind.EXPORT_EXPIRES):
            export.expired = True
        if call.fault(FaultKind.FILE_CHANGES):
            await self._exports.change_file(export)
        return export

    def _require(self, call: Call, scope: str) -> None:
        self._authority.require("isvapp", scope, call.request.headers.get("Authorization"))

    def _data(self, data: Any, *, status: int = 200) -> Answer:
        return json_answer({"data": data, "success": True}, status=status, pretty=self._config.pretty)
