# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Productiv's endpoints and their generated apps: every documented field and value, and each optional key both present
and absent.

Names, types and values come from :mod:`airflow_provider_isvapp.api.schema.productiv`. This module adds how the values
of an app relate to each other, and text that a careless reader would change.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web

from airflow_provider_isvapp.api.schema.fields import Field, ListOf, MapOf, ObjectOf, Scalar, Type, read_object
from airflow_provider_isvapp.api.schema.productiv import AppDetails, AppSummary
from airflow_provider_isvapp.emulator.data import json_array, number, rows_to_json, seeded, to_json
from airflow_provider_isvapp.emulator.http import (
    PRODUCTIV_SCOPES,
    Endpoint,
    ErrorResponse,
    Response,
    json_response,
    parse_basic,
)
from airflow_provider_isvapp.emulator.pipeline import Call, Pipeline, State

_APP_NAMES = ("Übersetzer", "Chat", "Tables", "日程", "Café Manager", "Sign/Send", 'Say "Hi"', "Ledger", "Løn", "Vault")
_WORDS = ("Größe L", "Überwachung", "SaaS Management", "Data & Analytics", "SAML", "Okta", "更多", "größer als 10 €")
_CATEGORIES = ("IT Management", "Analytics", "Finance", "Sales & Marketing")
_PEOPLE = (("Zoë Groß", "zoe@example.com"), ("Ōe Kenzaburō", "oe@example.com"), ("Ann O'Neil", "ann@example.com"))
_CURRENCIES = ("EUR", "USD", "JPY")
_FIRST_DAY = date(2020, 1, 1)
_DAYS = 2 * 365


def app_ids(count: int) -> list[str]:
    """Return the ids of the apps in list order."""
    return [f"app-{index:04d}" for index in range(count)]


def is_inactive(index: int) -> bool:
    """Whether the app at an index of the list is inactive."""
    return index % 5 == 4


def app_rows(seed: int, count: int, *, include_inactive: bool, verbose: bool) -> list[dict[str, Any]]:
    """Return the rows of the apps endpoint."""
    return [app(seed, index, verbose=verbose) for index in range(count) if include_inactive or not is_inactive(index)]


def app(seed: int, index: int, *, verbose: bool) -> dict[str, Any]:
    """Return one app, as a summary or with all details."""
    maker = _AppFactory(seeded("app", seed, index), index)
    return maker.make_object(read_object(AppDetails if verbose else AppSummary), "")


class _AppFactory:
    """Generates the values of one app.

    What is not random depends on the app's index, so that a few apps show every variant.
    """

    def __init__(self, rng: random.Random, index: int) -> None:
        self._rng = rng
        self._index = index
        self._special: dict[str, Callable[[Type, str], Any]] = {
            "ApplicationId": lambda *_: f"app-{index:04d}",
            "ApplicationName": lambda *_: f"{_APP_NAMES[index % len(_APP_NAMES)]} {index}",
            "Category": lambda *_: _CATEGORIES[index % len(_CATEGORIES)],
            "Description": lambda *_: f"App {index} \u2013 \u201cbilling included\u201d, a/b.\nSecond line.",
            "VendorName": lambda *_: f"Vendor/{index % 7}",
            "IsInactive": lambda *_: is_inactive(index),
            "IsDiscovered": lambda *_: index % 2 == 1,
            "CustomFields": self._custom_fields,
            "Activity": self._activity,
            "RollingWindow30": self._no_licenses,
            "Email": lambda *_: _PEOPLE[index % len(_PEOPLE)][1],
            "Name": lambda *_: _PEOPLE[index % len(_PEOPLE)][0],
            "url": lambda *_: "https://wiki.example.com/a/b?c=d&e=%20",
        }

    def make_object(self, kind: ObjectOf, path: str) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for item in kind.fields:
            inner = f"{path}.{item.name}"
            if item.required or self._is_there(item, inner):
                made[item.name] = self._make(item.type, inner, item.name)
        if "NumContacts" in made:
            made["NumContacts"] = sum(len(value) for value in made.values() if isinstance(value, list))
        if "ProvisionedLicenses" in made:
            made["RollingWindow30"] = _window(self._rng, kind, made["ProvisionedLicenses"])
        return made

    def _is_there(self, item: Field, path: str) -> bool:
        if item.name == "LicenseTier":
            return ".Engagement." in path
        if item.name == "SupportedProtocols":
            return ".Instances" not in path
        if item.name == "IsInactive" and is_inactive(self._index):
            return True
        return (self._index + sum(path.encode())) % 3 != 0

    def _make(self, kind: Type, path: str, name: str) -> Any:
        if (special := self._special.get(name)) is not None:
            return special(kind, path)
        if isinstance(kind, ObjectOf):
            return self.make_object(kind, path)
        if isinstance(kind, MapOf):
            tiers = self._rng.sample(_WORDS, k=1 + self._index % 2)
            return {tier: self._make(kind.values, f"{path}.{tier}", "") for tier in tiers}
        if isinstance(kind, ListOf):
            return self._list(kind.items, path)
        return self._scalar(kind, path, name)

    def _list(self, items: Type, path: str) -> list[Any]:
        begin = self._index + sum(path.encode())
        if isinstance(items, Scalar):
            values = items.values or _WORDS
            return [values[(begin + place) % len(values)] for place in range(begin % 4)]
        return [self._make(items, f"{path}[{place}]", "") for place in range(1 + begin % 2)]

    def _scalar(self, kind: Scalar, path: str, name: str) -> Any:
        place = self._index + sum(path.encode())
        if kind.values:
            return kind.values[place % len(kind.values)]
        match kind.kind:
            case "date":
                begin = _DAYS if name.startswith(("Last", "End")) else 0
                return (_FIRST_DAY + timedelta(days=begin + self._rng.randrange(_DAYS))).isoformat()
            case "boolean":
                return self._rng.random() < 0.5
            case "integer":
                return 0 if place % 7 == 0 else self._rng.randrange(1, 400)
            case "number":
                # Neither 64 bits nor a float hold it: only a verbatim copy is equal.
                return number(
                    "12345678901234567890.10" if ".TermAmount" in path else f"{self._rng.randrange(10**5)}.50"
                )
        if "urrency" in name:
            return _CURRENCIES[place % len(_CURRENCIES)]
        return f"{_WORDS[place % len(_WORDS)]} {place % 100}"

    def _custom_fields(self, kind: Type, path: str) -> list[dict[str, Any]]:
        """Generate one field of each type, and a number that only a verbatim copy preserves."""
        assert isinstance(kind, ListOf)  # noqa: S101 - the model says so
        field = kind.items
        assert isinstance(field, ObjectOf)  # noqa: S101 - for the type checker
        made: list[dict[str, Any]] = []
        for tag, value in (*field.variants, ("number", None)):
            one = {item.name: f"{item.name} {len(made)}" for item in field.fields}
            one[field.tag or ""] = tag
            one[field.varies or ""] = number("1e3") if value is None else self._make(value, f"{path}.{tag}", tag)
            made.append(one)
        return made

    def _activity(self, kind: Type, path: str) -> Any:
        if not isinstance(kind, MapOf):
            return self._make(kind, path, "")  # an instance's activity has no sources
        source = kind.keys[self._index % len(kind.keys)]
        return {source: self._make(kind.values, f"{path}.{source}.", "")}

    def _no_licenses(self, kind: Type, path: str) -> None:
        """Return nothing: make_object generates it from the number of licenses."""


