# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import logging
import socket
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from airflow_provider_isvapp.api.auth import ApiKey
from airflow_provider_isvapp.api.settings import TransportSettings
from airflow_provider_isvapp.api.transport import Request, Transport
from airflow_provider_isvapp.errors import (
    AuthenticationRefused,
    ForeignURL,
    InvalidConnection,
    NotFound,
    OutcomeUnknown,
    PermissionRefused,
    RequestRefused,
    ServiceUnavailable,
)
from tests.support.scripted_server import ScriptedResponse, ScriptedServer
from tests.unit.api.conftest import FakeTime, RecordingLimiter

KEY = "sentinel-api-key"


@pytest.fixture
def transport(server: ScriptedServer, limiter: RecordingLimiter, time: FakeTime) -> Iterator[Transport]:
    settings = TransportSettings(vendor="ISVapp", base_url=server.url, read_timeout=1.0, attempts=3)
    running = Transport(settings, limiter=limiter, clock=time, sleep=time.sleep)
    yield running
    running.close()


@pytest.fixture
def fetch(server: ScriptedServer, transport: Transport) -> Callable[..., bytes]:
    def send(path: str = "/thing", **fields: object) -> bytes:
        settings: dict[str, object] = {"method": "GET", "label": f"GET {path}", "scope": "exports"} | fields
        request = Request(endpoint="thing", url=f"{server.url}{path}", **settings)
        return transport.fetch(request, ApiKey(KEY)).content

    return send


def test_sends_the_token_and_reads_the_body(server, fetch, limiter):
    server.script("/thing", ScriptedResponse(body=b"hello"))

    assert fetch() == b"hello"

    assert server.seen[0].headers["authorization"] == f"Bearer {KEY}"
    assert limiter.permits == 1


def test_the_log_of_urllib3_is_searched_for_its_secrets_until_it_is_closed(server, transport, fetch, caplog):
    """Each line is searched once per client: the closed ones of a long process must not slow it down."""
    server.script("/sentinel-of-this-client", ScriptedResponse(), ScriptedResponse())
    transport.redact.add("sentinel-of-this-client")
    caplog.set_level("DEBUG")
    for _ in range(2):  # a closed client can be used again
        caplog.clear()
        fetch("/sentinel-of-this-client")
        assert "GET /***" in caplog.text
        assert "sentinel" not in caplog.text
        transport.close()
        logging.getLogger("urllib3.connectionpool").info("GET /sentinel-of-this-client")
        assert "sentinel-of-this-client" in caplog.text


def test_a_client_that_is_closed_while_it_waits_for_a_permit_logs_no_secret(
    server, transport, fetch, limiter, caplog, monkeypatch
):
    server.script("/sentinel-of-this-client", ScriptedResponse())
    transport.redact.add("sentinel-of-this-client")
    caplog.set_level("DEBUG")
    grant = limiter.acquire

    def acquire_and_close():
        transport.close()
        return grant()

    monkeypatch.setattr(limiter, "acquire", acquire_and_close)
    fetch("/sentinel-of-this-client")

    assert "GET /***" in caplog.text
    assert "sentinel" not in caplog.text


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_server_errors_are_retried(server, fetch, time, limiter, status):
    server.script("/thing", ScriptedResponse(status), ScriptedResponse(status), ScriptedResponse(body=b"at last"))

    assert fetch() == b"at last"

    assert len(time.pauses) == 2
    assert 1 <= time.pauses[0] <= 2.5
    assert limiter.permits == 3, "a retry passes the limiter like any request"


def test_the_error_has_the_reason_of_the_last_attempt(server, fetch):
    server.script("/thing", *[ScriptedResponse(503, b'{"error": "maintenance until noon", "success": false}')] * 3)

    with pytest.raises(
        ServiceUnavailable, match=r"GET /thing at \S+ after 3 attempts; last error: status 503: maintenance until noon"
    ):
        fetch()
    assert len(server.seen) == 3


