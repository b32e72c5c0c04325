# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Which URLs belong to a connection: a token goes to its origin alone."""

from __future__ import annotations

from urllib.parse import urlsplit

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

_DEFAULT_PORTS = {"http": 80, "https": 443}


def origin(url: str) -> str:
    """Scheme, host and port of a URL in one normal form, without path, query or credentials.

    The URL is read by the parser of the library that connects. Parsers disagree about what no vendor's URL has: user
    names, backslashes, white space and control characters.

    :return: for example ``https://api.isvapp.com:443``; the empty string for what is not a plain http(s) URL.
    """
    parts = _parsed(url)
    if parts is None or parts.scheme not in _DEFAULT_PORTS or not parts.host:
        return ""
    if "@" in urlsplit(url).netloc or "\\" in url or " " in url or not url.isprintable():
        return ""
    return f"{parts.scheme}://{parts.host}:{parts.port or _DEFAULT_PORTS[parts.scheme]}"


def host_of(url: str) -> str:
    """Name the host of a URL for a message, without anything that could be secret."""
    parts = _parsed(url)
    if parts is None:
        return "a URL that cannot be read"
    return parts.host or "a URL without a host"


def _parsed(url: str) -> Url | None:
    try:
        # requests takes the host from the standard library's parser, after urllib3's has put the URL in order.
        urlsplit(url)
        return parse_url(url)
    except (LocationParseError, ValueError):
        return None
