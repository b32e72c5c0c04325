# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import base64
import json
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_isvapp.api.auth import ApiKey, ClientCredentials, SecretStyle
from airflow_provider_isvapp.api.redaction import Redactor
from airflow_provider_isvapp.api.settings import TransportSettings
from airflow_provider_isvapp.api.transport import Request, Transport
from airflow_provider_isvapp.errors import (
    AuthenticationRefused,
    PermissionRefused,
    RequestRefused,
    ServiceUnavailable,
    UnexpectedResponse,
)
from tests.support.scripted_server import ScriptedResponse, ScriptedServer, token
from tests.unit.api.conftest import FakeTime, RecordingLimiter

SECRET = "sentinel secret+/&"


@pytest.fixture
def transport(server: ScriptedServer, limiter: RecordingLimiter, time: FakeTime) -> Iterator[Transport]:
    settings = TransportSettings(vendor="ISVapp", base_url=server.url, attempts=2)
    running = Transport(settings, limiter=limiter, redactor=Redactor([SECRET]), clock=time, sleep=time.sleep)
    yield running
    running.close()


@pytest.fixture
def credentials(server: ScriptedServer, transport: Transport, time: FakeTime) -> Callable[..., ClientCredentials]:
    def build(style: SecretStyle = SecretStyle.BASIC, **options: Any) -> ClientCredentials:
        return ClientCredentials(
            transport,
            token_url=f"{server.url}/token",
            client_id="the client",
            client_secret=SECRET,
            style=style,
            clock=time,
            **options,
        )

    return build


def test_the_secret_is_sent_as_http_basic(server, credentials):
    server.script("/token", token("t1", scope="exports"))

    assert credentials().token("exports") == "t1"

    seen = server.seen[0]
    assert seen.method == "POST"
    assert seen.form == {"grant_type": "client_credentials", "scope": "exports"}
    kind, _, pair = seen.headers["authorization"].partition(" ")
    assert (kind, base64.b64decode(pair)) == ("Basic", b"the client:sentinel secret+/&")


def test_the_secret_is_sent_in_the_form(server, credentials):
    server.script("/token", token("t1"))

    assert credentials(SecretStyle.FORM).token("apps") == "t1"

    assert server.seen[0].form == {
        "grant_type": "client_credentials",
        "scope": "apps",
        "client_id": "the client",
        "client_secret": SECRET,
    }
    assert "authorization" not in server.seen[0].headers


def test_one_token_per_scope_is_requested_and_reused(server, credentials, limiter):
    server.script("/token", token("for-exports"), token("for-identity"))
    tokens = credentials()

    assert [tokens.token(scope) for scope in ("exports", "identity", "exports")] == [
        "for-exports",
        "for-identity",
        "for-exports",
    ]
    assert [seen.form["scope"] for seen in server.seen] == ["exports", "identity"]
    assert limiter.permits == 2, "token requests count against the vendor's limit"


def test_a_token_is_renewed_shortly_before_it_expires(server, credentials, time):
    server.script("/token", token("old", expires_in=3600), token("new", expires_in=3600))
    tokens = credentials()
    assert tokens.token("exports") == "old"

    time.now += 3539
    assert tokens.token("exports") == "old"
    time.now += 1
    assert tokens.token("exports") == "new"


def test_a_short_lived_token_is_not_renewed_at_once(server, credentials, time):
    server.script("/token", token("old", expires_in=10), token("new", expires_in=10))
    tokens = credentials()
    assert tokens.token("exports") == "old"

    time.now += 8.9
    assert tokens.token("exports") == "old"
    time.now += 0.2
    assert tokens.token("exports") == "new"


@pytest.mark.parametrize("expires_in", [-5, 0, 0.001, None])
def test_an_invalid_lifetime_does_not_cost_a_token_per_request(server, credentials, time, expires_in):
    server.script("/token", token("old", expires_in=expires_in), token("new"))
    tokens = credentials()

    for _ in range(50):
        assert tokens.token("exports") == "old"
        time.now += 1
    time.now += 5
    assert tokens.token("exports") == "new"


@pytest.mark.parametrize("expires_in", [b"1e999", b'""', b'"soon"', b"[]", b"true", b"-1e999", b"NaN"])
def test_a_lifetime_that_is_not_a_number_counts_as_unknown(server, credentials, time, expires_in):
    server.script(
        "/token", ScriptedResponse(body=b'{"access_token": "t", "expires_in": %s}' % expires_in), token("new")
    )
    tokens = credentials()

    assert tokens.token("exports") == "t"
    time.now += 50
    assert tokens.token("exports") == "t"
    time.now += 5
    assert tokens.token("exports") == "new"


def test_a_lifetime_may_be_a_string(server, credentials, time):
    server.script("/token", ScriptedResponse(body=b'{"access_token": "t", "expires_in": "3600"}'), token("new"))
    tokens = credentials()

    for passed, expected in ((0, "t"), (3500, "t"), (60, "new")):
        time.now += passed
        assert tokens.token("exports") == expected


@pytest.mark.parametrize(
    "scope",
    [b'""', b'" "', b"null", b"7", b"{}", b'"identity,exports"', b'"identity, exports"', b'["identity", "exports"]'],
)
def test_an_odd_scope_is_read_or_counts_as_unknown(server, credentials, scope):
    server.script("/token", ScriptedResponse(body=b'{"access_token": " t\\n", "scope": %s}' % scope))

    assert credentials().token("exports") == "t"


