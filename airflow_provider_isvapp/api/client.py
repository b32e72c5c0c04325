# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What the clients of both vendors share: one transport, and credentials that are read again when they are refused."""

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
    """What :class:`Credentials` needs of a connection's settings."""

    @property
    def transport(self) -> TransportSettings:
        """How to talk to the vendor."""

    @property
    def credentials(self) -> tuple[str | None, str]:
        """The client id, if there is one, and the secret."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets, which no text may show."""


Settings = TypeVar("Settings", bound=ConnectionSettings)
Result = TypeVar("Result")


class Credentials(Generic[Settings]):
    """The authorizer of a connection, replaced when the stored connection has new credentials.

    A client can live for hours: in a triggerer, or in a task that downloads many months. When the credentials are
    rotated meanwhile, the vendor refuses the old ones; the connection is then read again, once for each refused call.

    :param settings: the connection as it was read first.
    :param build: makes the authorizer for some settings.
    :param reload_settings: reads the connection again; None if refused credentials stay refused.
    :param redactor: gets each secret.
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

        :raises AuthenticationRefused: if there are no other credentials, or those are refused as well.
        :raises ProviderError: if the connection could not be read again.
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
        """Read the connection again; return whether it has other credentials for the same host."""
        if self._reload_settings is None:
            return False
        settings = self._reload_settings()
        if settings.credentials == self._settings.credentials:
            return False
        if origin(settings.transport.base_url) != origin(self._settings.transport.base_url):
            # The client still talks to the old host, which must not see credentials for another one.
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
    """Check an id of the vendor's, and encode it as a segment of a URL's path.

    :param name: of the argument, for the message.
    :raises InvalidArgument: if it is none.
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
    """Talks to one vendor for one connection.

    A context manager; not for several threads at once. Every call may wait for a permit of the limiter, so code on an
    event loop calls it in a thread.

    :param settings: the checked connection.
    :param limiter: shared by everybody who uses the same account.
    :param observe: told of each request, and of each export that was created.
    :param on_new_token: gets each access token as soon as it is there, so that logs can be told to hide it.
    :param open_storage: opens the storage, by a key, in which processes share their tokens; None not to share them.
    :param reload_settings: reads the connection again, in the calling thread, when its credentials are refused; called
        once for each refused call. Without it, or if the credentials are still the same, the refusal stands.
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
        self._vendor = settings.transport.vendor
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
        """Make the authorizer for some settings."""
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
        """How many seconds our clock is ahead of the vendor's, by its latest response; None if that is not known."""
        return self._transport.clock_skew

    def check_scope(self, scope: str) -> None:
        """Get a token for a scope, as the first request that needs it would. Says nothing about an API key.

        :raises RequestRefused: when there is none to be had.
        """
        self._credentials.call(lambda authorizer: authorizer.token(scope))

    def _fetch(self, request: Request) -> Response:
        return self._credentials.call(lambda authorizer: self._transport.fetch(request, authorizer))

    def _warn_of(self, field: str, oddity: str) -> None:
        """Warn of a value that was read in spite of its form: once a field, as every record may have it."""
        if field not in self._odd_fields:
            self._odd_fields.add(field)
            log.warning("%s", oddity)
