# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from airflow_provider_isvapp.api.productiv import ProductivClient
from airflow_provider_isvapp.api.settings import PRODUCTIV_SCOPE, ProductivSettings
from airflow_provider_isvapp.errors import (
    AuthenticationRefused,
    ContractBroken,
    InvalidArgument,
    NotFound,
    RequestRefused,
)
from tests.support.scripted_server import ScriptedResponse, ScriptedServer, token
from tests.unit.api.conftest import FakeTime, RecordingLimiter

APPS = b"""{"AsOfDate": "2026-10-31", "ResponseTimeMs": 12, "Page": 1,
 "Apps": [{"ApplicationId": "crm", "Cost": 1.50}, {
"ApplicationId": "hr"}]}"""
ONE_APP = b"""{"App": {"ApplicationId": "crm/sales"}, "AsOfDate": "2026-10-31", "ResponseTimeMs": 3,
 "FiscalDate": "2026-02-01", "FiscalDateRange": {"Start": "2026-02-01"}, "New": true}"""


@pytest.fixture
def connect(
    server: ScriptedServer, limiter: RecordingLimiter, time: FakeTime
) -> Iterator[Callable[..., ProductivClient]]:
    opened: list[ProductivClient] = []

    def build(**extra: object) -> ProductivClient:
        fields = {"auth_url": f"{server.url}/oauth2/token", "attempts": 2} | extra
        settings = ProductivSettings.from_connection(login="client", password="sentinel", host=server.url, extra=fields)
        opened.append(ProductivClient(settings, limiter=limiter, clock=time, sleep=time.sleep))
        return opened[-1]

    yield build
    for client in opened:
        client.close()


def test_apps_keep_their_bytes_and_the_date(server, connect, limiter):
    server.script("/oauth2/token", token())
    server.script("/pull/v1/apps", ScriptedResponse(body=APPS))

    apps = connect().list_apps()

    assert apps.lines == (b'{"ApplicationId": "crm", "Cost": 1.50}', b'{"ApplicationId":"hr"}')
    assert [app["ApplicationId"] for app in apps] == ["crm", "hr"]
    assert len(apps) == 2
    assert (apps.as_of_date, apps.response_time_ms, apps.extra) == ("2026-10-31", 12, {"Page": 1})
    assert server.seen[0].form["scope"] == "https://api.productiv.com/apps.read"
    assert server.seen[0].form["client_id"] == "client"
    assert server.seen[1].query == {}
    assert server.seen[1].headers["authorization"] == "Bearer token-1"
    assert limiter.permits == 2


def test_the_switches_are_sent(server, connect):
    server.script("/oauth2/token", token())
    server.script("/pull/v1/apps", ScriptedResponse(body=APPS))

    connect().list_apps(include_inactive=True, verbose=True)

    assert server.seen[-1].query == {"includeInactive": "true", "verbose": "true"}


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_the_version_is_the_connections_or_the_callers(server, connect, version):
    server.script("/oauth2/token", token(), token())
    server.script(f"/pull/{version}/apps", ScriptedResponse(body=APPS), ScriptedResponse(body=APPS))

    connect(api_version=version).list_apps()
    connect(api_version="v1").list_apps(api_version=version)

    assert server.paths().count(f"/pull/{version}/apps") == 2


def test_one_app(server, connect):
    server.script("/oauth2/token", token())
    server.script("/pull/v2/apps/crm%2Fsales", ScriptedResponse(body=ONE_APP))

    details = connect(api_version="v2").get_app("crm/sales")

    assert details.app == {"ApplicationId": "crm/sales"}
    assert (details.as_of_date, details.fiscal_date, details.fiscal_date_range) == (
        "2026-10-31",
        "2026-02-01",
        {"Start": "2026-02-01"},
    )
    assert details.extra == {"New": True}


def test_an_unknown_app_is_not_found(server, connect):
    server.script("/oauth2/token", token())
    server.script("/pull/v1/apps/nope", ScriptedResponse(404, b'{"message": "No such application"}'))

    with pytest.raises(NotFound, match="No such application"):
        connect().get_app("nope")


@pytest.mark.parametrize("application_id", ["", None, "None", 3])
def test_an_empty_application_id_is_an_error_before_anything_is_sent(server, connect, application_id):
    with pytest.raises(InvalidArgument, match="application_id: must be "):
        connect().get_app(application_id)
    assert server.seen == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"Apps": [], "ResponseTimeMs": 1}', "without 'AsOfDate'"),
        (b'{"Apps": [], "AsOfDate": null}', "'AsOfDate' is not a date"),
        (b'{"AsOfDate": "2026-10-31"}', "without 'Apps'"),
        (b'{"AsOfDate": "2026-10-31", "Apps": {}}', "'Apps' is not an array"),
        (b'{"AsOfDate": "2026-10-31", "Apps": ["crm"]}', "element 0 of 'Apps' is not an object"),
    ],
)
def test_a_list_of_another_shape_is_loud(server, connect, body, message):
    server.script("/oauth2/token", token())
    server.script("/pull/v1/apps", ScriptedResponse(body=body))

    with pytest.raises(ContractBroken, match=message):
        connect().list_apps()


def test_credentials_can_be_checked_with_one_request(server, connect):
    server.script("/oauth2/token", ScriptedResponse(400, b'{"error": "invalid_client"}'), token())
    client = connect()

    with pytest.raises(AuthenticationRefused, match="invalid_client"):
        client.check_scope(PRODUCTIV_SCOPE)
    client.check_scope(PRODUCTIV_SCOPE)

    assert server.paths() == ["/oauth2/token"] * 2


def test_a_refusal_without_a_documented_format_still_reaches_the_user(server, connect):
    server.script("/oauth2/token", token())
    server.script("/pull/v1/apps", ScriptedResponse(400, b"verbose is not available"))

    with pytest.raises(RequestRefused, match=r"Productiv refused GET /pull/v1/apps \(400\): verbose is not available"):
        connect().list_apps()
