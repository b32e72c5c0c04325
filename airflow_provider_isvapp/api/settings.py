# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The settings that an Airflow connection holds, for each vendor: checked, with errors that name the field."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, TypedDict, TypeVar, Unpack, get_args
from urllib.parse import urlsplit

from airflow_provider_isvapp.api.network import origin
from airflow_provider_isvapp.api.redaction import password_in
from airflow_provider_isvapp.errors import AuthenticationRefused, InvalidArgument, InvalidConnection, PermissionRefused

Choice = TypeVar("Choice", bound=StrEnum)


class ConnectionFields(TypedDict, total=False):
    """The fields of an Airflow connection; ``extra`` is its decoded JSON object."""

    login: str | None
    password: str | None
    host: str | None
    port: int | None
    schema: str | None
    extra: Mapping[str, object] | None


@dataclass(frozen=True, kw_only=True)
class TransportSettings:
    """How to send requests to a vendor.

    :param vendor: the vendor's name, for messages.
    :param base_url: URL without a trailing slash; the only origin that ever sees a token.
    :param connect_timeout: seconds until a connection is established.
    :param read_timeout: seconds until the headers of a response arrive, and between two bytes of its body.
    :param attempts: the maximum number of attempts per request.
    :param conn_id: the connection's id, for errors.
    """

    vendor: str
    base_url: str
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    attempts: int = 5
    conn_id: str | None = None


@contextmanager
def naming_connection(conn_id: str | None) -> Iterator[None]:
    """Prefix errors that a connection causes with its id."""
    try:
        yield
    except (InvalidConnection, AuthenticationRefused, PermissionRefused) as error:
        prefix = f"Connection {conn_id!r}"
        if conn_id is not None and not str(error).startswith(prefix):
            error.args = (f"{prefix}: {error}",)
        raise


def _read_base_url(connection: ConnectionFields, *, default: str) -> str:
    """Combine host, port and schema into one URL without a trailing slash.

    :param default: used where the host is empty. A host is a name, or a full URL with scheme, port and path.
    """
    given = (connection.get("host") or "").strip() or default
    scheme = (connection.get("schema") or "").strip().strip("/")
    if "/" in scheme:
        # Airflow puts the path of a connection's URI there: isvapp://login:password@host/api/v1.
        given, scheme = (given if "://" in given else f"{given}/{scheme}"), ""
    if "://" not in given:
        given = f"{scheme.lower() or 'https'}://{given}"
    return _checked_url(given, field="host", port=connection.get("port"))


def _read_url(value: str, *, field: str) -> str:
    """Check a field that holds a full URL."""
    if "://" not in value:
        raise InvalidConnection(f"{field}: {value!r} is not a full URL; it needs a scheme, as in https://host/path.")
    return _checked_url(value, field=field, port=None)


def _checked_url(given: str, *, field: str, port: int | None) -> str:
    try:
        parts = urlsplit(given)
        own_port = parts.port
    except ValueError:
        raise InvalidConnection(f"{field}: not a valid URL; use https://host or https://host:port.") from None
    if parts.username or parts.password:
        raise InvalidConnection(f"{field}: credentials do not belong in a URL; use login and password.")
    if parts.scheme not in ("http", "https"):
        raise InvalidConnection(f"{field}: the scheme must be http or https, not {parts.scheme!r}.")
    if not parts.hostname or any(letter.isspace() for letter in parts.netloc):
        raise InvalidConnection(f"{field}: {given!r} has no host; use https://host or https://host:port.")
    if not origin(given):
        raise InvalidConnection(f"{field}: not a valid URL; use https://host or https://host:port.")
    if parts.query or parts.fragment:
        raise InvalidConnection(f"{field}: the URL must not contain '?' or '#'.")
    if own_port and port and own_port != port:
        raise InvalidConnection(f"port: {port} contradicts the port {own_port} in {field}; give it once.")
    netloc = parts.netloc if own_port or not port else f"{parts.netloc.rstrip(':')}:{port}"
    return f"{parts.scheme}://{netloc}{parts.path}".rstrip("/")


