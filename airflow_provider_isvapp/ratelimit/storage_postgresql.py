# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Shares a limit between all hosts that reach one PostgreSQL server, by that server's clock."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, LiteralString, NamedTuple
from urllib.parse import SplitResult

import psycopg
from psycopg import errors

from airflow_provider_isvapp.errors import LimiterUnavailable
from airflow_provider_isvapp.ratelimit.storage import (
    LONGEST_TEXT,
    Change,
    T,
    compare_and_set,
    refused,
    storage_name,
    unavailable,
)

_TIMEOUT = 3
_MOST_READ = LONGEST_TEXT + 1
# If two sessions create it at the same time, one can fail in the system catalogue; its next attempt finds the table.
_CREATE: LiteralString = """
CREATE TABLE IF NOT EXISTS isvapp_rate_limit (key text PRIMARY KEY, state text NOT NULL) WITH (fillfactor = 50)
"""
# An empty or too long state is invalid, but its row exists and is replaced like any other.
_READ: LiteralString = """
SELECT
    (SELECT coalesce(left(state, %s), '') FROM isvapp_rate_limit WHERE key = %s),
    extract(epoch FROM clock_timestamp())::float8
"""
# The settings travel with the write in one message and end with it. The commit is asynchronous: a server that
# crashes can lose the last half second, which is worth two requests.
_INSERT: LiteralString = """
SET LOCAL lock_timeout = '2s'; SET LOCAL synchronous_commit = off;
INSERT INTO isvapp_rate_limit (state, key) VALUES (%s, %s) ON CONFLICT DO NOTHING
"""
_UPDATE: LiteralString = """
SET LOCAL lock_timeout = '2s'; SET LOCAL synchronous_commit = off;
UPDATE isvapp_rate_limit SET state = %s WHERE key = %s AND coalesce(left(state, %s), '') = %s
"""


class PostgresqlStorage:
    """One row per key, in a table that the first use creates.

    A thread keeps its connection only while it waits for a permit, and closes it before a longer sleep: hundreds of
    waiting tasks must not take all connections of the server.
    """

    def __init__(self, url: SplitResult, key: str) -> None:
        if not _readable(url):
            raise ValueError("libpq does not understand this URL")
        self._url = url
        self._key = key
        self.name = storage_name(url)
        self._of_thread = threading.local()

    def update(self, change: Change[T], *, timeout: float) -> T:
        """See `Storage`."""
        return compare_and_set(self, change, timeout=timeout)

    def release(self) -> None:
        """Close this thread's connection."""
        connection = self._open_connection()
        self._of_thread.connection = None
        if connection is not None:
            connection.close()

    def read(self) -> tuple[str | None, float]:
        """See `Cell`."""
        text, now = self._execute(_READ, _MOST_READ, self._key).row
        return text, now

    def replace(self, old: str | None, new: str) -> bool:
        """See `Cell`."""
        if old is None:
            return self._execute(_INSERT, new, self._key).written == 1
        return self._execute(_UPDATE, new, self._key, _MOST_READ, old).written == 1

    def _execute(self, statement: LiteralString, *parameters: str | int) -> _Result:
        failure: LimiterUnavailable
        try:
            connection = self._open_connection() or self._connect()
            with _cut_off(connection):
                try:
                    return _last_result(connection, statement, *parameters)
                except errors.UndefinedTable:
                    _last_result(connection, _CREATE)
                    return _last_result(connection, statement, *parameters)
        except (psycopg.ProgrammingError, psycopg.DataError) as error:
            failure = refused(self._url, error, where="table isvapp_rate_limit")
        # ValueError: a text that is not UTF-8, as a database without an encoding can contain.
        except (psycopg.Error, OSError, ValueError) as error:
            failure = unavailable(self._url, error)
        self.release()
        raise failure

    def _open_connection(self) -> psycopg.Connection[Any] | None:
        process, connection = getattr(self._of_thread, "connection", None) or (0, None)
        # A forked child must not use its parent's connection.
        return connection if process == os.getpid() else None

    def _connect(self) -> psycopg.Connection[Any]:
        # A ClientCursor puts the parameters into the text: only then can one message contain several statements.
        connection = psycopg.connect(
            self._url.geturl(),
            autocommit=True,
            connect_timeout=_TIMEOUT,
            application_name="airflow-provider-isvapp",
            # Without it, a database without an encoding returns bytes.
            client_encoding="utf8",
            cursor_factory=psycopg.ClientCursor,
        )
        self._of_thread.connection = (os.getpid(), connection)
        return connection


def _readable(url: SplitResult) -> bool:
    try:
        psycopg.conninfo.conninfo_to_dict(url.geturl())
    except psycopg.Error:
        return False
    return True


class _Result(NamedTuple):
    written: int
    row: tuple[Any, ...]


def _last_result(connection: psycopg.Connection[Any], statement: LiteralString, *parameters: str | int) -> _Result:
    cursor = connection.execute(statement, parameters)
    while cursor.nextset():
        pass
    return _Result(cursor.rowcount, (cursor.fetchone() or ()) if cursor.description else ())


@contextmanager
def _cut_off(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Close the connection if the server hangs: the driver has no timeout for a response."""
    with socket.socket(fileno=os.dup(connection.fileno())) as same_connection:
        timer = threading.Timer(_TIMEOUT, _shut_down, [same_connection])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _shut_down(connection: socket.socket) -> None:
    # The response may arrive, and the socket be closed, at the same time.
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
