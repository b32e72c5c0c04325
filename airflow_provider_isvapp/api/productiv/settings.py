# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What an Airflow connection of type ``productiv`` says."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from airflow_provider_isvapp.api.connection_fields import (
    Extra,
    TransportSettings,
    origin,
    read_base_url,
    read_url,
    secret,
)
from airflow_provider_isvapp.errors import InvalidArgument, InvalidConnection

ApiVersion = Literal["v1", "v2", "v3"]

DEFAULT_BASE_URL = "https://public-api.productiv.com"
DEFAULT_AUTH_URL = "https://login.api.productiv.com/oauth2/token"
DEFAULT_SCOPE = "https://api.productiv.com/apps.read"
DEFAULT_API_VERSION: ApiVersion = "v1"  # the documented one

_API_PATH = re.compile(r"/pull(?:/(?P<version>v[0-9]+))?$")

EXTRA_FIELDS = ("auth_url", "scope", "api_version", "connect_timeout", "read_timeout", "attempts")


@dataclass(frozen=True, kw_only=True)
class ProductivSettings:
    """A checked connection.

    :param auth_url: where the client id and secret are exchanged for a token.
    :param scope: the OAuth2 scope to ask for.
    :param api_version: the version in the path of the app endpoints.
    """

    transport: TransportSettings
    client_id: str
    client_secret: str = field(repr=False)
    auth_url: str = DEFAULT_AUTH_URL
    scope: str = DEFAULT_SCOPE
    api_version: ApiVersion = DEFAULT_API_VERSION

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
    ) -> ProductivSettings:
        """Check the fields of a connection.

        :raises InvalidConnection: naming the field that is wrong.
        """
        fields = Extra(extra or {}, known=EXTRA_FIELDS)
        try:
            api_version = checked_api_version(fields.text("api_version", DEFAULT_API_VERSION))
        except InvalidArgument as error:
            raise InvalidConnection(f"extra {error}") from None
        base_url = read_base_url(host=host, port=port, schema=schema, default=DEFAULT_BASE_URL)
        # The vendor's own page begins its URLs so.
        if path := _API_PATH.search(base_url):
            if path["version"] not in (None, api_version):
                raise InvalidConnection(
                    f"host: the URL ends in {path[0]}, but the API version is {api_version}; end it before {path[0]}, "
                    "and set the extra api_version."
                )
            base_url = base_url[: path.start()]
        return cls(
            transport=fields.transport(vendor="Productiv", base_url=base_url),
            client_id=secret(login, field="login", meaning="the client id"),
            client_secret=secret(password, field="password", meaning="the client secret"),
            auth_url=read_url(fields.text("auth_url", DEFAULT_AUTH_URL), field="extra auth_url"),
            scope=fields.text("scope", DEFAULT_SCOPE),
            api_version=api_version,
        )

    @property
    def credentials(self) -> tuple[str, str]:
        """What changes when the credentials are rotated."""
        return self.client_id, self.client_secret

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets, which no text may show."""
        return (self.client_secret,)

    @property
    def limiter_key(self) -> str:
        """Name the quota that this connection draws on, without showing it."""
        return hashlib.sha256(f"{origin(self.transport.base_url)}\nclient {self.client_id}".encode()).hexdigest()[:32]


def checked_api_version(value: object) -> ApiVersion:
    """Take one of the published versions.

    :raises InvalidArgument: for anything else.
    """
    for version in get_args(ApiVersion):
        if value == version:
            return version  # type: ignore[no-any-return]
    raise InvalidArgument(f"api_version: must be one of {', '.join(get_args(ApiVersion))}, not {value!r}.")