def test_a_401_requests_one_new_token(server, credentials, transport):
    server.script("/token", token("stale"), token("fresh"))
    server.script("/thing", ScriptedResponse(401, b'{"error": "token expired"}'), ScriptedResponse(body=b"ok"))
    request = Request(
        method="POST",
        url=f"{server.url}/thing",
        label="POST /thing",
        endpoint="thing",
        scope="exports",
        idempotent=False,
    )

    assert transport.fetch(request, credentials()).content == b"ok"

    assert [seen.headers["authorization"] for seen in server.seen if seen.path == "/thing"] == [
        "Bearer stale",
        "Bearer fresh",
    ]


def test_a_second_401_is_final(server, credentials, transport):
    server.script("/token", token("one"), token("two"), token("three"))
    server.script("/thing", *[ScriptedResponse(401, b'{"error": "account locked"}')] * 3)
    request = Request(method="GET", url=f"{server.url}/thing", label="GET /thing", endpoint="thing", scope="exports")

    with pytest.raises(AuthenticationRefused, match="account locked"):
        transport.fetch(request, credentials())
    assert server.paths() == ["/token", "/thing", "/token", "/thing"]


def test_an_api_key_is_not_renewed(server, transport):
    server.script("/thing", *[ScriptedResponse(401, b'{"error": "unknown key"}')] * 2)
    request = Request(method="GET", url=f"{server.url}/thing", label="GET /thing", endpoint="thing", scope="exports")

    with pytest.raises(AuthenticationRefused, match="unknown key"):
        transport.fetch(request, ApiKey("sentinel-key"))
    assert server.paths() == ["/thing"]


@pytest.mark.parametrize(
    ("status", "body"), [(400, b'{"error": "invalid_client"}'), (401, b'{"error": "wrong secret", "success": false}')]
)
def test_a_wrong_secret_names_the_fields(server, credentials, status, body):
    server.script("/token", ScriptedResponse(status, body))

    with pytest.raises(AuthenticationRefused, match=r"(invalid_client|wrong secret).*login and password") as caught:
        credentials().token("exports")
    assert "sentinel" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("status", "body"), [(400, b'{"error": "invalid_scope", "error_description": "Not for you."}'), (403, b"")]
)
def test_a_refused_scope_is_not_reported_as_a_wrong_secret(server, credentials, status, body):
    server.script("/token", ScriptedResponse(status, body))

    with pytest.raises(PermissionRefused, match=r"'exports'.*Give the client that scope") as caught:
        credentials().token("exports")
    assert "password" not in str(caught.value)


def test_a_refusal_without_a_code_may_be_either(server, credentials):
    server.script("/token", ScriptedResponse(400, b'{"error": "Bad request", "success": false}'))

    with pytest.raises(AuthenticationRefused, match=r"login and password.*; or give the client that scope"):
        credentials().token("exports")


@pytest.mark.parametrize(("status", "body"), [(404, b"{}"), (405, b""), (401, b"<html>Sign in</html>")])
def test_a_url_without_a_token_endpoint_is_an_error(server, credentials, status, body):
    server.script("/token", ScriptedResponse(status, body))

    with pytest.raises(RequestRefused, match=f"{server.url} has no token endpoint: check the connection's host") as no:
        credentials().token("exports")
    assert type(no.value) is RequestRefused


def test_a_web_page_in_place_of_a_token_is_an_error(server, credentials):
    server.script("/token", ScriptedResponse(body=b"<html></html>"))

    with pytest.raises(UnexpectedResponse, match="a web page"):
        credentials().token("exports")


def test_a_vendor_that_repeats_the_secret_is_not_quoted(server, credentials):
    server.script("/token", ScriptedResponse(401, json.dumps({"error": f"{SECRET} is wrong"}).encode()))

    with pytest.raises(AuthenticationRefused, match=r"\*\*\* is wrong") as caught:
        credentials().token("exports")
    assert "sentinel" not in repr(caught.value) + caught.value.vendor_message


def test_each_token_is_reported_as_soon_as_it_is_there(server, credentials):
    server.script("/token", token("one"), token("two"))
    told: list[str] = []
    tokens = credentials(on_new_token=told.append)

    for scope in ("exports", "identity", "exports"):
        tokens.token(scope)

    assert told == ["one", "two"]


@pytest.mark.parametrize("scope", ["identity", "identity,account"])
def test_a_token_without_the_scope_is_an_error(server, credentials, scope):
    server.script("/token", token("t1", scope=scope))

    with pytest.raises(PermissionRefused, match="without the scope 'exports'"):
        credentials().token("exports")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>sentinel</html>",
        b"",
        b"[]",
        b"{}",
        b'"sentinel"',
        b'{"access_token": null, "x": "sentinel"}',
        b'{"access_token": 5}',
        b"\xff\xfe",
    ],
)
def test_a_response_without_a_token_is_an_error_that_does_not_quote_it(server, credentials, body):
    server.script("/token", ScriptedResponse(body=body))

    with pytest.raises(UnexpectedResponse, match="Check the connection's host") as caught:
        credentials().token("exports")
    assert "sentinel" not in "".join(traceback.format_exception(caught.value))


def test_the_token_endpoint_is_retried(server, credentials):
    server.script("/token", ScriptedResponse(503), token("t1"))

    assert credentials().token("exports") == "t1"


def test_an_unavailable_token_endpoint_is_not_reported_as_a_wrong_secret(server, credentials):
    server.script("/token", ScriptedResponse(503), ScriptedResponse(503))

    with pytest.raises(
        ServiceUnavailable, match=r"the token for scope 'exports' at http://127\.0\.0\.1:\d+ after 2 attempts"
    ):
        credentials().token("exports")
