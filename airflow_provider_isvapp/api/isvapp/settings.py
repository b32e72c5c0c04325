# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What an Airflow connection of type ``isvapp`` says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from airflow_provider_isvapp.api.connection_fields import Extra, TransportSettings, origin, read_base_url, secret
from airflow_provider_isvapp.api.redaction import password_in
from airflow_provider_isvapp.errors import InvalidConnection

DEFAULT_BASE_URL = "https://api.isvapp.com"
DEFAULT_REQUESTS_PER_SECOND = 2.0  # the vendor's documented limit, over all endpoints

_API_PATHS = ("/api", "/api/v1")

EXTRA_FIELDS = (
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
    :param requests_per_second: the vendor's limit, shared by all connections with the same origin and credential.
    :param rate_limit_storage: URL of the limiter's storage; empty for a file on this machine.
    """

    transport: TransportSettings
    client_id: str | None
    secret: str = field(repr=False)
    requests_per_second: float = DEFAULT_REQUESTS_PER_SECOND
    rate_limit_storage: str = field(default="", repr=False)

    @classmethod
    def from_connection(
        cls,
        *,
        login: str | None,
        password: str | None,
        host: str | None = None,
        port: int | None = None,
        schema: str | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> IsvappSettings:
        """Check the fields of a connection.

        :raises InvalidConnection: naming the field that is wrong.
        """
        fields = Extra(extra or {}, known=EXTRA_FIELDS)
        # The vendor's own page begins its URLs so.
        base_url = read_base_url(host=host, port=port, schema=schema, default=DEFAULT_BASE_URL)
        base_url = base_url.removesuffix("/v1").removesuffix("/api") if base_url.endswith(_API_PATHS) else base_url
        client_id = (login or "").strip() or None
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
            secret=secret(password, field="password", meaning=meaning),
            requests_per_second=fields.number("requests_per_second", DEFAULT_REQUESTS_PER_SECOND, most=1000),
            rate_limit_storage=fields.text("rate_limit_storage", ""),
        )

    @property
    def credentials(self) -> tuple[str | None, str]:
        """What changes when the credentials are rotated."""
        return self.client_id, self.secret

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets, which no text may show."""
        password = password_in(self.rate_limit_storage)
        return (self.secret, password) if password else (self.secret,)

    @property
    def limiter_key(self) -> str:
        """Name the quota that this connection draws on: equal for equal origin and credential, and showing neither."""
        credential = f"client {self.client_id}" if self.client_id else f"key {self.secret}"
        return hashlib.sha256(f"{origin(self.transport.base_url)}\n{credential}".encode()).hexdigest()[:32]


def _check_authentication(chosen: Authentication | None, client_id: str | None) -> None:
    """Compare the choice with the login, which decides where nothing is chosen."""
    if chosen is Authentication.OAUTH2 and client_id is None:
        raise InvalidConnection(
            f"login: empty, but the extra authentication is {chosen.value!r}: give the client id here. For an API key "
            f"choose {Authentication.API_KEY.value!r}."
        )
    if chosen is Authentication.API_KEY and client_id is not None:
        raise InvalidConnection(
            f"login: must be empty, as the extra authentication is {chosen.value!r}. For a client id and its secret "
            f"choose {Authentication.OAUTH2.value!r}."
        )
