# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The messages of the Test button, for right and wrong connections: the finding and the next step."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.emulator import Emulator, EmulatorConfig, Fault, ManualClock
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.hooks.productiv import ProductivHook
from tests.support.airflow_connections import SetConnection, isvapp_fields, productiv_fields
from tests.support.scripted_server import ScriptedResponse, ScriptedServer
from tests.support.tls_server import TlsServer

COMPANY = "Bücher & Söhne GmbH"
CONNECTED = f"Connected to ISVapp as {COMPANY} with the scopes identity, exports, salesforce_accounts."
SCOPE = "https://api.productiv.com/apps.read"

Press = Callable[..., tuple[bool, str]]


@pytest.fixture
def isvapp_button(emulator: Emulator, set_connection: SetConnection) -> Press:
    """Press the button of an ISVapp connection: ``isvapp_button(password="other", extra={…})``."""

    def press(*, to: Emulator = emulator, extra: dict[str, Any] | None = None, **changes: Any) -> tuple[bool, str]:
        set_connection("isvapp_default", **isvapp_fields(to, **extra or {}) | changes)
        return _without_secrets(IsvappHook().test_connection(), to)

    return press


@pytest.fixture
def productiv_button(emulator: Emulator, set_connection: SetConnection) -> Press:
    """Press the button of a Productiv connection."""

    def press(*, to: Emulator = emulator, extra: dict[str, Any] | None = None, **changes: Any) -> tuple[bool, str]:
        set_connection("productiv_default", **productiv_fields(to, **extra or {}) | changes)
        return _without_secrets(ProductivHook().test_connection(), to)

    return press


@pytest.fixture(params=["isvapp", "productiv"])
def button(request: pytest.FixtureRequest) -> Press:
    """The button of either vendor."""
    press: Press = request.getfixturevalue(f"{request.param}_button")
    return press


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


def _without_secrets(outcome: tuple[bool, str], emulator: Emulator) -> tuple[bool, str]:
    secrets = (emulator.client_secret, emulator.api_key, emulator.productiv_client_secret, emulator.token_mark)
    for secret in ("sentinel", *secrets):
        assert secret not in outcome[1]
    return outcome


def _emulator(**config: Any) -> Emulator:
    return Emulator(EmulatorConfig(requests_per_second=None, **config))


class TestWorks:
    def test_names_the_company_and_the_scopes(self, isvapp_button: Press, emulator: Emulator) -> None:
        assert isvapp_button() == (True, CONNECTED)
        assert emulator.request_counts() == {"token": 3, "account": 1}

    def test_names_the_permission_of_an_api_key(self, isvapp_button: Press, emulator: Emulator) -> None:
        assert isvapp_button(login=None, password=emulator.api_key) == (
            True,
            f"Connected to ISVapp as {COMPANY} with an API key that has the permission 'ISVapp metrics retrieval'.",
        )
        assert emulator.request_counts() == {"account": 1}

    def test_names_an_account_without_a_name_by_its_id(self, isvapp_button: Press, emulator: Emulator) -> None:
        emulator.inject(Fault(endpoint="account", kind="edit", replace={"company_name": None, "id": 7}))

        assert isvapp_button()[1].startswith("Connected to ISVapp as account 7 with")

    def test_counts_the_apps(self, productiv_button: Press, emulator: Emulator, clock: ManualClock) -> None:
        yesterday = (clock.now() - timedelta(days=1)).date().isoformat()

        assert productiv_button() == (
            True,
            f"Connected to Productiv with the scope {SCOPE}: 48 active apps as of {yesterday}.",
        )
        assert emulator.request_counts() == {"productiv_token": 1, "productiv_apps": 1}

    def test_keeps_to_the_vendors_limit(self, isvapp_button: Press) -> None:
        with Emulator(EmulatorConfig(requests_per_second=2)) as limited:
            assert isvapp_button(to=limited, extra={"requests_per_second": 2}) == (True, CONNECTED)

        assert [request.status for request in limited.requests] == [200] * 4


