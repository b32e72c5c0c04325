# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What the hooks share: a base class, connections and configuration, Airflow's exceptions, and interactive timeouts."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from airflow_provider_isvapp.api.redaction import password_in
from airflow_provider_isvapp.api.settings import ConnectionFields, IsvappSettings, naming_connection
from airflow_provider_isvapp.errors import ExportTimeout, InvalidConnection, ProviderError
from airflow_provider_isvapp.metrics import record
from airflow_provider_isvapp.version_compat import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSensorTimeout,
    BaseHook,
    Connection,
    conf,
    get_async_connection,
    mask_secret,
)

if TYPE_CHECKING:
    from airflow_provider_isvapp.api.auth import OpenStorage
    from airflow_provider_isvapp.api.client import ConnectionSettings, VendorClient
    from airflow_provider_isvapp.api.connection_check import Finding
    from airflow_provider_isvapp.ratelimit import Limiter

logger = logging.getLogger(__name__)

_ON_ONE_MACHINE = {"LocalExecutor", "SequentialExecutor", "DebugExecutor"}


def as_airflow_error(error: ProviderError) -> AirflowException:
    """Build the Airflow exception for one of our errors, with the same message."""
    if isinstance(error, ExportTimeout):
        return AirflowSensorTimeout(str(error))
    if error.permanent:
        return AirflowFailException(str(error))
    return AirflowException(str(error))


@contextmanager
def raise_airflow_errors() -> Iterator[None]:
    """Convert our errors to Airflow's within a block or, as a decorator, within a function.

    Airflow logs a failed task's exception last, and the UI opens a failed log at its end: without the chain of causes,
    the user sees the message there. The chain is logged at level DEBUG.
    """
    try:
        yield
    except ProviderError as error:
        logger.debug("The error with its causes", exc_info=True)
        raise as_airflow_error(error) from None


INTERACTIVE_QUEUE_TIMEOUT = 20.0
"""Seconds to wait for a permit of the shared limit while a user waits."""

_INTERACTIVE_ATTEMPTS = 2
_INTERACTIVE_CONNECT_TIMEOUT = 5.0
_INTERACTIVE_READ_TIMEOUT = 20.0


SettingsT = TypeVar("SettingsT", bound="ConnectionSettings")


def interactive_timeouts(settings: SettingsT) -> SettingsT:
    """Shorten a connection's timeouts to what a user waits for."""
    transport = replace(
        settings.transport,
        attempts=min(settings.transport.attempts, _INTERACTIVE_ATTEMPTS),
        connect_timeout=min(settings.transport.connect_timeout, _INTERACTIVE_CONNECT_TIMEOUT),
        read_timeout=min(settings.transport.read_timeout, _INTERACTIVE_READ_TIMEOUT),
    )
    return replace(settings, transport=transport)  # type: ignore[type-var] # both are dataclasses


# Limits the wait of a thread for an event loop, which may have stopped.
_LONGEST_FETCH = 60.0


def fetch_connection(conn_id: str) -> Connection:
    """Fetch a connection.

    :raises InvalidConnection: if it is not defined.
    :raises ProviderError: if Airflow could not fetch it; a retry may help.
    """
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        problem: ProviderError = _not_defined(conn_id)
    except Exception as error:  # noqa: BLE001 (database, API server and secrets backends each fail in their own way)
        problem = _not_fetched(conn_id, error)
    raise problem


async def fetch_connection_async(conn_id: str) -> Connection:
    """Fetch a connection without blocking the event loop; raises like :func:`fetch_connection`."""
    try:
        return await _find_async(conn_id)
    except AirflowNotFoundException:
        problem: ProviderError = _not_defined(conn_id)
    except Exception as error:  # noqa: BLE001 (database, API server and secrets backends each fail in their own way)
        problem = _not_fetched(conn_id, error)
    raise problem


def fetch_connection_in_loop(conn_id: str, loop: asyncio.AbstractEventLoop) -> Connection:
    """Fetch a connection from another thread than the event loop's; raises like :func:`fetch_connection`.

    A triggerer calls its supervisor through streams of the loop, which another thread cannot use.
    """
    fetching = asyncio.run_coroutine_threadsafe(fetch_connection_async(conn_id), loop)
    try:
        return fetching.result(_LONGEST_FETCH)
    except TimeoutError as error:
        fetching.cancel()
        problem = _not_fetched(conn_id, error)
    raise problem