@pytest.mark.parametrize("fault", ["reset", "hang"])
def test_resets_and_timeouts_are_retried_when_the_request_is_safe_to_repeat(server, fetch, fault):
    server.script("/thing", ScriptedResponse(fault=fault), ScriptedResponse(body=b"fine"))

    assert fetch() == b"fine"


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (ScriptedResponse(fault="reset"), "the connection broke"),
        (ScriptedResponse(fault="hang"), "no response within 1 s"),
        (ScriptedResponse(502, b"<html>"), "status 502"),
        (ScriptedResponse(200, b"{", {"Content-Length": "100"}), "the connection broke"),
    ],
)
def test_a_request_that_is_not_safe_to_repeat_is_sent_once(server, fetch, response, reason):
    server.script("/thing", response, ScriptedResponse(body=b"a second export"))

    with pytest.raises(OutcomeUnknown, match=reason):
        fetch(method="POST", idempotent=False)
    assert len(server.seen) == 1


def test_a_response_that_breaks_off_is_requested_again(server, fetch):
    server.script(
        "/thing", ScriptedResponse(200, b"half", {"Content-Length": "8"}), ScriptedResponse(body=b"wholebody")
    )

    assert fetch() == b"wholebody"


def test_a_429_blocks_the_limit_and_is_retried_even_for_a_create(server, fetch, limiter, time):
    server.script("/thing", ScriptedResponse(429, headers={"Retry-After": "7"}), ScriptedResponse(body=b"created"))

    assert fetch(method="POST", idempotent=False) == b"created"

    assert limiter.blocked_for == [7.0]
    assert time.pauses == [7.0]


def test_a_429_without_retry_after_blocks_the_limit_for_its_window(server, fetch, limiter, time):
    server.script("/thing", ScriptedResponse(429), ScriptedResponse(body=b"ok"))

    assert fetch() == b"ok"

    assert limiter.blocked_for == [1.0]
    assert time.pauses[0] >= 1.0


def test_retry_after_may_be_a_date_which_is_meant_by_the_vendors_clock(server, fetch, time):
    theirs = datetime.fromtimestamp(time.now, UTC) + timedelta(hours=3)
    headers = {
        "Date": format_datetime(theirs, usegmt=True),
        "Retry-After": format_datetime(theirs + timedelta(seconds=11), usegmt=True),
    }
    server.script("/thing", ScriptedResponse(503, headers=headers), ScriptedResponse(body=b"ok"))

    assert fetch() == b"ok"

    assert time.pauses == [11.0]


def test_a_date_without_one_to_compare_with_is_meant_by_our_clock(server, fetch, time):
    moment = datetime.fromtimestamp(time.now, UTC) + timedelta(seconds=11)
    headers = {"Date": "-", "Retry-After": format_datetime(moment, usegmt=True)}
    server.script("/thing", ScriptedResponse(503, headers=headers), ScriptedResponse(body=b"ok"))

    assert fetch() == b"ok"

    assert time.pauses == [11.0]


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_zero_does_not_use_up_all_attempts_at_once(server, fetch, time, limiter, status):
    server.script("/thing", *[ScriptedResponse(status, headers={"Retry-After": "0"})] * 2, ScriptedResponse(body=b"ok"))

    assert fetch() == b"ok"

    assert time.pauses[0] >= 1.0
    assert time.pauses[1] >= 2.0
    assert limiter.blocked_for == ([1.0, 1.0] if status == 429 else [])


def test_retry_after_is_capped(server, fetch, time):
    server.script("/thing", ScriptedResponse(503, headers={"Retry-After": "86400"}), ScriptedResponse(body=b"ok"))

    assert fetch() == b"ok"

    assert time.pauses == [120.0]


def test_a_429_blocks_the_limit_for_up_to_five_minutes_while_an_attempt_waits_two(server, fetch, limiter, time):
    server.script("/thing", ScriptedResponse(429, headers={"Retry-After": "86400"}), ScriptedResponse(body=b"ok"))

    assert fetch() == b"ok"

    assert limiter.blocked_for == [300.0]
    assert time.pauses == [120.0]


