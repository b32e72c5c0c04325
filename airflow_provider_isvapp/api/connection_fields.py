# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What an Airflow connection says of a vendor: its fields, checked with errors that name them, and its origin.

Credentials go to a connection's own origin alone.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar
from urllib.parse import urlsplit

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from airflow_provider_isvapp.errors import AuthenticationRefused, InvalidConnection, PermissionRefused

Choice = TypeVar("Choice", bound=StrEnum)

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, kw_only=True)
class TransportSettings:
    """What a connection says about how to talk to a vendor.

    :param vendor: the vendor's name, for messages.
    :param base_url: URL without a trailing slash; the only origin that ever sees a token.
    :param connect_timeout: seconds until a connection is established.
    :param read_timeout: seconds until the headers of a response are there, and between two bytes of its body.
    :param attempts: the maximum number of attempts per request.
    :param conn_id: what errors call the connection; None if it has no id.
    """

    vendor: str
    base_url: str
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    attempts: int = 5
    conn_id: str | None = None


@contextmanager
def naming_connection(conn_id: str | None) -> Iterator[None]:
    """Let the errors that a connection causes begin with its id."""
    try:
        yield
    except (InvalidConnection, AuthenticationRefused, PermissionRefused) as error:
        prefix = f"Connection {conn_id!r}"
        if conn_id is not None and not str(error).startswith(prefix):
            error.args = (f"{prefix}: {error}",)
        raise


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


def read_base_url(*, host: str | None, port: int | None, schema: str | None, default: str) -> str:
    """Make one URL of the fields host, port and schema.

    :param host: a host name, or a full URL with scheme and, if need be, port and path.
    :param default: used where the host is empty.
    :return: the URL without a trailing slash.
    """
    given = (host or "").strip() or default
    scheme = (schema or "").strip().strip("/")
    if "/" in scheme:
        # Airflow puts the path of a connection's URI there: isvapp://login:password@host/api/v1.
        given, scheme = (given if "://" in given else f"{given}/{scheme}"), ""
    if "://" not in given:
        given = f"{scheme.lower() or 'https'}://{given}"
    return _checked_url(given, field="host", port=port)


def read_url(value: str, *, field: str) -> str:
    """Check a full URL that has a field of its own."""
    if "://" not in value:
        raise InvalidConnection(f"{field}: {value!r} is not a full URL; it needs a scheme, as in https://host/path.")
    return _checked_url(value, field=field, port=None)


def _checked_url(given: str, *, field: str, port: int | None) -> str:
    try:
        parts = urlsplit(given)
        own_port = parts.port
    except ValueError:
        raise InvalidConnection(
            f"{field}: not a URL that can be read; use https://host or https://host:port."
        ) from None
    if parts.username or parts.password:
        raise InvalidConnection(f"{field}: credentials do not belong in a URL; use login and password.")
    if parts.scheme not in ("http", "https"):
        raise InvalidConnection(f"{field}: the scheme must be http or https, not {parts.scheme!r}.")
    if not parts.hostname or any(letter.isspace() for letter in parts.netloc):
        raise InvalidConnection(f"{field}: {given!r} names no host; use https://host or https://host:port.")
    if not origin(given):
        raise InvalidConnection(f"{field}: not a URL that can be read; use https://host or https://host:port.")
    if parts.query or parts.fragment:
        raise InvalidConnection(f"{field}: the URL takes no '?' or '#'.")
    if own_port and port and own_port != port:
        raise InvalidConnection(f"port: {port} contradicts the port {own_port} in {field}; give it once.")
    netloc = parts.netloc if own_port or not port else f"{parts.netloc.rstrip(':')}:{port}"
    return f"{parts.scheme}://{netloc}{parts.path}".rstrip("/")


def secret(value: str | None, *, field: str, meaning: str) -> str:
    """Take a credential, which must be there and be sendable in a header.

    :param meaning: what belongs into the field, for the message; the value is never shown.
    """
    text = (value or "").strip()
    if not text:
        raise InvalidConnection(f"{field}: empty; it takes {meaning}.")
    if not text.isascii() or not text.isprintable():
        raise InvalidConnection(
            f"{field}: contains a character that cannot be sent (a line break, perhaps from copying?)."
        )
    return text


class Extra:
    """The connection's extra: known fields only, empty ones as if absent.

    Airflow 3's form stores fields that were left empty as JSON null.

    :param known: the names that may occur; another one is an error, since it would be a setting without effect.
    """

    def __init__(self, values: Mapping[str, object], *, known: Collection[str]) -> None:
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise InvalidConnection(f"extra: unknown field {unknown[0]!r}; known are {', '.join(sorted(known))}.")
        self._values = {name: value for name, value in values.items() if value is not None and value != ""}

    def text(self, name: str, default: str) -> str:
        """Take a string."""
        value = self._values.get(name, default)
        if not isinstance(value, str):
            raise InvalidConnection(f"extra {name}: must be a string, not {value!r}.")
        return value.strip()

    def choice(self, name: str, choices: type[Choice]) -> Choice | None:
        """Take one of a few words, or None where nothing is chosen."""
        value = self._values.get(name)
        if value is None:
            return None
        for choice in choices:
            if value == choice:
                return choice
        raise InvalidConnection(f"extra {name}: must be one of {', '.join(choices)}, not {value!r}.")

    def number(self, name: str, default: float, *, above: float = 0.0, most: float = math.inf) -> float:
        """Take a number, also one written as a string (environment variables, old forms)."""
        value = self._values.get(name, default)
        try:
            number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
        except (ValueError, OverflowError):
            number = math.nan
        if not above < number <= most or math.isinf(number):  # the comparison is false for nan
            limit = f"above {above:g}" if most == math.inf else f"above {above:g} and at most {most:g}"
            raise InvalidConnection(f"extra {name}: must be a number {limit}, not {repr(value)[:50]}.")
        return number

    def whole(self, name: str, default: int, *, most: int) -> int:
        """Take a whole number of at least one."""
        number = self.number(name, default, most=most)
        if number != int(number):
            raise InvalidConnection(f"extra {name}: must be a whole number, not {number:g}.")
        return int(number)

    def transport(self, *, vendor: str, base_url: str) -> TransportSettings:
        """Take what both vendors' connections say about how to talk."""
        return TransportSettings(
            vendor=vendor,
            base_url=base_url,
            connect_timeout=self.number("connect_timeout", TransportSettings.connect_timeout),
            read_timeout=self.number("read_timeout", TransportSettings.read_timeout),
            attempts=self.whole("attempts", TransportSettings.attempts, most=100),
        )