async def _find_async(conn_id: str) -> Connection:
    try:
        return await get_async_connection(conn_id)
    except AirflowNotFoundException:
        # `airflow dags test` runs triggers with a substitute for the supervisor that has no asynchronous API: there,
        # connections of the database are only found by the blocking call (Airflow 3.3.2).
        return await asyncio.to_thread(BaseHook.get_connection, conn_id)


def read_connection(connection: Connection, from_connection: Callable[..., SettingsT], *, conn_type: str) -> SettingsT:
    """Check a connection and create its settings. Blocks, like :func:`connection_fields`.

    :param from_connection: creates the settings from the fields.
    :param conn_type: the required type: credentials of another one must not be sent to the vendor.
    :raises InvalidConnection: naming the connection, and the field that is wrong.
    """
    with naming_connection(connection.conn_id):
        if connection.conn_type != conn_type:
            kind = f"has type {connection.conn_type!r}" if connection.conn_type else "has no type"
            raise InvalidConnection(
                f"Connection {connection.conn_id!r} {kind}; expected {conn_type!r}. "
                "Nothing was sent. Give the id of another connection, or correct its type."
            )
        settings = from_connection(**connection_fields(connection))
    transport = replace(settings.transport, conn_id=connection.conn_id)
    return replace(settings, transport=transport)  # type: ignore[type-var] # both are dataclasses


def connection_fields(connection: Connection) -> ConnectionFields:
    """Return the fields of a connection, and mask its secrets in all logs.

    Blocks: in a task and in a triggerer the secrets are sent to the supervisor, which masks them as well.

    :raises InvalidConnection: if the extra is not a JSON object.
    """
    extra = _without_prefix(_extra(connection.extra), connection.conn_type)
    for secret in (connection.password, password_in(extra.get("rate_limit_storage"))):
        if secret:
            mask_secret(secret)
    return {
        "login": connection.login,
        "password": connection.password,
        "host": connection.host,
        "port": connection.port,
        "schema": connection.schema,
        "extra": extra,
    }


def _extra(text: str | None) -> dict[str, Any]:
    # Connection.extra_dejson returns an empty dict for invalid JSON: every setting would silently be the default.
    try:
        extra = json.loads(text) if text and text.strip() else {}
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        raise InvalidConnection('extra: must be a JSON object, as in {"requests_per_second": 2}.')
    return extra


def _without_prefix(extra: dict[str, Any], conn_type: str | None) -> dict[str, Any]:
    """Merge fields that the Test button of Airflow 2.11 sends twice, once as ``extra__<type>__<name>``."""
    prefix = f"extra__{conn_type}__"
    prefixed = {name.removeprefix(prefix): value for name, value in extra.items() if name.startswith(prefix)}
    return prefixed | {name: value for name, value in extra.items() if not name.startswith(prefix)}


def _not_fetched(conn_id: str, error: Exception) -> ProviderError:
    return ProviderError(
        f"Airflow could not fetch the connection {conn_id!r} ({type(error).__name__}). Try again later."
    )


def _not_defined(conn_id: str) -> InvalidConnection:
    return InvalidConnection(
        f"Connection {conn_id!r} is not defined in Airflow. Create it, or name another connection."
    )


def isvapp_settings(connection: Connection) -> IsvappSettings:
    """Check a connection, and complete it with Airflow's configuration.

    Blocks, like :func:`read_connection`. Warns, once per process, if the limit is stored in a file and Airflow runs
    tasks on several machines.

    :raises InvalidConnection: naming the field that is wrong.
    """
    settings = read_connection(connection, IsvappSettings.from_connection, conn_type="isvapp")
    if not settings.rate_limit_storage:
        settings = replace(settings, rate_limit_storage=configured_storage())
    if settings.rate_limit_storage.partition(":")[0] in ("", "file"):
        executors = distributed_executors(conf.get("core", "executor", fallback="") or "")
        if executors:
            _warn_of_a_file(", ".join(executors))
    return settings


def configured_storage() -> str:
    """Return the limiter's storage in Airflow's configuration; empty for a file on this machine."""
    storage = (conf.get("isvapp", "rate_limit_storage", fallback="") or "").strip()
    if password := password_in(storage):
        mask_secret(password)
    return storage