@pytest.mark.parametrize(
    ("status", "kind", "advice"),
    [
        (400, RequestRefused, "Change the request"),
        (401, AuthenticationRefused, "login and password"),
        (403, PermissionRefused, "scope 'exports'"),
        (404, NotFound, "Check the id"),
        (422, RequestRefused, "Change the request"),
    ],
)
def test_a_refusal_is_final_and_repeats_the_vendor(server, fetch, status, kind, advice):
    server.script("/thing", ScriptedResponse(status, b'{"error": "timeframe is not completed", "success": false}'))

    with pytest.raises(kind) as caught:
        fetch()

    assert "timeframe is not completed" in str(caught.value)
    assert advice in str(caught.value)
    assert caught.value.status == status
    assert caught.value.permanent
    assert len(server.seen) == 1


def test_a_refusal_that_repeats_the_token_does_not_spread_it(server, fetch):
    server.script("/thing", ScriptedResponse(400, f'{{"error": "bad key {KEY}"}}'.encode()))

    with pytest.raises(RequestRefused, match=r"bad key \*\*\*"):
        fetch()


def test_a_refusal_by_a_web_page_is_named(server, fetch):
    server.script("/thing", ScriptedResponse(403, b"<html><title>Forbidden</title></html>"))

    with pytest.raises(PermissionRefused, match="a web page instead of an API response"):
        fetch()


def test_a_redirect_is_not_followed(server, fetch):
    with ScriptedServer() as other:
        other.script("*", ScriptedResponse(body=b"caught a token"))
        server.script("/thing", ScriptedResponse(302, headers={"Location": f"{other.url}/elsewhere?secret=1"}))

        with pytest.raises(ForeignURL, match=r"redirect to 127\.0\.0\.1, which is not followed") as caught:
            fetch()

        assert other.seen == []
        assert "secret" not in str(caught.value)


def test_a_token_is_not_sent_to_another_origin(transport, server):
    with ScriptedServer() as other:
        request = Request(
            method="GET",
            url=f"{other.url}/file/token-in-path",
            label="the download of export e1",
            endpoint="download",
            scope="exports",
        )

        with pytest.raises(ForeignURL, match="nothing was sent"):
            transport.fetch(request, ApiKey(KEY))

        assert other.seen == []
        assert server.seen == []


def test_netrc_does_not_replace_the_token(server, fetch, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server.script("/thing", ScriptedResponse(body=b"ok"))

    fetch()

    assert server.seen[0].headers["authorization"] == f"Bearer {KEY}"


def test_nothing_secret_is_chained_to_an_error(server, transport):
    server.script("/exports/e1/download/sentinel-token", *[ScriptedResponse(fault="reset")] * 3)
    request = Request(
        method="GET",
        url=f"{server.url}/exports/e1/download/sentinel-token",
        label="the download of export e1",
        endpoint="download",
        scope="exports",
    )

    with pytest.raises(ServiceUnavailable) as caught:
        transport.stream(request, ApiKey(KEY))

    assert "sentinel" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None
    assert "sentinel" not in repr(request)


def test_an_unreachable_host_is_named_as_such_and_retried(limiter, time):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = TransportSettings(vendor="ISVapp", base_url=f"http://127.0.0.1:{port}", attempts=2)
    transport = Transport(settings, limiter=limiter, clock=time, sleep=time.sleep)
    request = Request(method="POST", url=f"{settings.base_url}/x", label="POST /x", endpoint="x", idempotent=False)

    with pytest.raises(ServiceUnavailable, match=r"after 2 attempts; last error: no connection \(connection refused\)"):
        transport.fetch(request)
    assert len(time.pauses) == 1, "nothing was sent, so even a create is tried again"
    transport.close()


def test_tls_to_a_server_without_it_names_the_host_field(server, limiter, time):
    base_url = server.url.replace("http://", "https://")
    transport = Transport(
        TransportSettings(vendor="ISVapp", base_url=base_url), limiter=limiter, clock=time, sleep=time.sleep
    )

    with pytest.raises(InvalidConnection, match=r"TLS with https://127\.0\.0\.1:\d+ failed"):
        transport.fetch(Request(method="GET", url=f"{base_url}/x", label="GET /x", endpoint="x"))
    assert time.pauses == []
    transport.close()
