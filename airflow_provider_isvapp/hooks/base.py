# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What both hooks share: stored connections, Airflow's exceptions, timeouts of requests that a user waits for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from airflow_provider_isvapp.api.redaction import password_in
from airflow_provider_isvapp.api.transport import TransportSettings
from airflow_provider_isvapp.errors import ExportTimeout, InvalidConnection, ProviderError
from airflow_provider_isvapp.version_compat import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSensorTimeout,
    BaseHook,
    Connection,
    get_async_connection,
    mask_secret,
)


def as_airflow_error(error: ProviderError) -> AirflowException:
    """Build the Airflow exception that stands for one of our errors, with the same message."""
    if isinstance(error, ExportTimeout):
        return AirflowSensorTimeout(str(error))
    if error.permanent:
        return AirflowFailException(str(error))
    return AirflowException(str(error))


@contextmanager
def airflow_errors() -> Iterator[None]:
    """Turn our errors into Airflow's within a block or, as a decorator, within a function."""
    try:
        yield
    except ProviderError as error:
        raise as_airflow_error(error) from error


SECONDS_IN_QUEUE = 20.0
"""For a turn under the shared limit."""

_ATTEMPTS = 2
_SECONDS_TO_CONNECT = 5.0
_SECONDS_TO_READ = 20.0


def impatient(transport: TransportSettings) -> TransportSettings:
    """Shorten a connection's patience where it is longer."""
    return replace(
        transport,
        attempts=min(transport.attempts, _ATTEMPTS),
        connect_timeout=min(transport.connect_timeout, _SECONDS_TO_CONNECT),
        read_timeout=min(transport.read_timeout, _SECONDS_TO_READ),
    )


# A thread that asks an event loop must not wait for one that has stopped.
_LONGEST_LOOK_UP = 60.0


def look_up(conn_id: str) -> Connection:
    """Fetch a connection.

    :raises InvalidConnection: if there is none of that id.
    :raises ProviderError: if Airflow could not look; it may be able to later.
    """
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        problem: ProviderError = _not_defined(conn_id)
    except Exception as error:  # noqa: BLE001 (database, API server and secrets backends each fail in their own way)
        problem = _not_looked_up(conn_id, error)
    raise problem


async def look_up_async(conn_id: str) -> Connection:
    """Fetch a connection without blocking the event loop.

    :raises InvalidConnection: if there is none of that id.
    :raises ProviderError: if Airflow could not look; it may be able to later.
    """
    try:
        return await _find_async(conn_id)
    except AirflowNotFoundException:
        problem: ProviderError = _not_defined(conn_id)
    except Exception as error:  # noqa: BLE001 (database, API server and secrets backends each fail in their own way)
        problem = _not_looked_up(conn_id, error)
    raise problem


def look_up_in_loop(conn_id: str, loop: asyncio.AbstractEventLoop) -> Connection:
    """Fetch a connection from a thread beside an event loop; raises like :func:`look_up_async`.

    A triggerer asks its supervisor through the loop's own streams, which another thread cannot use.
    """
    looking = asyncio.run_coroutine_threadsafe(look_up_async(conn_id), loop)
    try:
        return looking.result(_LONGEST_LOOK_UP)
    except TimeoutError as error:
        looking.cancel()
        problem = _not_looked_up(conn_id, error)
    raise problem


async def _find_async(conn_id: str) -> Connection:
    try:
        return await get_async_connection(conn_id)
    except AirflowNotFoundException:
        # `airflow dags test` runs a trigger beside a stand-in for the supervisor that has no asynchronous side: what
        # only the database holds is not found through it, but in the blocking way (Airflow 3.3.2).
        return await asyncio.to_thread(BaseHook.get_connection, conn_id)


def fields_of(connection: Connection) -> dict[str, Any]:
    """Take the fields that settings are made of, and hide the secrets among them from all logs.

    Blocks: in a task and in a triggerer the secrets are sent to the supervising process, which masks them as well.

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
    # Connection.extra_dejson makes an empty dict of broken JSON: every setting would silently be the default.
    try:
        extra = json.loads(text) if text and text.strip() else {}
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        raise InvalidConnection('extra: must be a JSON object, as in {"requests_per_second": 2}.')
    return extra


def _without_prefix(extra: dict[str, Any], conn_type: str | None) -> dict[str, Any]:
    """Undo what the Test button of Airflow 2.11 does: it sends each field twice, once as ``extra__<type>__<name>``."""
    prefix = f"extra__{conn_type}__"
    prefixed = {name.removeprefix(prefix): value for name, value in extra.items() if name.startswith(prefix)}
    return prefixed | {name: value for name, value in extra.items() if not name.startswith(prefix)}


def _not_looked_up(conn_id: str, error: Exception) -> ProviderError:
    return ProviderError(f"Airflow could not look up the connection {conn_id!r} ({type(error).__name__}).")


def _not_defined(conn_id: str) -> InvalidConnection:
    return InvalidConnection(
        f"There is no Airflow connection {conn_id!r}. Create it, or give the task the id of another one."
    )
