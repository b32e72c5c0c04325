# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Any response ends in bounded time and memory, with an error of this package."""

from __future__ import annotations

import gzip
import itertools
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import pytest

from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.api.isvapp.models import ExportRequest
from airflow_provider_isvapp.api.settings import IsvappSettings, ProductivSettings
from airflow_provider_isvapp.api.transport import LARGEST_BODY
from airflow_provider_isvapp.errors import (
    AuthenticationRefused,
    ContractBroken,
    ForeignURL,
    InvalidConnection,
    NotFound,
    OutcomeUnknown,
    PermissionRefused,
    ProviderError,
    RequestRefused,
    ServiceUnavailable,
    UnexpectedResponse,
)
from tests.support.raw_server import RawServer
from tests.support.scripted_server import ScriptedResponse, data
from tests.support.tls_server import TlsServer
from tests.unit.api.conftest import FakeTime, RecordingLimiter

KEY = "sentinel-api-key/&"
READ_TIMEOUT = 0.3
LONGEST = 15.0


@pytest.fixture
def raw() -> Iterator[RawServer]:
    with RawServer() as server:
        yield server


@pytest.fixture
def connect(limiter: RecordingLimiter, time: FakeTime) -> Callable[..., IsvappClient]:
    def build(url: str, *, read_timeout: float = READ_TIMEOUT) -> IsvappClient:
        extra = {"attempts": 2, "connect_timeout": 1, "read_timeout": read_timeout}
        connection = IsvappSettings.from_connection(login=None, password=KEY, host=url, extra=extra)
        return IsvappClient(connection, limiter=limiter, clock=time, sleep=time.sleep)

    return build


def head(status: int, *lines: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} X", *lines, "", ""]).encode("latin-1")


CUT_BODIES = {
    "truncated": [b"Content-Length: 100\r\n\r\n", b'{"error": "may'],
    "empty and promised": [b"Content-Length: 100\r\n\r\n"],
    "a bad chunk": [b"Transfer-Encoding: chunked\r\n\r\n", b"ZZ\r\nabc"],
    "a chunk that ends early": [b"Transfer-Encoding: chunked\r\n\r\n", b"ff\r\nabc"],
    "not the gzip that it says": [b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\n", b"plain"],
    "half a gzip": [b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b'{"error": "x"}' * 99)[:20]],
    "an unknown encoding": [b"Content-Encoding: gzip, gzip\r\nContent-Length: 5\r\n\r\n", b"plain"],
    "not the deflate that it says": [b"Content-Encoding: deflate\r\nContent-Length: 5\r\n\r\n", b"plain"],
    "invalid text": [b"Content-Length: 4\r\n\r\n", b"\xff\xfe\x00\x01"],
}
ERRORS: dict[int, type[ProviderError]] = {
    500: ServiceUnavailable,
    502: ServiceUnavailable,
    503: ServiceUnavailable,
    429: ServiceUnavailable,
    401: AuthenticationRefused,
    403: PermissionRefused,
    404: NotFound,
    400: RequestRefused,
    302: ForeignURL,
    199 + 400: ServiceUnavailable,
}


@pytest.mark.parametrize("body", CUT_BODIES)
@pytest.mark.parametrize("status", ERRORS)
def test_an_error_with_an_unreadable_body_is_decided_by_its_status(raw, connect, status, body):
    first, *rest = CUT_BODIES[body]
    raw.pieces = [f"HTTP/1.1 {status} X\r\nConnection: close\r\n".encode() + first, *rest]

    with connect(raw.url) as client, pytest.raises(ERRORS[status]) as caught:
        client.list_exports()

    assert type(caught.value) is ERRORS[status]
    assert caught.value.__context__ is None
    assert raw.requests == (2 if status >= 500 or status == 429 else 1)


@pytest.mark.parametrize("body", ["truncated", "empty and promised", "a chunk that ends early", "half a gzip"])
@pytest.mark.parametrize("status", [401, 404, 429, 503])
def test_an_error_with_a_stalled_body_is_decided_by_its_status(raw, connect, status, body):
    first, *rest = CUT_BODIES[body]
    raw.pieces, raw.stays = [f"HTTP/1.1 {status} X\r\n".encode() + first, *rest], True

    with connect(raw.url) as client, in_time(), pytest.raises(ERRORS[status]):
        client.list_exports()


@pytest.mark.parametrize("body", sorted(set(CUT_BODIES) - {"invalid text"}))
def test_a_success_whose_body_cannot_be_read_is_requested_again(raw, connect, body):
    first, *rest = CUT_BODIES[body]
    raw.pieces = [b"HTTP/1.1 200 X\r\nConnection: close\r\n" + first, *rest]

    with connect(raw.url) as client, pytest.raises((ServiceUnavailable, UnexpectedResponse)) as caught:
        client.list_exports()

    assert caught.value.__context__ is None
    # If a body is shorter than announced, what arrives is read.
    assert raw.requests == (2 if isinstance(caught.value, ServiceUnavailable) else 1)


