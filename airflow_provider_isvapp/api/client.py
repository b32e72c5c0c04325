# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The base of both vendors' clients: one transport, and credentials that are reloaded after a refusal."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar
from urllib.parse import quote

from airflow_provider_isvapp.api.auth import OpenStorage
from airflow_provider_isvapp.api.network import origin
from airflow_provider_isvapp.api.redaction import Redactor
from airflow_provider_isvapp.api.responses import Response
from airflow_provider_isvapp.api.settings import TransportSettings, naming_connection
from airflow_provider_isvapp.api.transport import Authorizer, Request, Transport
from airflow_provider_isvapp.errors import TEMPLATE_NOTHING, TEMPLATE_NUMBER, AuthenticationRefused, InvalidArgument
from airflow_provider_isvapp.events import Observer, no_op_observer

if TYPE_CHECKING:
    from airflow_provider_isvapp.ratelimit import Limiter

log = logging.getLogger(__name__)


class ConnectionSettings(Protocol):
    """The settings of a connection that :class:`Credentials` needs."""

    @property
    def transport(self) -> TransportSettings:
        """How to send requests to the vendor."""

    @property
    def credentials(self) -> tuple[str | None, str]:
        """Client id and secret, to detect a rotation."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets to redact."""


Settings = TypeVar("Settings", bound=ConnectionSettings)
Result = TypeVar("Result")


class Credentials(Generic[Settings]):
    """The authorizer of a connection, replaced when the stored connection has new credentials.

    A client can exist for hours: in a triggerer, or in a task that downloads many months. If the credentials are
    rotated meanwhile, the vendor refuses the old ones; the connection is then read again, once per refused call.

    :param settings: the connection as first read.
    :param build: creates the authorizer for settings.
    :param reload_settings: reads the connection again; None to accept a refusal.
    :param redactor: receives each secret.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        build: Callable[[Settings], Authorizer],
        reload_settings: Callable[[], Settings] | None,
        redactor: Redactor,
    ) -> None:
        self._build = build
        self._reload_settings = reload_settings
        self._redactor = redactor
        self._use(settings)

    def call(self, action: Callable[[Authorizer], Result]) -> Result:
        """Run an action; if the credentials are refused and new ones are stored, run it again with those.

        :raises AuthenticationRefused: if no new credentials are stored, or if they are refused as well.
        :raises ProviderError: if the connection cannot be read again.
        """
        with naming_connection(self._settings.transport.conn_id):
            try:
                return action(self._authorizer)
            except AuthenticationRefused as error:
                refused = error
            if not self._reload():
                raise refused
            return action(self._authorizer)

    def _reload(self) -> bool:
        """Read the connection again; return whether it has new credentials for the same origin."""
        if self._reload_settings is None:
            return False
        settings = self._reload_settings()
        if settings.credentials == self._settings.credentials:
            return False
        if origin(settings.transport.base_url) != origin(self._settings.transport.base_url):
            # The client still uses the old host, which must not get the credentials of another one.
            return False
        log.info("%s refused the credentials; using the connection's new ones", settings.transport.vendor)
        self._use(settings)
        return True

    def _use(self, settings: Settings) -> None:
        for secret in settings.secrets:
            self._redactor.add(secret)
        self._settings = settings
        self._authorizer = self._build(settings)


def id_in_path(name: str, value: object) -> str:
    """Check a vendor's id, and encode it as a segment of a URL's path.

    :param name: the argument's, for the message.
    :raises InvalidArgument: if it is not an id.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise InvalidArgument(f"{name}: must be a string, not the number {value!r}. {TEMPLATE_NUMBER}")
    if value is None or value in ("None", "null"):
        raise InvalidArgument(f"{name}: must be an id, not {value!r}. {TEMPLATE_NOTHING}")
    if not isinstance(value, str) or not value.strip():
        raise InvalidArgument(f"{name}: must be a non-empty string, not {value!r:.100}.")
    if "{{" in value:
        raise InvalidArgument(f"{name}: the template {value!r:.100} is not rendered: check where it is passed.")
    return quote(value, safe="")


class VendorClient(Generic[Settings]):
    """A client of one vendor for one connection.

    A context manager; not thread-safe. Every call may wait for a permit of the limiter, so call it in a thread from an
    event loop.

    :param settings: the checked connection.
    :param limiter: shared by all processes that use the same account.
    :param observe: called with each request, and with each export that was created.
    :param on_new_token: called with each access token as soon as it arrives, so that logs can mask it.
    :param open_storage: opens the storage that shares tokens between processes, by its key; None not to share them.
    :param reload_settings: reads the connection again, in the calling thread, once per refused call. Without it, or if
        the credentials are unchanged, the call fails.
    :param clock: seconds since the epoch; tests inject it, as they do ``sleep``.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        limiter: Limiter,
        observe: Observer = no_op_observer,
        on_new_token: Callable[[str], object] = lambda _: None,
        open_storage: OpenStorage | None = None,
        reload_settings: Callable[[], Settings] | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._base_url = settings.transport.base_url
        self.vendor = settings.transport.vendor
        self._observe = observe
        self._on_new_token = on_new_token
        self._open_storage = open_storage
        self._clock = clock
        self._odd_fields: set[str] = set()
        self._transport = Transport(settings.transport, limiter=limiter, observe=observe, clock=clock, sleep=sleep)
        self._credentials = Credentials(
            settings, build=self._authorizer, reload_settings=reload_settings, redactor=self._transport.redact
        )

    def _authorizer(self, settings: Settings) -> Authorizer:
        """Create the authorizer for settings."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    @property
    def clock_skew(self) -> float | None:
        """The seconds that our clock is ahead of the vendor's, by its latest response; None if not known."""
        return self._transport.clock_skew

    def check_scope(self, scope: str) -> None:
        """Get a token for a scope, as the first request that needs it does. Cannot check an API key.

        :raises RequestRefused: if the vendor refuses the scope or the credentials.
        """
        self._credentials.call(lambda authorizer: authorizer.token(scope))

    def _fetch(self, request: Request) -> Response:
        return self._credentials.call(lambda authorizer: self._transport.fetch(request, authorizer))

    def _warn_once(self, field: str, oddity: str) -> None:
        """Warn about a value in an undocumented form, once per field, since every record may have one."""
        if field not in self._odd_fields:
            self._odd_fields.add(field)
            log.warning("%s", oddity)
