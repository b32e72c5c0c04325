# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Where a request goes: the origin of a URL, proxies, certificate authorities, and the errors about them.

requests takes proxies and certificates from the environment of each process, so a worker, the triggerer and the API
server can differ.
"""

from __future__ import annotations

import importlib.util
import os
import re
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests
import requests.utils
from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from airflow_provider_isvapp.errors import InvalidConnection

_DEFAULT_PORTS = {"http": 80, "https": 443}


def origin(url: str) -> str:
    """Scheme, host and port of a URL in one normal form, without path, query or credentials.

    The URL is read by the parser of the library that connects. Parsers disagree about what no vendor's URL has: user
    names, backslashes, white space and control characters.

    :return: for example ``https://api.isvapp.com:443``; the empty string for what is not a plain http(s) URL.
    """
    parts = _parsed_url(url)
    if parts is None or parts.scheme not in _DEFAULT_PORTS or not parts.host:
        return ""
    if "@" in urlsplit(url).netloc or "\\" in url or " " in url or not url.isprintable():
        return ""
    return f"{parts.scheme}://{parts.host}:{parts.port or _DEFAULT_PORTS[parts.scheme]}"


def host_of(url: str) -> str:
    """Name the host of a URL for a message, without anything that could be secret."""
    parts = _parsed_url(url)
    if parts is None:
        return "a URL that cannot be read"
    return parts.host or "a URL without a host"


def _parsed_url(url: str) -> Url | None:
    try:
        # requests takes the host from the standard library's parser, after urllib3's has put the URL in order.
        urlsplit(url)
        return parse_url(url)
    except (LocationParseError, ValueError):
        return None


_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: (\d{3})", re.ASCII)
# What a proxy or the host behind it may recover from by itself.
_PASSING = (408, 425, 429)


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """The proxy that a request goes through.

    :param variable: what set it.
    :param scheme: empty, like ``address``, where the variable holds no URL of a proxy.
    :param address: host and port, without the credentials of the URL.
    """

    variable: str
    scheme: str
    address: str

    @classmethod
    def of(cls, url: str) -> Proxy | None:
        """Find the proxy for a URL, as requests does; None if there is none."""
        chosen = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
        if not chosen:
            return None
        names = [f"{urlsplit(url).scheme}_proxy", "all_proxy"]
        variables = [name for wanted in names for name in os.environ if name.lower() == wanted]
        variable = next((name for name in variables if os.environ[name] == chosen), "the system's settings")
        scheme, address = _parsed_proxy(chosen)
        return cls(variable=variable, scheme=scheme, address=address)

    def __str__(self) -> str:
        return f"proxy {self.address} (set by {self.variable})"

    @property
    def advice(self) -> str:
        """What to do if it does not recover."""
        return f"Try again later; if it lasts, ask whoever runs the proxy, or correct or unset {self.variable}."

    def refusal(self, url: str, *, status: int) -> InvalidConnection:
        """Build the error for a request that the proxy itself refuses."""
        step = f"Have the proxy allow {host_of(url)}, or list that host in NO_PROXY."
        if status == 407:
            step = f"It wants credentials: set {self.variable} to http://user:password@host:port, percent-encoded."
        return InvalidConnection(f"The {self} refused a request to {origin(url)} ({status}). {step}")


def _parsed_proxy(proxy: str) -> tuple[str, str]:
    """Return scheme and address of a proxy; empty ones where they cannot be used."""
    try:
        parts = parse_url(requests.utils.prepend_scheme_if_needed(proxy, "http"))  # type: ignore[no-untyped-call]
    except (LocationParseError, ValueError, TypeError):  # a user without a host is a TypeError
        return "", ""
    if parts.scheme not in _SCHEMES or not parts.host:
        return "", ""
    return parts.scheme, parts.host if parts.port is None else f"{parts.host}:{parts.port}"


def tunnel_status(cause: BaseException) -> int | None:
    """Find the status with which a proxy refused to connect to the host; None if it is another error."""
    match = _TUNNEL_REFUSED.search(str(cause)) if isinstance(cause, OSError) else None
    return int(match[1]) if match else None


def is_final(status: int) -> bool:
    """Say whether a proxy's status will be the same at the next try."""
    return 400 <= status < 500 and status not in _PASSING


def check_proxy(url: str) -> None:
    """Check the proxy for a URL, if there is one; requests would fail with errors that name no variable.

    :raises InvalidConnection: naming the variable.
    """
    proxy = Proxy.of(url)
    if proxy is not None and not proxy.address:
        raise InvalidConnection(
            f"{proxy.variable} holds no URL of a proxy that can be used. Set it to http://host:port, or unset it."
        )
    if proxy is not None and proxy.scheme.startswith("socks") and importlib.util.find_spec("socks") is None:
        raise InvalidConnection(
            f"The {proxy} speaks SOCKS, for which a package is missing: install 'requests[socks]' wherever Airflow "
            "runs, or set an http:// proxy."
        )


def bundle_failure() -> InvalidConnection | None:
    """Build the error for a variable that names no certificates; None if none does."""
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
    """Build the error for a failed handshake; the library's own text is not repeated, as it quotes the URL."""
    cause = _ssl_error(error)
    if not isinstance(cause, ssl.SSLCertVerificationError) and (failure := bundle_failure()):
        return failure
    text = f"TLS with {origin(url)} failed"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return InvalidConnection(
            f"{text}: {cause.verify_message.rstrip('.')}. Check the connection's {url_field}; if it is right, let this "
            "machine trust the certificate authority (REQUESTS_CA_BUNDLE names another bundle)."
        )
    reason = (cause.reason if cause is not None else None) or ""
    if reason in _NOT_TLS:
        return InvalidConnection(
            f"{text}: the other side does not speak TLS. Check the connection's {url_field} and port; a URL without "
            "TLS begins with http://."
        )
    return InvalidConnection(
        f"{text} ({reason.replace('_', ' ').lower() or 'without a reason'}). Check the connection's {url_field} "
        "and port, and any proxy in between."
    )


def _ssl_error(error: BaseException) -> ssl.SSLError | None:
    """Find Python's own error below those of requests and urllib3."""
    waiting: list[object] = [error]
    while waiting:
        seen = waiting.pop()
        if isinstance(seen, ssl.SSLError):
            return seen
        if isinstance(seen, BaseException):
            waiting += [getattr(seen, "reason", None), *seen.args]
    return None
