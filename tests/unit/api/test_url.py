# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Where credentials go: the origin of a URL is compared with the host that a socket connects to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_provider_isvapp.api.auth import ApiKey
from airflow_provider_isvapp.api.network import host_of, origin
from airflow_provider_isvapp.api.settings import TransportSettings
from airflow_provider_isvapp.api.transport import Request, Transport
from airflow_provider_isvapp.errors import ForeignURL, ProviderError
from tests.support.scripted_server import ScriptedResponse, ScriptedServer
from tests.unit.api.conftest import FakeTime, RecordingLimiter

KEY = "sentinel-api-key"

_watchers: list[list[object]] = []


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event == "socket.connect":
        for seen in _watchers:
            seen.append(arguments[1])


sys.addaudithook(_note)


@contextmanager
def opened_sockets() -> Iterator[list[object]]:
    """Collect the hosts that this process connects to, as the interpreter's audit hook reports them."""
    seen: list[object] = []
    _watchers.append(seen)
    try:
        yield seen
    finally:
        _watchers.remove(seen)


class TwoServers:
    """The vendor's server, and one that no client may connect to; both are on this machine, under several names."""

    def __init__(self, own: ScriptedServer, other: ScriptedServer) -> None:
        self.own, self.other = own, other
        limit = TransportSettings(vendor="ISVapp", base_url=own.url, connect_timeout=2, read_timeout=2, attempts=1)
        clock = FakeTime()
        self.transport = Transport(limit, limiter=RecordingLimiter(), clock=clock, sleep=clock.sleep)

    def send(self, url: str) -> ProviderError | None:
        request = Request(method="GET", url=url, label="the download", endpoint="download", scope="exports")
        try:
            self.transport.fetch(request, ApiKey(KEY))
        except ProviderError as error:
            return error
        return None


@pytest.fixture(scope="module")
def servers() -> Iterator[TwoServers]:
    with ScriptedServer() as own, ScriptedServer() as other:
        for server in (own, other):
            server.default = ScriptedResponse(body=b"ok")
        both = TwoServers(own, other)
        yield both
        both.transport.close()


# Characters that URL parsers disagree about, in any order around the hosts and ports of both servers.
_HOSTS = (
    "127.0.0.1",
    "localhost",
    "127.0.0.2",
    "[::1]",
    "0.0.0.0",
    "2130706433",
    "0x7f.1",
    "127.1",
    "\uff11\uff12\uff17.0.0.1",
)
_GLUE = (
    "@",
    "\\",
    "/",
    "//",
    ":",
    "#",
    "?",
    "%40",
    "%2f",
    "%5c",
    ";",
    "&",
    "\t",
    "\n",
    "\r",
    "\x00",
    " ",
    "\u2044",
    ".",
)
_SCHEMES = ("http://", "HTTP://", "http:", "http:\\\\", "http:/\\", "https://", "//", " http://", "ftp://", "")


@st.composite
def urls(draw: st.DrawFn) -> str:
    """Build URLs in which ``OWN`` and ``OTHER`` stand for the servers' ports."""
    pieces = st.sampled_from((*_HOSTS, *_GLUE, "OWN", "OTHER", "127.0.0.1:OWN", "127.0.0.1:OTHER", "user", "d"))
    return draw(st.sampled_from(_SCHEMES)) + "".join(draw(st.lists(pieces, min_size=1, max_size=7)))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(url=urls())
@example(url="http://127.0.0.1:OTHER\\@127.0.0.1:OWN/d")
@example(url="http://127.0.0.1:OWN\\@127.0.0.1:OTHER/d")
@example(url="http://127.0.0.1:OWN@127.0.0.1:OTHER/d")
@example(url="http://127.0.0.1:OWN#@127.0.0.1:OTHER/d")
@example(url="http://127.0.0.1:OTHER\t\\@127.0.0.1:OWN/d")
@example(url="http://127.0.0.1:OWN/d")
def test_a_token_is_only_sent_to_the_origin_of_the_connection(servers: TwoServers, url: str) -> None:
    own, other = (server.url.rpartition(":")[2] for server in (servers.own, servers.other))
    sent = len(servers.own.seen)
    servers.transport.close()  # so that each request opens a socket

    with opened_sockets() as opened:
        error = servers.send(url.replace("OWN", own).replace("OTHER", other))

    assert set(opened) <= {("127.0.0.1", int(own))}
    assert servers.other.seen == []
    if error is None:
        assert len(servers.own.seen) == sent + 1
    else:
        assert isinstance(error, ForeignURL)
        assert opened == []


@pytest.mark.parametrize(
    "url",
    [
        "http://user@127.0.0.1:OWN/d",
        "http://user:pass@127.0.0.1:OWN/d",
        "http://@127.0.0.1:OWN/d",
        "http://127.0.0.1:OWN\\d",
        "http://127.0.0.1:OWN/d\\e",
        "http://127.0.0.1:OWN/d e",
        "http://127.0.0.1:OWN/d\n",
        "http://127.0.0.1:OWN/\u202ed",
        "https://127.0.0.1:OWN/d",
        "http://localhost:OWN/d",
        "http://127.0.0.1.:OWN/d",
        "http://[::1",
        "/d",
        "",
    ],
)
def test_a_url_with_characters_that_no_vendor_uses_is_refused(servers: TwoServers, url: str) -> None:
    with opened_sockets() as opened:
        error = servers.send(url.replace("OWN", servers.own.url.rpartition(":")[2]))

    assert isinstance(error, ForeignURL)
    assert "nothing was sent" in str(error)
    assert opened == []


def test_a_usual_url_is_requested(servers: TwoServers) -> None:
    url = f"{servers.own.url}/api/v1/exports/e-1/download/To_ken~%2F?signature=a%3D&x=1+2"
    sent = len(servers.own.seen)

    assert servers.send(url) is None
    assert servers.own.seen[sent].path == "/api/v1/exports/e-1/download/To_ken~%2F"
    assert servers.own.seen[sent].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://API.isvapp.com/x?y", "https://api.isvapp.com:443"),
        ("http://127.0.0.1:8099", "http://127.0.0.1:8099"),
        ("http://[::1]:80/", "http://[::1]:80"),
        ("ftp://api.isvapp.com", ""),
        ("https://", ""),
        ("https://api.isvapp.com:99999", ""),
    ],
)
def test_an_origin(url: str, expected: str) -> None:
    assert origin(url) == expected


@given(st.text())
def test_any_text_has_an_origin_and_a_host_to_name(text: str) -> None:
    assert isinstance(origin(text), str)
    assert host_of(text)
