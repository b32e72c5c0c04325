# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Bearer tokens: an API key as it is, or OAuth2 client credentials with one token per scope.

oauthlib builds and reads the OAuth2 messages but does no I/O, so token requests take the same path as all others: the
same limiter, retries and timeouts. The clients that bring their own HTTP (requests-oauthlib, authlib) would go around
that path.
"""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Callable
from enum import Enum

from airflow_provider_isvapp.api.connection_fields import origin
from airflow_provider_isvapp.api.http_errors import WEB_PAGE
from airflow_provider_isvapp.api.token_store import RENEW_BEFORE, IssuedToken, OpenStorage, TokenStore
from airflow_provider_isvapp.api.transport import Request, Transport
from airflow_provider_isvapp.errors import AuthenticationRefused, PermissionRefused, RequestRefused, UnexpectedAnswer

# A lifetime that is invalid, or so short that each request would need a new token, counts as RENEW_BEFORE.
SHORTEST_LIFETIME = 5.0

_WRONG_CLIENT = ("invalid_client", "invalid_grant", "unauthorized_client")


class ApiKey:
    """An API key is its own token, for every scope that it was created with."""

    def __init__(self, key: str) -> None:
        self._key = key

    def token(self, scope: str) -> str:
        """Return the key."""
        return self._key

    def rejected(self, scope: str, token: str) -> bool:
        """A refused key stays refused."""
        return False


class SecretStyle(Enum):
    """How the client shows its secret to the token endpoint (RFC 6749, 2.3.1)."""

    BASIC = "basic"
    FORM = "form"


class ClientCredentials:
    """OAuth2 client credentials (RFC 6749, 4.4): asks for one token per scope, when it is first needed.

    :param url_field: the connection's field that decides ``token_url``, for messages.
    :param endpoint: the token endpoint's name, for metrics.
    :param on_new_token: gets each token as soon as it arrives, so that logs can mask it.
    :param open_storage: opens the storage in which processes share tokens; None to keep them in this process.
    :param clock: monotonic seconds.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        token_url: str,
        client_id: str,
        client_secret: str,
        style: SecretStyle,
        url_field: str = "host",
        endpoint: str = "token",
        on_new_token: Callable[[str], object] = lambda _: None,
        open_storage: OpenStorage | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._token_url = token_url
        self._client_id = client_id
        self._client_secret = client_secret
        self._style = style
        self._url_field = url_field
        self._endpoint = endpoint
        self._on_new_token = on_new_token
        self._clock = clock
        self._store = None
        if open_storage is not None:
            self._store = TokenStore(
                open_storage, token_url=token_url, client_id=client_id, client_secret=client_secret
            )
        self._tokens: dict[str, tuple[str, float]] = {}

    def token(self, scope: str) -> str:
        """Return a token for a scope, asking for one if there is none or it is about to expire."""
        value, renew_at = self._tokens.get(scope, ("", -math.inf))
        asked_at = self._clock()
        if asked_at >= renew_at:
            issued = self._store.get(scope, lambda: self._request(scope)) if self._store else self._request(scope)
            value = issued.value
            self._on_new_token(value)
            self._tokens[scope] = (value, asked_at + issued.renew_after)
        return value

    def rejected(self, scope: str, token: str) -> bool:
        """Drop a token that got a 401, so that the next one is new."""
        held, _ = self._tokens.get(scope, ("", 0.0))
        if held == token:
            del self._tokens[scope]
        if self._store:
            self._store.drop(scope, token)
        return True

    def _request(self, scope: str) -> IssuedToken:
        from oauthlib.oauth2 import BackendApplicationClient  # 40 ms that a DAG file should not pay

        client = BackendApplicationClient(self._client_id)
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if self._style is SecretStyle.BASIC:
            form = client.prepare_request_body(scope=scope)
            headers["Authorization"] = _basic(self._client_id, self._client_secret)
        else:
            form = client.prepare_request_body(scope=scope, include_client_id=True, client_secret=self._client_secret)
        request = Request(
            method="POST",
            url=self._token_url,
            label=f"the token for scope {scope!r}",
            endpoint=self._endpoint,
            url_field=self._url_field,
            form=form,
            headers=headers,
        )
        try:
            body = self._transport.fetch(request).content
        except RequestRefused as refused:
            error: Exception = self._client_error(refused, scope=scope)
        else:
            return self._read(client, body, scope=scope)
        raise error

    def _client_error(self, refused: RequestRefused, *, scope: str) -> RequestRefused:
        """Explain a refusal of the token endpoint: by RFC 6749, 5.2, a wrong client and a wrong scope share the 400."""
        status, message = refused.status, refused.vendor_message
        code = message.partition(":")[0]
        vendor = self._transport.settings.vendor
        kind: type[RequestRefused] = AuthenticationRefused
        credentials = "Check the connection's login and password: the client id and the client secret"
        if message == WEB_PAGE or status in (404, 405):
            kind = RequestRefused
            advice = f"{origin(self._token_url)} has no token endpoint: check the connection's {self._url_field}."
        elif code == "invalid_scope" or status == 403:
            kind = PermissionRefused
            advice = "Give the client that scope in the vendor's settings."
        elif code in _WRONG_CLIENT or status == 401:
            advice = f"{credentials}."
        else:
            advice = f"{credentials}; or give the client that scope in the vendor's settings."
        text = f"{vendor} refused the token for scope {scope!r} ({status}): {message or 'without a message'}."
        return kind(f"{text} {advice}", status=status, vendor_message=message)

    def _read(self, client: object, body: bytes, *, scope: str) -> IssuedToken:
        from oauthlib.oauth2 import OAuth2Error

        vendor = self._transport.settings.vendor
        # Only the kind of a problem is shown, here and below: the body may hold a token.
        web_page = body.lstrip().startswith(b"<")
        reason = "a web page" if web_page else "not JSON of the documented kind"
        value: object = None
        granted: list[str] = []
        lifetime = 0.0
        try:
            fields = json.loads(body)
            # oauthlib refuses the whole response for these two; of a token it is enough to have it.
            lifetime, granted = _lifetime(fields.pop("expires_in", None)), _scopes(fields.pop("scope", None))
            response = client.parse_request_body_response(json.dumps(fields))  # type: ignore[attr-defined]
            value = response["access_token"]
        except OAuth2Error as problem:
            # Of a page, it only says that no token is in there.
            reason = reason if web_page else self._transport.redact(str(problem.error or reason))
        except (ValueError, AttributeError, TypeError, ArithmeticError, RecursionError):
            pass
        token = value.strip() if isinstance(value, str) else ""
        if token.isascii() and token.isprintable() and token:
            if granted and scope not in granted:
                raise PermissionRefused(
                    f"{vendor} gave a token without the scope {scope!r}. "
                    "Give the client that scope in the vendor's settings.",
                    status=200,
                )
            return IssuedToken(token, lifetime)
        raise UnexpectedAnswer(
            f"{vendor} responded to the request for a token with something else ({reason}). "
            f"Check the connection's {self._url_field}."
        )


def _lifetime(expires_in: object) -> float:
    """Read the seconds that a token lives; what cannot be read, or makes no sense, is as short as one unknown."""
    try:
        seconds = math.nan if isinstance(expires_in, bool) else float(expires_in)  # type: ignore[arg-type]
    except (ValueError, TypeError, OverflowError):
        seconds = math.nan
    return seconds if SHORTEST_LIFETIME <= seconds < math.inf else RENEW_BEFORE  # the comparison is false for nan


def _scopes(scope: object) -> list[str]:
    """Read the scopes of a token, also from a list or separated by commas; none if they cannot be read."""
    words = scope if isinstance(scope, list) else [scope]
    return [name for word in words if isinstance(word, str) for name in word.replace(",", " ").split()]


def _basic(client_id: str, client_secret: str) -> str:
    """HTTP Basic with both halves plain, as the vendor's page says and most clients send them.

    RFC 6749, 2.3.1 asks for a form-encoding of each, which a server of plain HTTP Basic (RFC 7617) does not undo.
    """
    return "Basic " + base64.b64encode(f"{client_id}:{client_secret}".encode()).decode("ascii")
