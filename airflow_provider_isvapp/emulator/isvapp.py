# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""ISVapp's endpoints, and what they accept."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web

from airflow_provider_isvapp.emulator.config import MONTH, EmulatorConfig
from airflow_provider_isvapp.emulator.data import ExportRequest, Restatement, account_rows, json_array, rows_to_json
from airflow_provider_isvapp.emulator.exports import Export, SpoolFile
from airflow_provider_isvapp.emulator.faults import DAMAGE, FaultKind
from airflow_provider_isvapp.emulator.http import (
    Endpoint,
    ErrorResponse,
    FileSlice,
    Response,
    json_response,
    parse_basic,
)
from airflow_provider_isvapp.emulator.pipeline import Call, Pipeline, State

ACCOUNT = {"id": "6f1f5ba4-0d3c-4f0c-9f39-5a3c2e1d7b10", "company_name": "Bücher & Söhne GmbH"}


class IsvappEndpoints:
    """One method per endpoint."""

    def __init__(self, state: State) -> None:
        self._config = state.config
        self._clock = state.clock
        self._tokens = state.tokens
        self._exports = state.exports
        self._spool = state.spool
        self._accounts: dict[tuple[bool, bool], bytes] = {}

    def add_routes(self, router: web.UrlDispatcher, pipeline: Pipeline) -> None:
        """Add the endpoints to a router."""
        routes: Mapping[Endpoint, tuple[str, str, Callable[[Call], Awaitable[Response]]]] = {
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

    async def token(self, call: Call) -> Response:
        """Issue an access token for a client id and secret."""
        form = parse_qs((await call.request.read()).decode("utf-8", "replace"))
        if form.get("grant_type") != ["client_credentials"]:
            raise ErrorResponse(400, "grant_type must be client_credentials.", code="unsupported_grant_type")
        client, secret = parse_basic(call.request.headers.get("Authorization")) or ("", "")
        value, token = self._tokens.issue("isvapp", client, secret, " ".join(form.get("scope", [])))
        return json_response(
            {
                "access_token": value,
                "token_type": "Bearer",
                "expires_in": int(self._config.token_seconds),
                "scope": " ".join(token.scopes),
            }
        )

    async def account(self, call: Call) -> Response:
        """Return the account of the credential."""
        self._require(call, "identity")
        return self._data(ACCOUNT)

    async def create_export(self, call: Call) -> Response:
        """Create an export."""
        self._require(call, "exports")
        try:
            body = json.loads(await call.request.read())
        except ValueError:
            raise ErrorResponse(400, "The request body is not JSON.") from None
        export_request = parse_export_request(body, config=self._config, now=self._clock.now())
        if call.fault(FaultKind.MONTH_INCOMPLETE):
            raise month_incomplete(export_request.months[-1], latest=earlier(export_request.months[-1], 1))
        missing = call.fault(FaultKind.MONTH_MISSING)
        if missing:
            export_request = replace(
                export_request, months=tuple(month for month in export_request.months if month != missing.month)
            )
        restated = [fault for fault in call.faults if fault.kind == FaultKind.MONTH_RESTATED]
        if restated:
            changes = {(fault.month or "", Restatement(fault.restatement or "")) for fault in restated}
            export_request = replace(export_request, restated=tuple(sorted(changes)))
        errors = call.fault(FaultKind.EXPORT_ERRORS)
        export = self._exports.create(
            export_request,
            error=errors.message if errors else None,
            expired=call.fault(FaultKind.EXPORT_EXPIRES) is not None,
        )
        return self._data(self._exports.new_record(export, call.base_url), status=201)

    async def list_exports(self, call: Call) -> Response:
        """List the most recent exports."""
        self._require(call, "exports")
        exports = self._exports.recent()
        await self._exports.wait_for_files(exports)
        return self._data([self._exports.record(export, call.base_url) for export in exports])

    async def show_export(self, call: Call) -> Response:
        """Return one export."""
        self._require(call, "exports")
        export = await self._export(call)
        await self._exports.wait_for_files([export])
        return self._data(self._exports.record(export, call.base_url))

    async def download(self, call: Call) -> Response:
        """Send the file of an export."""
        self._require(call, "exports")
        export = await self._export(call)
        self._exports.check_download(export, call.request.match_info["token"])
        file = await asyncio.wrap_future(export.file)
        damage = tuple(fault for fault in call.faults if fault.kind in DAMAGE)
        if damage:
            file = await asyncio.wrap_future(self._spool.damaged(file, damage))
        return file_response(file, call.request.headers, self._config)

    async def salesforce_accounts(self, call: Call) -> Response:
        """List the Salesforce accounts."""
        self._require(call, "salesforce_accounts")
        query = call.request.query
        wanted = (query.get("includeHealthScores") == "1", query.get("includeSubscriberOrgs") == "1")
        if wanted not in self._accounts:
            self._accounts[wanted] = await asyncio.to_thread(self._write_accounts, *wanted)
        return Response(body=self._accounts[wanted])

    def _write_accounts(self, include_health_scores: bool, include_subscriber_orgs: bool) -> bytes:
        rows = account_rows(
            self._config.seed,
            self._config.account_count,
            include_health_scores=include_health_scores,
            include_subscriber_orgs=include_subscriber_orgs,
        )
        pretty = self._config.pretty
        return b'{"data":' + json_array(rows_to_json(rows, pretty=pretty), pretty=pretty).encode() + b',"success":true}'

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
        self._tokens.require("isvapp", scope, call.request.headers.get("Authorization"))

    def _data(self, data: Any, *, status: int = 200) -> Response:
        return json_response({"data": data, "success": True}, status=status, pretty=self._config.pretty)


SELECTIONS = ("taxonomy_ids", "taxonomy_level_ids", "taxonomy_item_ids")
SALESFORCE_ID = re.compile(r"[0-9A-Za-z]{15}([0-9A-Za-z]{3})?")


def parse_export_request(body: Any, *, config: EmulatorConfig, now: datetime) -> ExportRequest:
    """Validate the JSON body of a create request.

    :raises ErrorResponse: 422, naming the field.
    """
    if not isinstance(body, dict):
        raise ErrorResponse(422, "The request body must be a JSON object.")
    for name, allowed in (("type", "TAXONOMY_ITEM"), ("aggregation", "MONTHLY")):
        if name not in body:
            raise ErrorResponse(422, f"{name} is required.")
        if body[name] != allowed:
            raise ErrorResponse(422, f"{name} must be {allowed}.")
    months = _months(body.get("timeframe"), config, now)
    given = [name for name in SELECTIONS if body.get(name) is not None]
    if len(given) != 1:
        raise ErrorResponse(422, f"Exactly one of {', '.join(SELECTIONS)} is required.")
    ids = _strings(given[0], body[given[0]])
    if given[0] == "taxonomy_ids" and config.taxonomy_ids is not None:
        unknown = [name for name in ids if name not in config.taxonomy_ids.split()]
        if unknown:
            raise ErrorResponse(422, f"taxonomy_ids: there is no taxonomy {unknown[0]!r}.")
    accounts = None
    if body.get("salesforce_account_ids") is not None:
        wanted = _strings("salesforce_account_ids", body["salesforce_account_ids"])
        for account in wanted:
            if not SALESFORCE_ID.fullmatch(account):
                raise ErrorResponse(422, f"salesforce_account_ids: {account!r} is not an id of 15 or 18 characters.")
        accounts = tuple(sorted({account[:15] for account in wanted}))
    return ExportRequest(
        type=body["type"],
        aggregation=body["aggregation"],
        months=months,
        selection=given[0],
        ids=ids,
        accounts=accounts,
    )


def _months(timeframe: Any, config: EmulatorConfig, now: datetime) -> tuple[str, ...]:
    latest = latest_complete(config, now)
    if timeframe is None:
        raise ErrorResponse(422, "timeframe is required.")
    if timeframe == "LATEST_COMPLETED_MONTH":
        return (latest,)
    if timeframe == "LATEST_12_COMPLETED_MONTHS":
        return tuple(earlier(latest, count) for count in range(11, -1, -1))
    if not isinstance(timeframe, str) or not MONTH.fullmatch(timeframe):
        raise ErrorResponse(422, "timeframe must be YYYY-MM, LATEST_COMPLETED_MONTH or LATEST_12_COMPLETED_MONTHS.")
    if timeframe > latest:
        raise month_incomplete(timeframe, latest=latest)
    if timeframe < config.first_month:
        raise ErrorResponse(422, f"timeframe: no data for {timeframe}; the first month is {config.first_month}.")
    return (timeframe,)


def month_incomplete(month: str, *, latest: str) -> ErrorResponse:
    """Return the error for a month that is not complete yet."""
    return ErrorResponse(422, f"timeframe: {month} is not complete yet. The latest completed month is {latest}.")


def _strings(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
        raise ErrorResponse(422, f"{name} must be a non-empty array of strings.")
    return tuple(value)


def earlier(month: str, count: int) -> str:
    """Return the month ``count`` months before ``YYYY-MM``."""
    year, number = map(int, month.split("-"))
    index = year * 12 + number - 1 - count
    return f"{index // 12:04d}-{index % 12 + 1:02d}"


def latest_complete(config: EmulatorConfig, now: datetime) -> str:
    """Return the latest complete month: last month, or before ``month_complete_day`` the month before it."""
    return earlier(f"{now.year:04d}-{now.month:02d}", 1 if now.day >= config.month_complete_day else 2)


_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def file_response(file: SpoolFile, request_headers: Mapping[str, str], config: EmulatorConfig) -> Response:
    """Build the response to a download: the file (200), the requested range (206), or an error for the range (416)."""
    headers = {}
    if config.etag != "none":
        headers["ETag"] = f'{"W/" if config.etag == "weak" else ""}"{file.tag}"'
    if config.content_encoding:
        headers["Content-Encoding"] = "gzip"
    if config.ranges:
        headers["Accept-Ranges"] = "bytes"
    size = file.compressed_bytes
    response = Response(
        body=FileSlice(file.path, 0, size),
        content_type="application/x-ndjson" if config.content_encoding else "application/gzip",
        headers=headers,
        framing=config.framing,
    )
    wanted = _RANGE.fullmatch(request_headers.get("Range", "")) if config.ranges else None
    if wanted is None or wanted.groups() == ("", ""):
        return response
    # RFC 9110, 13.1.5: without a strong match the whole file is sent; a weak validator never matches strongly.
    condition = request_headers.get("If-Range")
    if condition is not None and (config.etag != "strong" or condition != headers["ETag"]):
        return response
    first, last = wanted.groups()
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= size:
        return Response(status=416, headers=headers | {"Content-Range": f"bytes */{size}"})
    if stop <= start:
        return response
    return replace(
        response,
        status=206,
        body=FileSlice(file.path, start, stop - start),
        headers=headers | {"Content-Range": f"bytes {start}-{stop - 1}/{size}"},
    )
