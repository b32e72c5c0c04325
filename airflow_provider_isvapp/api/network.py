# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The network below requests: origins of URLs, proxies, certificate authorities, and the deadline of a response.

requests takes proxies and certificates from the environment of each process, so a worker, the triggerer and the API
server can differ.
"""

from __future__ import annotations

import functools
import http.client
import importlib.util
import io
import math
import os
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
import requests.adapters
import requests.utils
from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from airflow_provider_isvapp.errors import InvalidConnection

_DEFAULT_PORTS = {"http": 80, "https": 443}


def origin(url: str) -> str:
    """Return scheme, host and port of a URL in one normal form, without path, query or credentials.

    The URL is parsed by the library that connects. A URL with a user name, backslash, white space or control character
    has no origin: parsers disagree about these, and no vendor's URL has them.

    :return: for example ``https://api.isvapp.com:443``; the empty string for anything but a plain http(s) URL.
    """
    parts = _parsed_url(url)
    if parts is None or parts.scheme not in _DEFAULT_PORTS or not parts.host:
        return ""
    if "@" in urlsplit(url).netloc or "\\" in url or " " in url or not url.isprintable():
        return ""
    return f"{parts.scheme}://{parts.host}:{parts.port or _DEFAULT_PORTS[parts.scheme]}"


def host_of(url: str) -> str:
    """Return the host of a URL for a message, without any part that could be secret."""
    parts = _parsed_url(url)
    if parts is None:
        return "a URL that cannot be read"
    return parts.host or "a URL without a host"


def _parsed_url(url: str) -> Url | None:
    try:
        # requests takes the host from the standard library's parser, after urllib3's has normalized the URL.
        urlsplit(url)
        return parse_url(url)
    except (LocationParseError, ValueError):
        return None


_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: (\d{3})", re.ASCII)
# A proxy, or the host behind it, may recover from these.
_TRANSIENT = (408, 425, 429)


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """The proxy that a request goes through.

    :param variable: the environment variable that sets it.
    :param scheme: empty, like ``host``, if the variable holds no proxy URL.
    :param host: host and port, without the credentials of the URL.
    """

    variable: str
    scheme: str
    host: str

    @classmethod
    def of(cls, url: str) -> Proxy | None:
        """Return the proxy for a URL, as requests chooses it; None without one."""
        chosen = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
        if not chosen:
            return None
        names = [f"{urlsplit(url).scheme}_proxy", "all_proxy"]
        variables = [name for wanted in names for name in os.environ if name.lower() == wanted]
        variable = next((name for name in variables if os.environ[name] == chosen), "the system's settings")
        scheme, host = _parsed_proxy(chosen)
        return cls(variable=variable, scheme=scheme, host=host)

    def __str__(self) -> str:
        return f"proxy {self.host} (set by {self.variable})"

    @property
    def advice(self) -> str:
        """The next step if the proxy does not recover."""
        return f"Try again later; if it lasts, ask the proxy's administrator, or correct or unset {self.variable}."

    def refusal(self, url: str, *, status: int) -> InvalidConnection:
        """Build the error for a request that the proxy itself refuses."""
        step = f"Have the proxy allow {host_of(url)}, or list that host in NO_PROXY."
        if status == 407:
            step = f"It requires credentials: set {self.variable} to http://user:password@host:port, percent-encoded."
        return InvalidConnection(f"The {self} refused a request to {origin(url)} ({status}). {step}")


def _parsed_proxy(proxy: str) -> tuple[str, str]:
    """Return scheme and host of a proxy; both empty if its URL cannot be used."""
    try:
        parts = parse_url(requests.utils.prepend_scheme_if_needed(proxy, "http"))  # type: ignore[no-untyped-call]
    except (LocationParseError, ValueError, TypeError):  # a user name without a host raises TypeError
        return "", ""
    if parts.scheme not in _SCHEMES or not parts.host:
        return "", ""
    return parts.scheme, parts.host if parts.port is None else f"{parts.host}:{parts.port}"


def tunnel_status(cause: BaseException) -> int | None:
    """Return the status with which a proxy refused a tunnel; None for any other error."""
    match = _TUNNEL_REFUSED.search(str(cause)) if isinstance(cause, OSError) else None
    return int(match[1]) if match else None


def is_final(status: int) -> bool:
    """Return whether a proxy would respond with the same status to the next attempt."""
    return 400 <= status < 500 and status not in _TRANSIENT


def check_proxy(url: str) -> None:
    """Check the proxy for a URL; requests would fail with an error that does not name the variable.

    :raises InvalidConnection: naming the variable.
    """
    proxy = Proxy.of(url)
    if proxy is not None and not proxy.host:
        raise InvalidConnection(
            f"{proxy.variable} does not hold a usable proxy URL. Set it to http://host:port, or unset it."
        )
    if proxy is not None and proxy.scheme.startswith("socks") and importlib.util.find_spec("socks") is None:
        raise InvalidConnection(
            f"The {proxy} speaks SOCKS, for which a package is missing: install 'requests[socks]' on every machine "
            "that runs Airflow, or set an http:// proxy."
        )


def bundle_failure() -> InvalidConnection | None:
    """Build the error for a certificate variable whose file or folder has no certificates; None if they are fine."""
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        path = os.environ.get(variable)
        if path and not _has_certificates(path):
            return InvalidConnection(
                f"{variable} names {path!r}, from which no certificates can be read. Correct the variable, or unset it."
            )
        if path:
            break
    return None


def _has_certificates(path: str) -> bool:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(**{"capath" if os.path.isdir(path) else "cafile": path})
    except (OSError, ValueError):
        return False
    return True


_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE")


def tls_failure(error: requests.exceptions.SSLError, *, url: str, url_field: str) -> InvalidConnection:
    """Build the error for a failed handshake, without the library's text, which quotes the URL."""
    cause = _ssl_error(error)
    if not isinstance(cause, ssl.SSLCertVerificationError) and (failure := bundle_failure()):
        return failure
    text = f"TLS with {origin(url)} failed"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return InvalidConnection(
            f"{text}: {cause.verify_message.rstrip('.')}. Check the connection's {url_field}; if it is right, make "
            "this machine trust the certificate authority: REQUESTS_CA_BUNDLE names another bundle."
        )
    reason = (cause.reason if cause is not None else None) or ""
    if reason in _NOT_TLS:
        return InvalidConnection(
            f"{text}: the server does not speak TLS. Check the connection's {url_field} and port; a URL without "
            "TLS begins with http://."
        )
    return InvalidConnection(
        f"{text} ({reason.replace('_', ' ').lower() or 'without a reason'}). Check the connection's {url_field} "
        "and port, and any proxy in between."
    )