class TestCredentials:
    def test_a_wrong_secret(self, button: Press, emulator: Emulator) -> None:
        works, message = button(password="sentinel-of-a-wrong-secret")

        assert not works
        assert (
            "(401): invalid_client: The client id or the client secret is wrong. Check the connection's login"
            in message
        )
        assert emulator.request_counts().total() == 1

    def test_a_wrong_api_key(self, isvapp_button: Press) -> None:
        works, message = isvapp_button(login="", password="sentinel-of-a-wrong-key")

        assert not works
        assert message.startswith("ISVapp does not know this API key (401): The access token is not known. Check the")

    def test_an_api_key_without_the_permission(self, isvapp_button: Press, emulator: Emulator) -> None:
        works, message = isvapp_button(login=None, password=emulator.api_key_without_scope)

        assert not works
        assert "Create one with the permission scope 'ISVapp metrics retrieval'" in message

    def test_fields_that_contradict_each_other(self, isvapp_button: Press, emulator: Emulator) -> None:
        works, message = isvapp_button(extra={"authentication": "api_key"})

        assert (works, message.partition(":")[0]) == (False, "login")
        assert emulator.requests == []

    @pytest.mark.parametrize(
        ("scopes", "begins", "missing"),
        [
            (
                "identity exports",
                f"Connected to ISVapp as {COMPANY} with the scopes identity, exports. Without the scope ",
                "salesforce_accounts, tasks cannot list the Salesforce accounts (invalid_scope: ",
            ),
            (
                "identity",
                f"Connected to ISVapp as {COMPANY} with the scope identity. Without the scope exports, ",
                "tasks cannot create, list and download exports (invalid_scope: ",
            ),
            (
                "exports salesforce_accounts",
                "Connected to ISVapp with the scopes exports, salesforce_accounts. Without the scope identity, ",
                "tasks cannot show the account (invalid_scope: ",
            ),
        ],
    )
    def test_a_scope_that_the_client_lacks(self, scopes: str, begins: str, missing: str, isvapp_button: Press) -> None:
        with _emulator(client_scopes=scopes) as restricted:
            works, message = isvapp_button(to=restricted)

        assert not works
        assert message.startswith(begins)
        assert missing in message
        assert "Give it to the client under Setup > REST API" in message

    def test_a_client_without_any_scope(self, isvapp_button: Press) -> None:
        with _emulator(client_scopes="") as restricted:
            works, message = isvapp_button(to=restricted)

        assert not works
        assert "the token for scope 'identity' (400): invalid_scope" in message
        assert message.endswith("Give the client that scope in the vendor's settings.")

    def test_an_unknown_scope_of_productiv(self, productiv_button: Press) -> None:
        works, message = productiv_button(extra={"scope": "apps.write"})

        assert not works
        assert "the token for scope 'apps.write' (400): invalid_scope" in message

    def test_a_token_that_may_not_list_the_apps(self, productiv_button: Press, emulator: Emulator) -> None:
        emulator.inject(Fault(endpoint="productiv_apps", kind="status", status=403, message="No."))
        works, message = productiv_button()

        assert not works
        assert f"(403): No. Give the client the scope {SCOPE!r}" in message

    def test_a_token_that_is_refused_at_once(self, button: Press, emulator: Emulator) -> None:
        emulator.inject(Fault(endpoint="*", kind="token_expires", times=None))
        works, message = button()

        assert not works
        assert "issued a token and refused it at once (401): The access token is not known. " in message
        assert "the clocks agree" in message


