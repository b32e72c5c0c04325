# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Productiv's endpoints."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web

from airflow_provider_isvapp.emulator.apps import app, app_ids, app_rows
from airflow_provider_isvapp.emulator.auth import PRODUCTIV_SCOPES, parse_basic
from airflow_provider_isvapp.emulator.data import spell, spell_array, spell_rows
from airflow_provider_isvapp.emulator.pipeline import Call, Pipeline
from airflow_provider_isvapp.emulator.requests import Endpoint
from airflow_provider_isvapp.emulator.responses import ErrorResponse, Response, json_response
from airflow_provider_isvapp.emulator.state import State


class ProductivEndpoints:
    """One method for each endpoint."""

    def __init__(self, state: State) -> None:
        self._config = state.config
        self._clock = state.clock
        self._tokens = state.tokens
        self._places = {app_id: place for place, app_id in enumerate(app_ids(state.config.apps))}
        self._lists: dict[tuple[bool, bool], str] = {}

    def add_routes(self, router: web.UrlDispatcher, pipeline: Pipeline) -> None:
        """Publish the endpoints."""
        router.add_post("/oauth2/token", pipeline.serve(Endpoint.PRODUCTIV_TOKEN, self.token))
        router.add_route("GET", "/pull/{version:v[123]}/apps", pipeline.serve(Endpoint.PRODUCTIV_APPS, self.list_apps))
        router.add_route(
            "GET", "/pull/{version:v[123]}/apps/{application_id}", pipeline.serve(Endpoint.PRODUCTIV_APP, self.show_app)
        )

    async def token(self, call: Call) -> Response:
        """Exchange client id and secret, from the header or the form, for an access token."""
        form = parse_qs((await call.request.read()).decode("utf-8", "replace"))
        if form.get("grant_type") != ["client_credentials"]:
            raise ErrorResponse(400, "grant_type must be client_credentials.", code="unsupported_grant_type")
        client, secret = parse_basic(call.request.headers.get("Authorization")) or (
            form.get("client_id", [""])[0],
            form.get("client_secret", [""])[0],
        )
        value, _ = self._tokens.issue("productiv", client, secret, " ".join(form.get("scope", [])))
        return json_response(
            {"access_token": value, "token_type": "Bearer", "expires_in": int(self._config.token_seconds)}
        )

    async def list_apps(self, call: Call) -> Response:
        """List the apps of the portfolio."""
        started = self._begin(call)
        wanted = (call.request.query.get("includeInactive") == "true", call.request.query.get("verbose") == "true")
        if wanted not in self._lists:
            self._lists[wanted] = await asyncio.to_thread(self._write_list, *wanted)
        around = {"AsOfDate": self._as_of_date} | self._fiscal(call)
        text = '%s,"Apps":%s,"ResponseTimeMs":%d}'
        body = text % (json.dumps(around)[:-1], self._lists[wanted], self._milliseconds(started))
        return Response(body=body.encode())

    async def show_app(self, call: Call) -> Response:
        """Show one app with all its details."""
        started = self._begin(call)
        place = self._places.get(call.request.match_info["application_id"])
        if place is None:
            raise ErrorResponse(404, f"There is no application {call.request.match_info['application_id']}.")
        fields: dict[str, Any] = {"App": app(self._config.seed, place, verbose=True), "AsOfDate": self._as_of_date}
        fields |= self._fiscal(call)
        fields["ResponseTimeMs"] = self._milliseconds(started)
        return Response(body=spell(fields, pretty=self._config.pretty).encode())

    def _fiscal(self, call: Call) -> dict[str, Any]:
        """Return what the later versions add: the fiscal year is the calendar's."""
        if call.request.match_info["version"] == "v1":
            return {}
        year, month, _ = self._as_of_date.split("-")
        return {
            "FiscalDate": {"FiscalYear": year, "AsOfMonth": month},
            "FiscalDateRange": {"Start": f"{year}-01-01", "End": f"{year}-12-31"},
        }

    def _begin(self, call: Call) -> float:
        started = self._clock.monotonic()
        self._tokens.require("productiv", PRODUCTIV_SCOPES[0], call.request.headers.get("Authorization"))
        return started

    def _write_list(self, include_inactive: bool, verbose: bool) -> str:
        rows = app_rows(self._config.seed, self._config.apps, include_inactive=include_inactive, verbose=verbose)
        pretty = self._config.pretty
        return spell_array(spell_rows(rows, pretty=pretty), pretty=pretty)

    @property
    def _as_of_date(self) -> str:
        return (self._clock.now() - timedelta(days=1)).date().isoformat()

    def _milliseconds(self, started: float) -> int:
        return int((self._clock.monotonic() - started) * 1000)