def _window(rng: random.Random, kind: ObjectOf, licenses: int) -> dict[str, Any]:
    """Generate the activity of a number of licenses, some of them engaged."""
    engaged = rng.randrange(licenses + 1)
    window = kind.field("RollingWindow30").type
    assert isinstance(window, ObjectOf)  # noqa: S101 - the model says so
    percentage = number(f"{engaged / licenses:.4f}") if licenses else None
    return dict(zip((item.name for item in window.fields), (engaged, licenses - engaged, percentage), strict=True))


class ProductivEndpoints:
    """One method per endpoint."""

    def __init__(self, state: State) -> None:
        self._config = state.config
        self._clock = state.clock
        self._tokens = state.tokens
        self._places = {app_id: place for place, app_id in enumerate(app_ids(state.config.apps))}
        self._lists: dict[tuple[bool, bool], str] = {}

    def add_routes(self, router: web.UrlDispatcher, pipeline: Pipeline) -> None:
        """Add the endpoints to a router."""
        router.add_post("/oauth2/token", pipeline.serve(Endpoint.PRODUCTIV_TOKEN, self.token))
        router.add_route("GET", "/pull/{version:v[123]}/apps", pipeline.serve(Endpoint.PRODUCTIV_APPS, self.list_apps))
        router.add_route(
            "GET", "/pull/{version:v[123]}/apps/{application_id}", pipeline.serve(Endpoint.PRODUCTIV_APP, self.show_app)
        )

    async def token(self, call: Call) -> Response:
        """Issue an access token for a client id and secret from the header or the form."""
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
        started = self._authorize(call)
        wanted = (call.request.query.get("includeInactive") == "true", call.request.query.get("verbose") == "true")
        if wanted not in self._lists:
            self._lists[wanted] = await asyncio.to_thread(self._write_list, *wanted)
        around = {"AsOfDate": self._as_of_date} | self._fiscal(call)
        text = '%s,"Apps":%s,"ResponseTimeMs":%d}'
        body = text % (json.dumps(around)[:-1], self._lists[wanted], self._milliseconds(started))
        return Response(body=body.encode())

    async def show_app(self, call: Call) -> Response:
        """Return one app with all details."""
        started = self._authorize(call)
        place = self._places.get(call.request.match_info["application_id"])
        if place is None:
            raise ErrorResponse(404, f"There is no application {call.request.match_info['application_id']}.")
        fields: dict[str, Any] = {"App": app(self._config.seed, place, verbose=True), "AsOfDate": self._as_of_date}
        fields |= self._fiscal(call)
        fields["ResponseTimeMs"] = self._milliseconds(started)
        return Response(body=to_json(fields, pretty=self._config.pretty).encode())

    def _fiscal(self, call: Call) -> dict[str, Any]:
        """Return the fields that later versions add; the fiscal year is the calendar year."""
        if call.request.match_info["version"] == "v1":
            return {}
        year, month, _ = self._as_of_date.split("-")
        return {
            "FiscalDate": {"FiscalYear": year, "AsOfMonth": month},
            "FiscalDateRange": {"Start": f"{year}-01-01", "End": f"{year}-12-31"},
        }

    def _authorize(self, call: Call) -> float:
        started = self._clock.monotonic()
        self._tokens.require("productiv", PRODUCTIV_SCOPES[0], call.request.headers.get("Authorization"))
        return started

    def _write_list(self, include_inactive: bool, verbose: bool) -> str:
        rows = app_rows(self._config.seed, self._config.apps, include_inactive=include_inactive, verbose=verbose)
        pretty = self._config.pretty
        return json_array(rows_to_json(rows, pretty=pretty), pretty=pretty)

    @property
    def _as_of_date(self) -> str:
        return (self._clock.now() - timedelta(days=1)).date().isoformat()

    def _milliseconds(self, started: float) -> int:
        return int((self._clock.monotonic() - started) * 1000)