def _credential(value: str | None, *, field: str, meaning: str) -> str:
    """Check a credential, which must not be empty and must fit into a header.

    :param meaning: what the field takes, for the message; the value is never shown.
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
    """The connection's extra: known fields only. Empty ones count as absent: Airflow 3's form stores them as null.

    :param known: the allowed names; any other is an error, as it would be a setting without effect.
    """

    def __init__(self, values: Mapping[str, object], *, known: Collection[str]) -> None:
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise InvalidConnection(f"extra: unknown field {unknown[0]!r}; known are {', '.join(sorted(known))}.")
        self._values = {name: value for name, value in values.items() if value is not None and value != ""}

    def text(self, name: str, default: str) -> str:
        """Return a string."""
        value = self._values.get(name, default)
        if not isinstance(value, str):
            raise InvalidConnection(f"extra {name}: must be a string, not {value!r}.")
        return value.strip()

    def choice(self, name: str, choices: type[Choice]) -> Choice | None:
        """Return one of the choices, or None if none is set."""
        value = self._values.get(name)
        if value is None:
            return None
        for choice in choices:
            if value == choice:
                return choice
        raise InvalidConnection(f"extra {name}: must be one of {', '.join(choices)}, not {value!r}.")

    def number(self, name: str, default: float, *, above: float = 0.0, most: float = math.inf) -> float:
        """Return a number, also from a string (environment variables, old forms)."""
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
        """Return an integer of at least one."""
        number = self.number(name, default, most=most)
        if number != int(number):
            raise InvalidConnection(f"extra {name}: must be an integer, not {number:g}.")
        return int(number)

    def transport(self, *, vendor: str, base_url: str) -> TransportSettings:
        """Return the settings that both vendors' connections share."""
        return TransportSettings(
            vendor=vendor,
            base_url=base_url,
            connect_timeout=self.number("connect_timeout", TransportSettings.connect_timeout),
            read_timeout=self.number("read_timeout", TransportSettings.read_timeout),
            attempts=self.whole("attempts", TransportSettings.attempts, most=100),
        )


def _limiter_key(transport: TransportSettings, credential: str) -> str:
    return hashlib.sha256(f"{origin(transport.base_url)}\n{credential}".encode()).hexdigest()[:32]


ISVAPP_BASE_URL = "https://api.isvapp.com"
DEFAULT_REQUESTS_PER_SECOND = 2.0  # the vendor's documented limit, over all endpoints

_ISVAPP_PATHS = ("/api", "/api/v1")

ISVAPP_EXTRA = (
    "authentication",
    "requests_per_second",
    "rate_limit_storage",
    "connect_timeout",
    "read_timeout",
    "attempts",
)


class Authentication(StrEnum):
    """The vendor's two ways to authenticate."""

    OAUTH2 = "oauth2"
    API_KEY = "api_key"


