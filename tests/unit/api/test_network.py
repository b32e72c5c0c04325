# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Proxies and certificate bundles from the environment, and the deadline of a response through a proxy."""

from __future__ import annotations

import importlib.util
import itertools
import os
import socket
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.api.settings import TransportSettings
from airflow_provider_isvapp.api.transport import Request, Transport
from airflow_provider_isvapp.errors import InvalidConnection, ProviderError, ServiceUnavailable
from tests.support.hostile.wire_server import Seen, Step, WireServer
from tests.support.raw_server import RawServer
from tests.unit.api.conftest import FakeTime, RecordingLimiter

HAS_SOCKS = importlib.util.find_spec("socks") is not None


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.endswith("_CA_BUNDLE"):
            monkeypatch.delenv(name)


@pytest.fixture
def proxy() -> Iterator[WireServer]:
    """A proxy that responds with the status in the requested host name."""

    def respond(seen: Seen) -> tuple[Step, ...]:
        status = seen.head.partition(b"status-")[2][:3].decode()
        return (f"HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\n\r\n".encode(),)

    with WireServer(respond) as server:
        yield server


def send(base_url: str, time: FakeTime, *, url_field: str = "host", **settings: Any) -> tuple[ProviderError, int]:
    """Return the error of a request, and the number of permits that it took."""
    limiter = RecordingLimiter()
    limits = {"attempts": 2, "connect_timeout": 5, **settings}
    transport = Transport(
        TransportSettings(vendor="ISVapp", base_url=base_url, **limits), limiter=limiter, clock=time, sleep=time.sleep
    )
    request = Request(method="GET", url=f"{base_url}/thing", label="GET /thing", endpoint="thing", url_field=url_field)
    with pytest.raises(ProviderError) as caught:
        transport.fetch(request)
    transport.close()
    assert "sentinel" not in "".join(traceback.format_exception(caught.value))
    return caught.value, limiter.permits


@pytest.mark.parametrize(
    ("scheme", "status", "tries", "advice"),
    [
        ("https", 407, 1, "It requires credentials: set {variable} to http://user:password@host:port"),
        ("http", 407, 1, "It requires credentials: set {variable} to http://user:password@host:port"),
        ("https", 403, 1, "Have the proxy allow status-403.test, or list that host in NO_PROXY."),
        ("https", 405, 1, "Have the proxy allow"),
        ("https", 429, 2, "ask the proxy's administrator, or correct or unset {variable}"),
        ("https", 502, 2, "ask the proxy's administrator, or correct or unset {variable}"),
    ],
)
def test_a_proxy_that_refuses_is_named_with_its_status_and_variable(
    proxy, time, monkeypatch, scheme, status, tries, advice
):
    variable = f"{scheme.upper()}_PROXY"
    monkeypatch.setenv(variable, f"http://user:sentinel@127.0.0.1:{proxy.port}")

    error, permits = send(f"{scheme}://status-{status}.test", time)

    assert type(error) is (InvalidConnection if tries == 1 else ServiceUnavailable)
    assert permits == tries
    assert f"he proxy 127.0.0.1:{proxy.port} (set by {variable})" in str(error)
    assert f"({status})" in str(error) or f"(status {status})" in str(error)
    assert advice.format(variable=variable) in str(error)


@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
def test_an_unreachable_proxy_is_named(time, monkeypatch, variable):
    monkeypatch.setenv(variable, "http://user:sentinel@127.0.0.1:9")

    error, permits = send("https://isvapp.test", time)

    assert permits == 2
    assert f"the proxy 127.0.0.1:9 (set by {variable}) did not connect (connection refused)" in str(error)
    assert "vendor's status" not in str(error)


def test_a_proxy_that_is_not_for_this_host_is_not_blamed(time, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    error, _ = send("http://127.0.0.1:9", time)

    assert "no connection (connection refused)" in str(error)
    assert "proxy" not in str(error)


@pytest.mark.parametrize(
    "url",
    ["htp://127.0.0.1:9", "http://127.0.0.1:port", "http:/127.0.0.1:9", "http://", "http://[::1", "127.0.0.1:port"],
)
def test_a_proxy_with_a_typo_is_named_by_its_variable(time, monkeypatch, url):
    monkeypatch.setenv("HTTPS_PROXY", url.replace("//", "//user:sentinel@"))

    error, _ = send("https://isvapp.test", time)

    assert type(error) is InvalidConnection
    assert str(error).startswith("HTTPS_PROXY does not hold a usable proxy URL. Set it to http://host:port")


class SocksServer(RawServer):
    """Accepts any SOCKS 5 request without credentials (RFC 1928), and responds in place of the host."""

    def _serve(self, connection: socket.socket) -> None:
        connection.recv(262)
        connection.sendall(b"\x05\x00")
        connection.recv(262)
        connection.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
        super()._serve(connection)


@pytest.mark.skipif(not HAS_SOCKS, reason="the package for SOCKS is not installed")
def test_a_response_has_a_deadline_through_a_socks_proxy(time, monkeypatch):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 150\r\n\r\n"
    with SocksServer(itertools.chain([head], itertools.repeat(b"x", 150)), pause=0.1) as server:
        monkeypatch.setenv("ALL_PROXY", server.url.replace("http:", "socks5h:"))
        error, permits = send("http://isvapp.test", time, attempts=1, read_timeout=1.0)

    assert (server.requests, permits) == (1, 1)
    assert "no whole response within 5 s" in str(error)


@pytest.mark.skipif(HAS_SOCKS, reason="the package for SOCKS is installed")
def test_a_socks_proxy_without_its_package_is_an_error(time, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5h://user:sentinel@127.0.0.1:9")

    error, _ = send("https://isvapp.test", time)

    assert type(error) is InvalidConnection
    assert "The proxy 127.0.0.1:9 (set by ALL_PROXY) speaks SOCKS" in str(error)
    assert "install 'requests[socks]'" in str(error)


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize("exists", [False, True])
def test_a_bundle_without_certificates_is_named(time, monkeypatch, tmp_path: Path, variable, exists):
    bundle = tmp_path / "authorities.pem"
    if exists:
        bundle.write_text("nothing")
    monkeypatch.setenv(variable, str(bundle))

    with WireServer(lambda _: ()) as server:
        error, _ = send(f"https://127.0.0.1:{server.port}", time)

    assert type(error) is InvalidConnection
    assert str(error).startswith(f"{variable} names '{bundle}', from which no certificates can be read. Correct")


@pytest.mark.parametrize("field", ["host", "extra auth_url"])
def test_a_host_that_does_not_resolve_names_the_field_first(time, field):
    error, permits = send("https://no-such-host.invalid", time, url_field=field)

    assert permits == 2
    step = f"no connection (the host name is unknown). Check the connection's {field}; if it is right, check the DNS"
    assert step in str(error)