@pytest.mark.parametrize("status", [200, 500, 503])
@pytest.mark.parametrize("body", ["truncated", "a bad chunk", "not the gzip that it says"])
def test_a_create_without_a_readable_response_is_not_sent_again(raw, connect, status, body):
    first, *rest = CUT_BODIES[body]
    raw.pieces = [f"HTTP/1.1 {status} X\r\nConnection: close\r\n".encode() + first, *rest]

    with connect(raw.url) as client, pytest.raises(OutcomeUnknown):
        client.create_export(ExportRequest.checked(timeframe="2024-02", taxonomy_ids=["t1"]))
    assert raw.requests == 1


@contextmanager
def in_time() -> Iterator[None]:
    """Expect an end within a time for slow machines; without a deadline, there would be none."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < LONGEST


class HeldPermits(RecordingLimiter):
    """Records how long permits were held."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[float] = []

    @contextmanager
    def acquire(self) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.held.append(time.monotonic() - started)


SLOW_HEADS: dict[str, Callable[[], Iterator[bytes]]] = {
    "a status line byte by byte": lambda: itertools.chain([b"HTTP/1.1 200 "], itertools.repeat(b"x")),
    "a header byte by byte": lambda: itertools.chain([b"HTTP/1.1 200 OK\r\nX-A: "], itertools.repeat(b"x")),
    "headers line by line": lambda: itertools.chain([b"HTTP/1.1 200 OK\r\n"], itertools.repeat(b"X: y\r\n")),
    "100 Continue": lambda: itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.parametrize("head", SLOW_HEADS)
def test_headers_without_an_end_are_abandoned_and_free_the_permit(connect, head):
    limiter = HeldPermits()
    with RawServer(_Endless(SLOW_HEADS[head]), pause=READ_TIMEOUT / 6) as server:
        extra = {"attempts": 1, "connect_timeout": READ_TIMEOUT, "read_timeout": READ_TIMEOUT}
        connection = IsvappSettings.from_connection(login=None, password=KEY, host=server.url, extra=extra)
        broken = pytest.raises(ServiceUnavailable, match=r"no whole response within|the connection broke")
        with IsvappClient(connection, limiter=limiter) as client, in_time(), broken:
            client.list_exports()

    assert max(limiter.held) < LONGEST


@pytest.mark.parametrize("status", [200, 503, 404])
@pytest.mark.parametrize("framing", ["Content-Length: 999999", "Transfer-Encoding: chunked"])
def test_a_body_that_trickles_is_aborted(connect, status, framing):
    start = f"HTTP/1.1 {status} X\r\n{framing}\r\n\r\n".encode()
    piece = b"1\r\n \r\n" if "chunked" in framing else b" "
    endless = _Endless(lambda: itertools.chain([start], itertools.repeat(piece)))
    aborted = pytest.raises((ServiceUnavailable, NotFound))
    server = RawServer(endless, pause=READ_TIMEOUT / 6)
    with server, connect(server.url) as client, in_time(), aborted as caught:
        client.list_exports()
    if status == 200:
        assert f"no whole response within {5 * READ_TIMEOUT:g} s" in str(caught.value)


class _Endless:
    """Creates new pieces for each connection."""

    def __init__(self, make: Callable[[], Iterator[bytes]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[bytes]:
        return self._make()


@cache
def bomb(size: int) -> bytes:
    """Compress a JSON string of this length without creating it in memory."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b"x" * (1 << 20)
    packed = [packer.compress(b'{"error": "')] + [packer.compress(block) for _ in range(size >> 20)]
    return b"".join([*packed, packer.compress(b'"}'), packer.flush()])


@pytest.mark.parametrize(
    ("status", "error", "most"),
    [(200, UnexpectedResponse, 2.5 * LARGEST_BODY), (503, ServiceUnavailable, 8 << 20), (302, ForeignURL, 8 << 20)],
)
def test_a_small_body_that_becomes_a_large_one_stops_early(raw, connect, status, error, most):
    packed = bomb(1 << 30)
    raw.pieces = [head(status, "Location: /", "Content-Encoding: gzip", f"Content-Length: {len(packed)}"), packed]

    with connect(raw.url, read_timeout=10.0) as client:
        tracemalloc.start()
        try:
            with pytest.raises(error):
                client.list_exports()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak < most


@pytest.mark.parametrize("encoding", ["gzip, gzip", "br", "zstd", "identity, gzip"])
def test_an_encoding_that_was_not_requested_is_not_decoded(raw, connect, encoding):
    packed = gzip.compress(gzip.compress(b'{"success": true, "data": []}'))
    raw.pieces = [head(200, f"Content-Encoding: {encoding}", f"Content-Length: {len(packed)}"), packed]

    with connect(raw.url) as client, pytest.raises(ServiceUnavailable, match="the connection broke"):
        client.list_exports()


def deflated(body: bytes, window: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, window)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("gzip", lambda body: gzip.compress(body[:7]) + gzip.compress(body[7:])),
        ("deflate", zlib.compress),
        ("deflate", lambda body: deflated(body, -15)),
    ],
    ids=["gzip", "x-gzip", "two members", "zlib format", "without a header"],
)
@pytest.mark.parametrize("padding", [0, 65_536 * 3 - 40, 300_000])
def test_an_encoding_that_was_requested_is_decoded(raw, connect, encoding, pack, padding):
    packed = pack(b'{"success": true, "data": []' + b" " * padding + b"}")
    raw.pieces = [head(200, f"Content-Encoding: {encoding}", f"Content-Length: {len(packed)}"), packed]

    with connect(raw.url) as client:
        assert client.list_exports() == []


@pytest.mark.parametrize("missing", [1, 8, 12])
def test_a_truncated_compressed_body_is_an_error(raw, connect, missing):
    packed = gzip.compress(b'{"success": true, "data": []}')[:-missing]
    raw.pieces = [head(200, "Content-Encoding: gzip", f"Content-Length: {len(packed)}"), packed]

    with connect(raw.url) as client, pytest.raises(ServiceUnavailable):
        client.list_exports()


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize("bundle", ["missing.pem", "garbage.pem"])
def test_a_bundle_of_certificates_that_cannot_be_read_names_the_variable(
    connect, monkeypatch, tmp_path, variable, bundle
):
    (tmp_path / "garbage.pem").write_text("not a certificate")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path / bundle))

    named = pytest.raises(InvalidConnection, match=f"^{variable} names '.*{bundle}', from which no certificates")
    with TlsServer(tmp_path, host="localhost") as server, connect(f"https://localhost:{server.port}") as client, named:
        client.list_exports()


@pytest.mark.parametrize("proxy", ["http://[", "socks5h://127.0.0.1:1", "foo://bar", "http://", "http://\x00"])
def test_a_proxy_that_cannot_be_used_is_an_error_of_ours(connect, monkeypatch, proxy):
    for variable in ("HTTPS_PROXY", "https_proxy"):
        if "\x00" not in proxy:
            monkeypatch.setenv(variable, proxy)
    with connect("https://isvapp.test") as client, pytest.raises(ProviderError):
        client.list_exports()


@pytest.mark.parametrize("host", ["a" * 70 + ".test", "xn--a.test", "..", "\u2024.test", "[fe80::1%25x]", "1e3", "%00"])
def test_a_host_that_cannot_be_one_is_an_error_of_ours(connect, host):
    with pytest.raises(ProviderError), connect(f"http://{host}:1") as client:
        client.list_exports()


@pytest.mark.parametrize("field", ["an unlisted field", "status", "error_message", "type", "id", "url"])
def test_the_key_is_in_nothing_that_is_made_of_a_record(server, connect, field):
    for text in (KEY, "sentinel-api-key%2F%26", "x" * 490 + KEY):
        record = {"id": "e1", "status": "COMPLETED", field: text}
        server.script("/api/v1/exports", data([record]))
        with connect(server.url) as client:
            try:
                shown = str(client.list_exports()[0].details())
            except ContractBroken as error:
                shown = str(error)
        assert "sentinel" not in shown


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 500, 502, 503, 302])
def test_the_key_is_in_no_message_and_no_log(server, connect, status, caplog):
    caplog.set_level("DEBUG")
    refusal = b'{"success": false, "error": "%s sentinel-api-key\\/\\u0026 sentinel-api-key%%2f%%26"}' % KEY.encode()
    headers = {"Location": f"http://{KEY.partition('/')[0]}.test/{KEY}"}
    server.script("*", *[ScriptedResponse(status, refusal, headers)] * 2)

    with connect(server.url) as client, pytest.raises(ProviderError) as caught:
        client.list_exports()

    assert "sentinel-api-key/" not in str(caught.value)
    assert "sentinel" not in repr(getattr(caught.value, "vendor_message", ""))
    assert "sentinel" not in caplog.text or status == 302
    if status != 302:
        assert "*** *** ***" in str(caught.value)


@pytest.mark.parametrize("status", [404, 410, 500, 503])
def test_a_download_url_that_is_echoed_is_not_shown(server, connect, status, caplog):
    caplog.set_level("DEBUG")
    url = f"{server.url}/files/sentinel-path?sig=sentinel%2Fquery"
    server.script("/api/v1/exports/e1", *[data({"id": "e1", "status": "COMPLETED", "download_url": url})] * 2)
    for refusal in (f"no {url}", "no /files/sentinel-path", "no sentinel-path", "bad sig=sentinel%2Fquery"):
        server.script("/files/sentinel-path", *[ScriptedResponse(status, refusal.encode())] * 2)

    with connect(server.url) as client, pytest.raises(ProviderError) as caught:
        client.open_download("e1")

    assert "sentinel-path" not in str(caught.value) + caplog.text
    assert "sentinel%2Fquery" not in str(caught.value) + caplog.text


def test_settings_do_not_show_secrets():
    extra = {"rate_limit_storage": "redis://:sentinel@h/0"}
    one = IsvappSettings.from_connection(login="c", password="sentinel-secret", extra=extra)
    other = ProductivSettings.from_connection(login="c", password="sentinel-secret")

    assert "sentinel" not in repr(one) + repr(other)
