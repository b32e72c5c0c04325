# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Shares access tokens between processes through the limiter's storage, sealed with the client secret.

Every task is a process of its own. If each asked for a token, tokens would be a third of all requests under the
vendor's limit. Whoever reads the storage without the client secret learns neither a token nor whose it is.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import msgspec

from airflow_provider_isvapp.api.connection_fields import origin
from airflow_provider_isvapp.errors import LimiterUnavailable
from airflow_provider_isvapp.ratelimit.storage_base import Storage

log = logging.getLogger(__name__)

# A token is renewed this long before it expires, or after nine tenths of a short lifetime.
RENEW_BEFORE = 60.0
# For how long the others wait for the process that requests a token. If it was killed, another one takes its place.
LEASE = 30.0
_STORAGE_TIMEOUT = 2.0
_POLL_INTERVAL = 0.25
_NONCE_BYTES = 12

T = TypeVar("T")
# Opens the storage of a key.
OpenStorage = Callable[[str], Storage]


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
    """What is stored for one scope; times by the storage's clock."""

    token: str | None = None
    issued_at: float = 0.0
    renew_at: float = 0.0
    expires_at: float = 0.0
    renewing_until: float = 0.0


class TokenStore:
    """The tokens of one client at one token endpoint, for all processes that share a storage.

    If the storage fails or lies, a process requests a token of its own.

    :param open_storage: opens the storage of a key.
    :param sleep: waits for some seconds; tests inject it.
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
        # The secret has the entropy of a key, so it needs no slow derivation (NIST SP 800-56C).
        self._key = hmac.digest(b"airflow-provider-isvapp token store", client_secret.encode(), hashlib.sha256)
        self._sleep = sleep
        self._refused: set[str] = set()

    def get(self, scope: str, request: Callable[[], IssuedToken]) -> IssuedToken:
        """Return a token that another process requested, or request one for all.

        :param request: requests a token. While one process does so, others use the old token or wait.
        """
        try:
            token = self._find_or_lease(scope)
        except LimiterUnavailable:
            log.warning("The storage of shared tokens does not respond: this process requests a token of its own.")
            return request()
        if token is not None:
            return token
        try:
            issued = request()
        except BaseException:
            # The next process need not wait for the lease to end.
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
        """Return a stored token; None if this process is to request one."""
        waited = 0.0
        while (found := self._change(scope, self._choose)) == "wait" and waited < 2 * LEASE:
            pause = _POLL_INTERVAL * random.uniform(0.5, 1.5)  # noqa: S311 - spreads attempts, no secret
            self._sleep(pause)
            waited += pause
        return found if isinstance(found, IssuedToken) else None

    def _choose(self, entry: _Entry, now: float) -> tuple[_Entry, IssuedToken | Literal["wait", "request"]]:
        # A clock that was set back, or started again with the machine, makes an entry worthless.
        held = entry.token if entry.issued_at <= now < entry.expires_at and entry.token not in self._refused else None
        leased = now < entry.renewing_until <= now + LEASE
        if held is not None and (leased or now < entry.renew_at):
            return entry, IssuedToken(held, entry.expires_at - now)
        if leased:
            return entry, "wait"
        return msgspec.structs.replace(entry, renewing_until=now + LEASE), "request"

    def _update(self, scope: str, step: Callable[[_Entry, float], _Entry]) -> None:
        try:
            self._change(scope, lambda entry, now: (step(entry, now), None))
        except LimiterUnavailable:
            log.warning("The storage of shared tokens does not respond: other processes request tokens of their own.")

    def _change(self, scope: str, step: Callable[[_Entry, float], tuple[_Entry, T]]) -> T:
        """Replace the entry of a scope, atomically.

        :raises LimiterUnavailable: if the storage does not respond.
        """
        owner = f"{self._owner}\n{scope}".encode()

        def change(text: str | None, now: float) -> tuple[str, T]:
            entry, result = step(self._unseal(text, owner), now)
            return self._seal(entry, owner), result

        name = hmac.digest(self._key, owner, hashlib.sha256).hex()[:32]
        storage = self._open_storage(f"token-{name}")
        try:
            return storage.update(change, timeout=_STORAGE_TIMEOUT)
        finally:
            storage.release()

    def _seal(self, entry: _Entry, owner: bytes) -> str:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # not needed to parse a DAG

        nonce = os.urandom(_NONCE_BYTES)
        return base64.b64encode(nonce + AESGCM(self._key).encrypt(nonce, msgspec.json.encode(entry), owner)).decode()

    def _unseal(self, text: str | None, owner: bytes) -> _Entry:
        """Read an entry; one that another program wrote or changed counts as missing."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            sealed = base64.b64decode(text or "", validate=True)
            plain = AESGCM(self._key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], owner)
            return msgspec.json.decode(plain, type=_Entry)
        except (InvalidTag, ValueError, msgspec.MsgspecError):
            return _Entry()