class TestAddress:
    def test_a_host_that_does_not_exist(self, button: Press) -> None:
        works, message = button(host="http://isvapp.invalid")

        assert not works
        assert "http://isvapp.invalid:80" in message
        assert "no connection (the host name is unknown)" in message
        assert "Check the connection's host" in message

    def test_a_closed_port(self, button: Press) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        works, message = button(host=url)

        assert not works
        assert f"at {url} after 1 attempts; last error: no connection (connection refused)" in message
        assert "check the connection's host" in message

    def test_an_untrusted_certificate(self, button: Press, tmp_path: Path) -> None:
        with TlsServer(tmp_path, host="localhost") as server:
            works, message = button(host=f"https://localhost:{server.port}")

        assert not works
        assert "failed: self-signed certificate" in message

    def test_a_server_that_never_responds(self, button: Press, scripted: ScriptedServer) -> None:
        scripted.script("*", *[ScriptedResponse(fault="hang")] * 4)
        works, message = button(host=scripted.url, extra={"read_timeout": 0.2})

        assert not works
        assert "no response within 0.2 s" in message

    @pytest.mark.parametrize("status", [200, 404])
    def test_a_server_that_is_not_the_vendors(self, button: Press, scripted: ScriptedServer, status: int) -> None:
        page = ScriptedResponse(status, b"<!doctype html><p>sentinel", headers={"Content-Type": "text/html"})
        scripted.script("*", *[page] * 4)
        works, message = button(host=scripted.url)

        assert not works
        assert "a web page" in message
        assert "check the connection's host" in message.lower()

    def test_a_token_url_that_is_not_productivs(self, productiv_button: Press, scripted: ScriptedServer) -> None:
        scripted.script("*", ScriptedResponse(404, b"<p>sentinel"))
        works, message = productiv_button(extra={"auth_url": f"{scripted.url}/token"})

        assert not works
        assert message.endswith(f"{scripted.url} has no token endpoint: check the connection's extra auth_url.")

    def test_the_button_uses_short_timeouts(self, isvapp_button: Press, emulator: Emulator) -> None:
        emulator.inject(Fault(endpoint="token", kind="status", status=503, retry_after=0, times=None))

        assert not isvapp_button(extra={"attempts": 50})[0]
        assert emulator.request_counts() == {"token": 2}


class TestClock:
    @pytest.mark.parametrize(
        ("minutes", "words"), [(5, "300 s behind"), (-5, "300 s ahead of")], ids=["behind", "ahead"]
    )
    def test_a_clock_that_is_wrong(self, minutes: float, words: str, button: Press) -> None:
        theirs = ManualClock(datetime.now(UTC) + timedelta(minutes=minutes))
        with Emulator(EmulatorConfig(requests_per_second=None), clock=theirs) as elsewhere:
            works, message = button(to=elsewhere)

        assert not works
        assert message.startswith("Connected to ")
        number, _, rest = words.partition(" s ")
        assert any(f"clock is {int(number) + off} s {rest}" in message for off in (-2, -1, 0, 1, 2))
        assert "Set it (NTP)" in message

    def test_a_clock_that_is_a_little_off(self, button: Press) -> None:
        theirs = ManualClock(datetime.now(UTC) + timedelta(seconds=40))
        with Emulator(EmulatorConfig(requests_per_second=None), clock=theirs) as elsewhere:
            assert button(to=elsewhere)[0]

    def test_is_named_when_a_new_token_is_refused(self, button: Press) -> None:
        theirs = ManualClock(datetime.now(UTC) - timedelta(hours=3))
        with Emulator(EmulatorConfig(requests_per_second=None), clock=theirs) as elsewhere:
            elsewhere.inject(Fault(endpoint="*", kind="token_expires", times=None))
            works, message = button(to=elsewhere)

        assert not works
        assert "refused it at once" in message
        assert "clock is 3.0 h ahead of" in message


class TestLimit:
    def test_another_program_uses_up_the_limit(self, isvapp_button: Press, emulator: Emulator) -> None:
        emulator.inject(Fault(endpoint="token", kind="status", status=429, retry_after=0, times=None))
        works, message = isvapp_button()

        assert not works
        assert "429, too many requests" in message
        assert "Look for what uses the account as well and does not share this limit" in message

    def test_a_storage_that_does_not_respond(
        self, isvapp_button: Press, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("redis")
        monkeypatch.setattr("airflow_provider_isvapp.ratelimit.limiter.ACQUIRE_TIMEOUT", 0.1)
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        works, message = isvapp_button(extra={"rate_limit_storage": f"redis://user:sentinel@127.0.0.1:{port}/0"})

        assert not works
        assert message.startswith(f"The rate limiter's storage redis://127.0.0.1:{port}/0 does not respond")
        assert "rate_limit_storage" in message
        assert emulator.requests == []