def _ssl_error(error: BaseException) -> ssl.SSLError | None:
    """Find Python's own error inside those of requests and urllib3."""
    pending: list[object] = [error]
    while pending:
        seen = pending.pop()
        if isinstance(seen, ssl.SSLError):
            return seen
        if isinstance(seen, BaseException):
            pending += [getattr(seen, "reason", None), *seen.args]
    return None


class Deadline:
    """The time by which a response must have arrived.

    Socket timeouts, and so those of requests and urllib3, restart with each byte: a server that sends one byte per
    second, or ``100 Continue`` again and again, can hold a request forever. No read of a response waits past its
    deadline.

    :param seconds: the seconds from now.
    """

    def __init__(self, seconds: float) -> None:
        self.extend(seconds)

    def extend(self, seconds: float) -> None:
        """Move the deadline to this many seconds from now; ``math.inf`` removes it."""
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Return the seconds until the deadline, at least zero."""
        return max(self._end - time.monotonic(), 0.0)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Apply to all responses that begin within the block, until they end."""
        token = _applied.set(self)
        try:
            yield
        finally:
            _applied.reset(token)


_applied: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


class _Reader(io.RawIOBase):
    """Reads a socket with its own timeout, but never past the deadline."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._socket = connection
        self._raw = connection.makefile("rb", buffering=0)
        self._timeout = connection.gettimeout()
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        remaining = self._deadline.remaining()
        if remaining <= 0:
            raise TimeoutError("the deadline of the response has passed")
        self._socket.settimeout(min(math.inf if self._timeout is None else self._timeout, remaining))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        deadline = _applied.get()
        if deadline is not None:
            self.fp.close()
            self.fp = io.BufferedReader(_Reader(sock, deadline))


class DeadlineAdapter(requests.adapters.HTTPAdapter):
    """Makes :meth:`Deadline.applied` work for the responses to requests, also through a proxy of any kind."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create the pools."""
        super().init_poolmanager(*args, **kwargs)
        _use_deadlines(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Return the pools of a proxy; one for SOCKS has its own classes of connections."""
        manager = super().proxy_manager_for(*args, **kwargs)
        _use_deadlines(manager)
        return manager


def _use_deadlines(manager: Any) -> None:
    pools = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: _with_deadlines(pool) for scheme, pool in pools.items()}


@functools.cache
def _with_deadlines(pool: Any) -> Any:
    if issubclass(pool.ConnectionCls.response_class, _Response):
        return pool
    # http.client prints headers, tokens included, if debuglevel is set for all connections.
    attributes = {"response_class": _Response, "debuglevel": 0}
    connection = type(pool.ConnectionCls.__name__, (pool.ConnectionCls,), attributes)
    return type(pool.__name__, (pool,), {"ConnectionCls": connection})
