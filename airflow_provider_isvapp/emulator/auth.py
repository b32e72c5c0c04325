# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Authentication and authorization of the callers of both vendors."""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import dataclass
from typing import Literal

from airflow_provider_isvapp.emulator.config import Clock, EmulatorConfig
from airflow_provider_isvapp.emulator.http import ErrorResponse

Vendor = Literal["isvapp", "productiv"]

ISVAPP_SCOPES = ("identity", "exports", "salesforce_accounts")
PRODUCTIV_SCOPES = ("https://api.productiv.com/apps.read",)
API_KEY_PERMISSION = "ISVapp metrics retrieval"


@dataclass(frozen=True)
class Token:
    """An issued access token."""

    vendor: Vendor
    client: str
    scopes: tuple[str, ...]
    expires_at: float


class TokenIssuer:
    """Knows the credentials and issues tokens for them.

    A credential's name is the client id or ``api_key``, never the secret: the request log shows it.

    :param token_mark: the prefix of each token.
    """

    def __init__(self, config: EmulatorConfig, clock: Clock, token_mark: str) -> None:
        self._config = config
        self._clock = clock
        self._token_mark = token_mark
        self._tokens: dict[str, Token] = {}
        self._clients: dict[Vendor, tuple[str, str]] = {}
        self.rotate(config)

    def issue(self, vendor: Vendor, client: str, secret: str, scope: str) -> tuple[str, Token]:
        """Exchange client credentials for a token.

        :param scope: one or more scopes, separated by spaces.
        :raises ErrorResponse: 401 for a wrong client, 400 for a wrong scope.
        """
        if (client, secret) != self._clients[vendor]:
            raise ErrorResponse(
                401,
                "The client id or the client secret is wrong.",
                code="invalid_client",
                headers={"WWW-Authenticate": f'Basic realm="{vendor}"'},
            )
        known = ISVAPP_SCOPES if vendor == "isvapp" else PRODUCTIV_SCOPES
        scopes = tuple(scope.split())
        unknown = [name for name in scopes if name not in known]
        if unknown or not scopes:
            raise ErrorResponse(
                400,
                f"Unknown scope: {' '.join(unknown)}." if unknown else "The scope is missing.",
                code="invalid_scope",
            )
        granted = self._config.client_scopes.split() if vendor == "isvapp" else known
        withheld = [name for name in scopes if name not in granted]
        if withheld:
            raise ErrorResponse(400, f"The client may not have the scope: {' '.join(withheld)}.", code="invalid_scope")
        value = self._token_mark + secrets.token_urlsafe(32)
        token = Token(vendor, client, scopes, self._clock.monotonic() + self._config.token_seconds)
        self._tokens[value] = token
        return value, token

    def require(self, vendor: Vendor, scope: str, authorization: str | None) -> None:
        """Check that a request with this ``Authorization`` header is allowed.

        :raises ErrorResponse: 401 without valid credentials, 403 naming the missing scope.
        """
        value = _bearer(authorization)
        if value is None:
            raise _unauthorized("Send an Authorization header with a bearer token.")
        if vendor == "isvapp" and value == self._config.api_key:
            return
        if vendor == "isvapp" and value == self._config.api_key_without_scope:
            raise ErrorResponse(403, f"This API key lacks the permission scope '{API_KEY_PERMISSION}'.")
        token = self._tokens.get(value)
        if token is None or token.vendor != vendor:
            raise _unauthorized("The access token is not known.")
        if self._clock.monotonic() >= token.expires_at:
            raise _unauthorized("The access token has expired.")
        if scope not in token.scopes:
            raise ErrorResponse(403, f"The access token lacks the scope '{scope}'; it has '{' '.join(token.scopes)}'.")

    def credential(self, authorization: str | None) -> str | None:
        """Return the name of the credential in an ``Authorization`` header, for the log and the rate limit."""
        basic = parse_basic(authorization)
        if basic is not None:
            return basic[0] if basic[0] in {client for client, _ in self._clients.values()} else None
        value = _bearer(authorization)
        if value == self._config.api_key:
            return "api_key"
        if value == self._config.api_key_without_scope:
            return "api_key_without_scope"
        token = self._tokens.get(value) if value else None
        return token.client if token else None

    def forget(self, authorization: str | None) -> None:
        """Revoke the token in this header before it expires."""
        value = _bearer(authorization)
        if value is not None:
            self._tokens.pop(value, None)

    def rotate(self, config: EmulatorConfig) -> None:
        """Replace the credentials by those of a configuration, and revoke all tokens."""
        self._config = config
        self._clients = {
            "isvapp": (config.client_id, config.client_secret),
            "productiv": (config.productiv_client_id, config.productiv_client_secret),
        }
        self.clear()

    def clear(self) -> None:
        """Revoke all tokens."""
        self._tokens.clear()


def parse_basic(authorization: str | None) -> tuple[str, str] | None:
    """Read client id and secret from an HTTP Basic header, plain (RFC 7617); None for anything else."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (user, password) if colon else None


def _bearer(authorization: str | None) -> str | None:
    scheme, _, value = (authorization or "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" and value.strip() else None


def _unauthorized(message: str) -> ErrorResponse:
    return ErrorResponse(401, message, headers={"WWW-Authenticate": "Bearer"})
