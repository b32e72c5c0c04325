# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The connections that the exports page can show, and how it asks them. Everything in here blocks."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace

from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.api.isvapp.export import Export
from airflow_provider_isvapp.api.isvapp.settings import IsvappSettings
from airflow_provider_isvapp.errors import InvalidConnection
from airflow_provider_isvapp.hooks.somebody_waits import SECONDS_IN_QUEUE, impatient
from airflow_provider_isvapp.hooks.stored_connection import fields_of, look_up
from airflow_provider_isvapp.limiter import open_limiter
from airflow_provider_isvapp.metrics import record

CONN_TYPE = "isvapp"

_ENVIRONMENT_PREFIX = "AIRFLOW_CONN_"


def stored_ids() -> list[str]:
    """List the connections of type ``isvapp`` in the metadata database."""
    from airflow.models.connection import Connection as StoredConnection  # the database's model
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        found = select(StoredConnection.conn_id).where(StoredConnection.conn_type == CONN_TYPE)
        return sorted(session.scalars(found))


def ids_in_environment(environment: Mapping[str, str] = os.environ) -> list[str]:
    """List the connections of type ``isvapp`` that variables of this process define.

    Airflow reads the variable's name in capitals whatever the id's case; the usual id is the one in small letters.
    """
    names = (name for name in environment if name.startswith(_ENVIRONMENT_PREFIX))
    return sorted(
        conn_id
        for conn_id in (name.removeprefix(_ENVIRONMENT_PREFIX).lower() for name in names)
        if _is_isvapp(environment[f"{_ENVIRONMENT_PREFIX}{conn_id.upper()}"])
    )


def _is_isvapp(definition: str) -> bool:
    try:
        fields = json.loads(definition)
    except ValueError:
        return definition.startswith(f"{CONN_TYPE}://")
    return isinstance(fields, dict) and fields.get("conn_type") == CONN_TYPE


class ConnectionReader:
    """Asks ISVapp for the exports of connections.

    Keeps the client of each connection, so that its access token is used again. Not for several threads at once with
    the same connection.
    """

    def __init__(self) -> None:
        self._clients: dict[str, tuple[IsvappSettings, IsvappClient]] = {}

    def __call__(self, conn_id: str) -> list[Export]:
        """List a connection's exports: one request, and one more when a token is needed.

        :raises ProviderError: what went wrong, with the next step.
        """
        return self._client(conn_id).list_exports()

    def _client(self, conn_id: str) -> IsvappClient:
        settings = _settings(conn_id)
        if conn_id in self._clients:
            known, client = self._clients[conn_id]
            if known == settings:
                return client
            client.close()
        limiter = open_limiter(
            settings.rate_limit_storage,
            key=settings.limiter_key,
            requests_per_second=settings.requests_per_second,
            wait_timeout=SECONDS_IN_QUEUE,
            observe=record,
        )
        client = IsvappClient(settings, limiter=limiter, observe=record)
        self._clients[conn_id] = (settings, client)
        return client


def _settings(conn_id: str) -> IsvappSettings:
    connection = look_up(conn_id)
    if connection.conn_type != CONN_TYPE:
        raise InvalidConnection(
            f"The connection {conn_id!r} is of the type {connection.conn_type!r}. This page shows those of the type "
            f"{CONN_TYPE!r}."
        )
    settings = IsvappSettings.from_connection(**fields_of(connection))
    return replace(settings, transport=impatient(settings.transport))
