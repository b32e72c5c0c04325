# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What variables of the environment do to requests: proxies and certificate authorities, and the errors about them.

requests takes both from the environment of each process, so a worker, the triggerer and the API server can differ.
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
from urllib3.util import parse_url

from airflow_provider_isvapp.api.connection_fields import host_of, origin
from airflow_provider_isvapp.errors import InvalidConnection

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
        scheme, address = _parsed(chosen)
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


def _parsed(proxy: str) -> tuple[str, str]:
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
