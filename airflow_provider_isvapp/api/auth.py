# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Authentication with bearer tokens: an API key, or OAuth2 client credentials with one token per scope.

oauthlib builds and reads the OAuth2 messages but does no I/O, so token requests take the same path as all others: the
same limiter, retries and timeouts. Clients that bring their own HTTP (requests-oauthlib, authlib) would bypass it.

Processes share tokens through the limiter's storage, encrypted with a key derived from the client secret. Every task is
a separate process: if each requested a token, tokens would be a third of all requests under the vendor's limit.
Without the client secret, the storage reveals neither a token nor which client it belongs to.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import math
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, TypeVar

import msgspec

from airflow_provider_isvapp.api.network import origin
from airflow_provider_isvapp.api.responses import WEB_PAGE
from airflow_provider_isvapp.api.transport import Request, Transport
from airflow_provider_isvapp.errors import (
    AuthenticationRefused,
    LimiterUnavailable,
    PermissionRefused,
    RequestRefused,
    UnexpectedResponse,
)
from airflow_provider_isvapp.ratelimit.storage import Storage

log = logging.getLogger(__name__)

# A token is renewed this long before it expires, or after nine tenths of a short lifetime.
RENEW_BEFORE = 60.0
# How long other processes wait for the one that requests a token. If it was killed, another one takes over.
LEASE = 30.0
_STORAGE_TIMEOUT = 2.0
_POLL_INTERVAL = 0.25
_NONCE_BYTES = 12
# An invalid lifetime, or a shorter one, which each request would need a new token for, counts as RENEW_BEFORE.
SHORTEST_LIFETIME = 5.0

_WRONG_CLIENT = ("invalid_client", "invalid_grant", "unauthorized_client")

T = TypeVar("T")
# Opens the storage of a key.
OpenStorage = Callable[[str], Storage]


class ApiKey:
    """An API key, which is its own token for every scope."""

    def __init__(self, key: str) -> None:
        self._key = key

    def token(self, scope: str) -> str:
        """Return the key, whatever the scope."""
        return self._key

    def rejected(self, scope: str, token: str) -> bool:
        """Return False: there is no other key."""
        return False


class SecretStyle(Enum):
    """How the client sends its secret to the token endpoint (RFC 6749, 2.3.1)."""

    BASIC = "basic"
    FORM = "form"


class ClientCredentials:
    """OAuth2 client credentials (RFC 6749, 4.4): requests one token per scope, when it is first needed.

    :param url_field: the connection's field that decides ``token_url``, for messages.
    :param endpoint: the token endpoint's name, for metrics.
    :param on_new_token: called with each token as soon as it arrives, so that logs can mask it.
    :param open_storage: opens the storage that shares tokens between processes; None to keep them in this one.
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
        """Return a token for a scope; request one if there is none or it is about to expire."""
        value, renew_at = self._tokens.get(scope, ("", -math.inf))
        requested_at = self._clock()
        if requested_at >= renew_at:
            issued = self._store.get(scope, lambda: self._request(scope)) if self._store else self._request(scope)
            value = issued.value
            self._on_new_token(value)
            self._tokens[scope] = (value, requested_at + issued.renew_after)
        return value

    def rejected(self, scope: str, token: str) -> bool:
        """Drop a token that got a 401, so that :meth:`token` returns a new one."""
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
        """Explain the endpoint's refusal: a wrong client and a wrong scope can both be a 400 (RFC 6749, 5.2)."""
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
        # The body may hold a token, so messages only name the kind of problem.
        web_page = body.lstrip().startswith(b"<")
        reason = "a web page" if web_page else "not JSON of the documented kind"
        value: object = None
        granted: list[str] = []
        lifetime = 0.0
        try:
            fields = json.loads(body)
            # oauthlib would refuse the whole response because of these two, but the token alone is enough.
            lifetime, granted = _lifetime(fields.pop("expires_in", None)), _scopes(fields.pop("scope", None))
            response = client.parse_request_body_response(json.dumps(fields))  # type: ignore[attr-defined]
            value = response["access_token"]
        except OAuth2Error as problem:
            # For a web page, oauthlib only says that the token is missing.
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
        raise UnexpectedResponse(
            f"{vendor} responded to the token request without a token ({reason}). "
            f"Check the connection's {self._url_field}."
        )


def _lifetime(expires_in: object) -> float:
    """Return the lifetime of a token in seconds; :data:`RENEW_BEFORE` for an invalid or very short one."""
    try:
        seconds = math.nan if isinstance(expires_in, bool) else float(expires_in)  # type: ignore[arg-type]
    except (ValueError, TypeError, OverflowError):
        seconds = math.nan
    return seconds if SHORTEST_LIFETIME <= seconds < math.inf else RENEW_BEFORE  # the comparison is false for nan


def _scopes(scope: object) -> list[str]:
    """Return the scopes of a token, also from a list or separated by commas; none if they cannot be read."""
    words = scope if isinstance(scope, list) else [scope]
    return [name for word in words if isinstance(word, str) for name in word.replace(",", " ").split()]


def _basic(client_id: str, client_secret: str) -> str:
    """Return HTTP Basic with id and secret unencoded, as the vendor documents and most clients do.

    RFC 6749, 2.3.1 asks to form-encode both, which a server of plain HTTP Basic (RFC 7617) does not decode.
    """
    return "Basic " + base64.b64encode(f"{client_id}:{client_secret}".encode()).decode("ascii")