@dataclass(frozen=True, kw_only=True)
class IsvappSettings:
    """A checked connection.

    :param client_id: None where ``secret`` is an API key.
    :param requests_per_second: the vendor's limit, shared by all connections with the same origin and credentials.
    :param rate_limit_storage: URL of the limiter's storage; empty for a file on this machine.
    """

    transport: TransportSettings
    client_id: str | None
    secret: str = field(repr=False)
    requests_per_second: float = DEFAULT_REQUESTS_PER_SECOND
    rate_limit_storage: str = field(default="", repr=False)

    @classmethod
    def from_connection(cls, **connection: Unpack[ConnectionFields]) -> IsvappSettings:
        """Check the fields of a connection.

        :raises InvalidConnection: naming the field that is wrong.
        """
        fields = Extra(connection.get("extra") or {}, known=ISVAPP_EXTRA)
        # The vendor's documentation has this path in its URLs.
        base_url = _read_base_url(connection, default=ISVAPP_BASE_URL)
        base_url = base_url.removesuffix("/v1").removesuffix("/api") if base_url.endswith(_ISVAPP_PATHS) else base_url
        client_id = (connection.get("login") or "").strip() or None
        if client_id and ":" in client_id:
            raise InvalidConnection("login: a client id with a colon cannot be sent as HTTP Basic (RFC 7617, 2).")
        _check_authentication(fields.choice("authentication", Authentication), client_id)
        meaning = (
            "the client secret that belongs to the login"
            if client_id
            else "an API key, or the client secret with the client id as login"
        )
        return cls(
            transport=fields.transport(vendor="ISVapp", base_url=base_url),
            client_id=client_id,
            secret=_credential(connection.get("password"), field="password", meaning=meaning),
            requests_per_second=fields.number("requests_per_second", DEFAULT_REQUESTS_PER_SECOND, most=1000),
            rate_limit_storage=fields.text("rate_limit_storage", ""),
        )

    @property
    def credentials(self) -> tuple[str | None, str]:
        """Client id and secret, to detect a rotation."""
        return self.client_id, self.secret

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets to redact."""
        password = password_in(self.rate_limit_storage)
        return (self.secret, password) if password else (self.secret,)

    @property
    def limiter_key(self) -> str:
        """A hash that identifies the quota of this connection: equal for the same origin and credentials."""
        return _limiter_key(self.transport, f"client {self.client_id}" if self.client_id else f"key {self.secret}")


def _check_authentication(chosen: Authentication | None, client_id: str | None) -> None:
    """Check that a chosen authentication fits the login."""
    if chosen is Authentication.OAUTH2 and client_id is None:
        raise InvalidConnection(
            f"login: empty, but the extra authentication is {chosen.value!r}: enter the client id here. For an API "
            f"key, choose {Authentication.API_KEY.value!r}."
        )
    if chosen is Authentication.API_KEY and client_id is not None:
        raise InvalidConnection(
            f"login: must be empty, as the extra authentication is {chosen.value!r}. For a client id and its secret, "
            f"choose {Authentication.OAUTH2.value!r}."
        )


ApiVersion = Literal["v1", "v2", "v3"]

PRODUCTIV_BASE_URL = "https://public-api.productiv.com"
PRODUCTIV_AUTH_URL = "https://login.api.productiv.com/oauth2/token"
PRODUCTIV_SCOPE = "https://api.productiv.com/apps.read"
DEFAULT_API_VERSION: ApiVersion = "v1"  # the documented one

_PRODUCTIV_PATH = re.compile(r"/pull(?:/(?P<version>v[0-9]+))?$")

PRODUCTIV_EXTRA = ("auth_url", "scope", "api_version", "connect_timeout", "read_timeout", "attempts")


@dataclass(frozen=True, kw_only=True)
class ProductivSettings:
    """A checked connection.

    :param auth_url: the token endpoint.
    :param scope: the OAuth2 scope to request.
    :param api_version: the version in the path of the app endpoints.
    """

    transport: TransportSettings
    client_id: str
    client_secret: str = field(repr=False)
    auth_url: str = PRODUCTIV_AUTH_URL
    scope: str = PRODUCTIV_SCOPE
    api_version: ApiVersion = DEFAULT_API_VERSION

    @classmethod
    def from_connection(cls, **connection: Unpack[ConnectionFields]) -> ProductivSettings:
        """Check the fields of a connection.

        :raises InvalidConnection: naming the field that is wrong.
        """
        fields = Extra(connection.get("extra") or {}, known=PRODUCTIV_EXTRA)
        try:
            api_version = checked_api_version(fields.text("api_version", DEFAULT_API_VERSION))
        except InvalidArgument as error:
            raise InvalidConnection(f"extra {error}") from None
        base_url = _read_base_url(connection, default=PRODUCTIV_BASE_URL)
        # The vendor's documentation has this path in its URLs.
        if path := _PRODUCTIV_PATH.search(base_url):
            if path["version"] not in (None, api_version):
                raise InvalidConnection(
                    f"host: the URL ends in {path[0]}, but the API version is {api_version}; end it before {path[0]}, "
                    "and set the extra api_version."
                )
            base_url = base_url[: path.start()]
        return cls(
            transport=fields.transport(vendor="Productiv", base_url=base_url),
            client_id=_credential(connection.get("login"), field="login", meaning="the client id"),
            client_secret=_credential(connection.get("password"), field="password", meaning="the client secret"),
            auth_url=_read_url(fields.text("auth_url", PRODUCTIV_AUTH_URL), field="extra auth_url"),
            scope=fields.text("scope", PRODUCTIV_SCOPE),
            api_version=api_version,
        )

    @property
    def credentials(self) -> tuple[str, str]:
        """Client id and secret, to detect a rotation."""
        return self.client_id, self.client_secret

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets to redact."""
        return (self.client_secret,)

    @property
    def limiter_key(self) -> str:
        """A hash that identifies the quota of this connection: equal for the same origin and credentials."""
        return _limiter_key(self.transport, f"client {self.client_id}")


def checked_api_version(value: object) -> ApiVersion:
    """Check an API version.

    :raises InvalidArgument: for anything else.
    """
    for version in get_args(ApiVersion):
        if value == version:
            return version  # type: ignore[no-any-return]
    raise InvalidArgument(f"api_version: must be one of {', '.join(get_args(ApiVersion))}, not {value!r}.")