def distributed_executors(configured: str) -> list[str]:
    """List the executors, by the names of their classes, that may run tasks on several machines.

    :param configured: Airflow's ``[core] executor``. Airflow 2.11 and 3 take a list there, with class paths and
        aliases, and Airflow 3 one for each team: ``LocalExecutor,edge:path.to.EdgeExecutor;team1=CeleryExecutor``.
    """
    classes = [re.split(r"[=:.]", entry.strip())[-1] for entry in re.split(r"[,;]", configured)]
    # In the pods of the KubernetesExecutor, the executor is configured as local (Helm chart,
    # pod-template-file.kubernetes-helm-yaml); this variable marks them (cncf.kubernetes, pod_generator.py).
    if os.environ.get("AIRFLOW_IS_K8S_EXECUTOR_POD"):
        classes.append("KubernetesExecutor")
    return sorted({name for name in classes if name} - _ON_ONE_MACHINE)


@functools.cache
def _warn_of_a_file(executors: str) -> None:
    logger.warning(
        "The request limit of ISVapp is stored in a file, which other machines do not share, but %s may run tasks on "
        "several machines. Each machine would then use the whole limit. Set "
        "[isvapp] rate_limit_storage in Airflow's configuration, or the connection's extra rate_limit_storage, to a "
        "redis:// or postgresql:// URL that all machines reach.",
        executors,
    )


ClientT = TypeVar("ClientT", bound="VendorClient[Any]")


class VendorHook(BaseHook, Generic[ClientT, SettingsT]):
    """Base of the hooks: one client, opened on first use."""

    conn_name_attr: str

    def __init__(self) -> None:
        super().__init__()
        self._client: ClientT | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the network connections; the next call opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def get_conn(self) -> ClientT:
        """Return the vendor's client that the hook uses, always the same one, so that tokens are reused.

        Its methods raise the errors of :mod:`airflow_provider_isvapp.errors` unconverted.

        :raises InvalidConnection: naming the field of the connection that is wrong.
        """
        if self._client is None:
            # This package never logs a token; masking covers other code that writes to the task's log.
            self._client = self._open(
                self._read_settings(), on_new_token=mask_secret, reload_settings=self._read_settings
            )
        return self._client

    def test_connection(self) -> tuple[bool, str]:
        """Test the connection for the Test button: return its account and permissions, or the error."""
        # While it is tested, the form's connection has a temporary id, which says nothing to the user.
        prefix = f"Connection {getattr(self, self.conn_name_attr)!r}: "
        try:
            settings = self._read_settings()
            # Without shared tokens, which would only prove that the credentials were right once.
            with self._open(
                interactive_timeouts(settings), share_tokens=False, wait_timeout=INTERACTIVE_QUEUE_TIMEOUT
            ) as client:
                finding = self._check(client, settings)
        except ProviderError as error:
            return False, str(error).removeprefix(prefix)
        return finding.works, finding.message.removeprefix(prefix)

    def _read_settings(self) -> SettingsT:
        """Read the stored connection.

        :raises InvalidConnection: naming the field that is wrong.
        """
        raise NotImplementedError

    def _open(
        self,
        settings: SettingsT,
        *,
        on_new_token: Callable[[str], object] = lambda _: None,
        share_tokens: bool = True,
        reload_settings: Callable[[], SettingsT] | None = None,
        wait_timeout: float = 600.0,
    ) -> ClientT:
        """Open a client.

        :param on_new_token: called with each new token.
        :param share_tokens: share tokens with other processes.
        :param reload_settings: reads the connection again when the vendor refuses its credentials.
        :param wait_timeout: the maximum wait in seconds for a permit of the shared limit.
        """
        with naming_connection(settings.transport.conn_id):
            limiter = self._limiter(settings, wait_timeout=wait_timeout)
        return self._client_type()(
            settings,
            limiter=limiter,
            observe=record,
            on_new_token=on_new_token,
            open_storage=self._open_storage(settings) if share_tokens else None,
            reload_settings=reload_settings,
        )

    def _client_type(self) -> type[ClientT]:
        """Return the class of the client."""
        raise NotImplementedError

    def _limiter(self, settings: SettingsT, *, wait_timeout: float) -> Limiter:
        """Open the limiter of a connection."""
        raise NotImplementedError

    def _open_storage(self, settings: SettingsT) -> OpenStorage:
        """Return a function that opens the storage for shared tokens, which is the limiter's."""
        from airflow_provider_isvapp.ratelimit import open_storage  # storage back ends are not needed to parse a DAG

        url = self._storage_url(settings)
        return lambda key: open_storage(url, key=key)

    def _storage_url(self, settings: SettingsT) -> str:
        """Return the URL of the storage for shared tokens."""
        raise NotImplementedError

    def _check(self, client: ClientT, settings: SettingsT) -> Finding:
        """Test a connection while a user waits."""
        raise NotImplementedError