@dataclass(frozen=True)
class IssuedToken:
    """An access token.

    :param lifetime: seconds from now until it expires.
    """

    value: str = field(repr=False)
    lifetime: float

    @property
    def renew_after(self) -> float:
        """Seconds from now until a new one should be requested."""
        return max(self.lifetime - RENEW_BEFORE, self.lifetime * 0.9)


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    """The stored state of one scope; times are those of the storage's clock."""

    token: str | None = None
    issued_at: float = 0.0
    renew_at: float = 0.0
    expires_at: float = 0.0
    renewing_until: float = 0.0


class TokenStore:
    """Shares the tokens of one client at one token endpoint between all processes with the same storage.

    If the storage fails or returns invalid entries, a process requests a separate token.

    :param sleep: injected by tests.
    """

    def __init__(
        self,
        open_storage: OpenStorage,
        *,
        token_url: str,
        client_id: str,
        client_secret: str,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._open_storage = open_storage
        self._owner = f"{origin(token_url)}\n{client_id}"
        # The secret has the entropy of a key, so a fast derivation is enough (NIST SP 800-56C).
        self._key = hmac.digest(b"airflow-provider-isvapp token store", client_secret.encode(), hashlib.sha256)
        self._sleep = sleep
        self._refused: set[str] = set()

    def get(self, scope: str, request: Callable[[], IssuedToken]) -> IssuedToken:
        """Return a shared token, or request one for all processes.

        :param request: requests a token. Meanwhile, other processes use the old token or wait.
        """
        try:
            token = self._find_or_lease(scope)
        except LimiterUnavailable:
            log.warning("The storage of shared tokens does not respond: this process requests a separate token.")
            return request()
        if token is not None:
            return token
        try:
            issued = request()
        except BaseException:
            # End the lease, so that the next process does not wait for it.
            self._update(scope, lambda entry, _: msgspec.structs.replace(entry, renewing_until=0.0))
            raise
        self._update(
            scope,
            lambda _, now: _Entry(
                token=issued.value, issued_at=now, renew_at=now + issued.renew_after, expires_at=now + issued.lifetime
            ),
        )
        return issued

    def drop(self, scope: str, token: str) -> None:
        """Remove a token that the vendor refused, if it is still the stored one."""
        self._refused.add(token)
        self._update(scope, lambda entry, _: _Entry() if entry.token == token else entry)

    def _find_or_lease(self, scope: str) -> IssuedToken | None:
        """Return a stored token; None if this process has to request one."""
        waited = 0.0
        while (found := self._change(scope, self._choose)) == "wait" and waited < 2 * LEASE:
            pause = _POLL_INTERVAL * random.uniform(0.5, 1.5)  # noqa: S311 - jitter, not a secret
            self._sleep(pause)
            waited += pause
        return found if isinstance(found, IssuedToken) else None

    def _choose(self, entry: _Entry, now: float) -> tuple[_Entry, IssuedToken | Literal["wait", "request"]]:
        # An entry is invalid after the storage's clock was set back or restarted with its machine.
        valid = entry.token if entry.issued_at <= now < entry.expires_at and entry.token not in self._refused else None
        leased = now < entry.renewing_until <= now + LEASE
        if valid is not None and (leased or now < entry.renew_at):
            return entry, IssuedToken(valid, entry.expires_at - now)
        if leased:
            return entry, "wait"
        return msgspec.structs.replace(entry, renewing_until=now + LEASE), "request"

    def _update(self, scope: str, step: Callable[[_Entry, float], _Entry]) -> None:
        try:
            self._change(scope, lambda entry, now: (step(entry, now), None))
        except LimiterUnavailable:
            log.warning("The storage of shared tokens does not respond: other processes request separate tokens.")

    def _change(self, scope: str, step: Callable[[_Entry, float], tuple[_Entry, T]]) -> T:
        """Replace the entry of a scope atomically.

        :raises LimiterUnavailable: if the storage does not respond.
        """
        owner = f"{self._owner}\n{scope}".encode()

        def change(text: str | None, now: float) -> tuple[str, T]:
            entry, result = step(self._decrypt(text, owner), now)
            return self._encrypt(entry, owner), result

        name = hmac.digest(self._key, owner, hashlib.sha256).hex()[:32]
        storage = self._open_storage(f"token-{name}")
        try:
            return storage.update(change, timeout=_STORAGE_TIMEOUT)
        finally:
            storage.release()

    def _encrypt(self, entry: _Entry, owner: bytes) -> str:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # slow to import, and not needed to parse a DAG

        nonce = os.urandom(_NONCE_BYTES)
        return base64.b64encode(nonce + AESGCM(self._key).encrypt(nonce, msgspec.json.encode(entry), owner)).decode()

    def _decrypt(self, text: str | None, owner: bytes) -> _Entry:
        """Read an entry; an invalid one counts as missing."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            encrypted = base64.b64decode(text or "", validate=True)
            plain = AESGCM(self._key).decrypt(encrypted[:_NONCE_BYTES], encrypted[_NONCE_BYTES:], owner)
            return msgspec.json.decode(plain, type=_Entry)
        except (InvalidTag, ValueError, msgspec.MsgspecError):
            return _Entry()
