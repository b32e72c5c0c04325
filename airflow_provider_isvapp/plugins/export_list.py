# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What the page "ISVapp exports" lists: exports read from ISVapp and cached briefly, and the tasks that they belong to.

The functions for exports do not block the event loop; reading connections, links and exports does.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.api.isvapp.export_state import classify
from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.api.redaction import Redactor
from airflow_provider_isvapp.api.settings import IsvappSettings
from airflow_provider_isvapp.errors import ProviderError
from airflow_provider_isvapp.hooks.base import (
    INTERACTIVE_QUEUE_TIMEOUT,
    fetch_connection,
    interactive_timeouts,
    isvapp_settings,
)
from airflow_provider_isvapp.links.isvapp import IsvappExportLink, export_of
from airflow_provider_isvapp.metrics import record
from airflow_provider_isvapp.ratelimit import open_limiter

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

    Airflow converts an id to upper case for the name of its variable; the original is assumed to be lower case.
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
    """Reads the exports of connections from ISVapp.

    Keeps the client of each connection to reuse its access token. Not thread-safe for the same connection.
    """

    def __init__(self) -> None:
        self._clients: dict[str, tuple[IsvappSettings, IsvappClient]] = {}

    def __call__(self, conn_id: str) -> list[Export]:
        """List the exports of a connection: one request, and another one when a token is needed.

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
            wait_timeout=INTERACTIVE_QUEUE_TIMEOUT,
            observe=record,
        )
        client = IsvappClient(settings, limiter=limiter, observe=record)
        self._clients[conn_id] = (settings, client)
        return client


def _settings(conn_id: str) -> IsvappSettings:
    return interactive_timeouts(isvapp_settings(fetch_connection(conn_id)))


# Long enough to absorb repeated clicks, shorter than the fastest export.
KEEP_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The response to one request.

    :param read_at: when it arrived, timezone-aware.
    :param error: what went wrong and the next step; then there are no exports.
    """

    exports: tuple[Export, ...]
    read_at: datetime
    error: str | None = None


class ExportListCache:
    """Reads each connection at most once in a few seconds, even if reading fails. For one event loop.

    Viewers share a read in progress, without a thread each: a vendor that does not respond occupies one thread
    per connection, whatever the number of open pages.

    :param read: returns the exports of a connection; blocks, so it runs in a thread, and never twice at the same time
        for the same connection.
    :param clock: monotonic seconds; tests inject it.
    """

    def __init__(
        self,
        read: Callable[[str], list[Export]],
        *,
        keep_seconds: float = KEEP_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._keep_seconds = keep_seconds
        self._clock = clock
        self._kept: dict[str, tuple[float, Reading]] = {}
        self._in_progress: dict[str, asyncio.Task[Reading]] = {}

    async def of(self, conn_id: str) -> Reading:
        """Return the latest reading if it is fresh, else read again.

        :raises Exception: from ``read``; a :class:`ProviderError` becomes part of the reading instead.
        """
        self._drop_old()
        if conn_id in self._kept:
            return self._kept[conn_id][1]
        if conn_id not in self._in_progress:
            task = asyncio.create_task(self._read_now(conn_id))
            self._in_progress[conn_id] = task
            task.add_done_callback(lambda _: self._in_progress.pop(conn_id))
        # A viewer that disconnects must not cancel the read of the others.
        return await asyncio.shield(self._in_progress[conn_id])

    async def _read_now(self, conn_id: str) -> Reading:
        try:
            exports = await asyncio.to_thread(self._read, conn_id)
        except ProviderError as error:
            reading = Reading(exports=(), read_at=datetime.now(UTC), error=str(error))
        else:
            reading = Reading(exports=tuple(exports), read_at=datetime.now(UTC))
        self._kept[conn_id] = (self._clock(), reading)
        return reading

    def _drop_old(self) -> None:
        oldest = self._clock() - self._keep_seconds
        self._kept = {conn_id: kept for conn_id, kept in self._kept.items() if kept[0] > oldest}


# The vendor's documented limit.
MOST_ROWS = 1000
# The longest id or message. Our errors are shorter.
_LONGEST_TEXT = 2000
_REDACT = Redactor()


@dataclass(frozen=True, kw_only=True)
class ExportRow:
    """One export on the page. Fields that the vendor omits are None.

    :param state: an :class:`ExportState`: the state of the export at the time of the reading.
    :param created_at: in ISO 8601, like the other times.
    :param age_seconds: the time since its creation.
    :param duration_seconds: the time from creation to completion or error; None while it is pending.
    :param expires_in_seconds: the time until its file expires; negative if it has expired.
    :param error_message: the vendor's message after :func:`shown`, without words that contain URLs.
    """

    id: str
    state: str
    created_at: str | None
    finished_at: str | None
    expires_at: str | None
    age_seconds: float | None
    duration_seconds: float | None
    expires_in_seconds: float | None
    compressed_bytes: int | None
    plain_bytes: int | None
    error_message: str | None


def to_rows(exports: Iterable[Export], *, now: datetime) -> list[ExportRow]:
    """Return the rows of the 1000 newest exports, newest first, with exports of unknown age last.

    :param now: when the exports were read, timezone-aware.
    """
    newest_first = sorted(
        exports, key=lambda export: export.created_at.timestamp() if export.created_at else float("-inf"), reverse=True
    )
    return [_row(export, now) for export in newest_first[:MOST_ROWS]]


def shown(text: str) -> str:
    """Redact and shorten a text for the page. The client has already removed the connection's own secrets."""
    return _REDACT(text, longest=_LONGEST_TEXT)


def _without_urls(message: str) -> str:
    # The vendor's message may quote a signed URL.
    return " ".join("(URL)" if "://" in word else word for word in message.split())


def _row(export: Export, now: datetime) -> ExportRow:
    finished_at = export.completed_at or export.errored_at
    return ExportRow(
        id=shown(export.id),
        state=str(classify(export, now=now)),
        created_at=_iso(export.created_at),
        finished_at=_iso(finished_at),
        expires_at=_iso(export.expires_at),
        age_seconds=_not_negative(_seconds(export.created_at, now)),
        duration_seconds=_not_negative(_seconds(export.created_at, finished_at)),
        expires_in_seconds=_seconds(now, export.expires_at),
        compressed_bytes=export.download_size_compressed_bytes,
        plain_bytes=export.download_size_uncompressed_bytes,
        error_message=_without_urls(shown(export.error_message)) if export.error_message else None,
    )


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return round((end - start).total_seconds(), 1) if start and end else None


def _not_negative(seconds: float | None) -> float | None:
    # The vendor's clock may be ahead of ours.
    return None if seconds is None else max(seconds, 0.0)


# Opening the page reads no more rows than these, however many tasks there were.
MOST_LINKS = 10_000
# Exports are dated by the vendor's clock, links by the database's.
_CLOCKS_APART = timedelta(days=1)

_LINK_KEY = f"_link_{IsvappExportLink.__name__}"
# Names of operator classes. A subclass with another name may do anything.
_CREATING = frozenset({"IsvappExportOperator", "IsvappCreateExportOperator"})


@dataclass(frozen=True, kw_only=True)
class ExportTask:
    """The task of an export.

    :param map_index: the index of a mapped task; -1 for others.
    :param map_label: the UI's label of the mapped task: the rendered ``map_index_template``, else the index.
    :param created: whether the task created the export; if not, it waited for it or downloaded it.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    map_label: str
    created: bool


def tasks_of(exports: Iterable[Export], *, conn_id: str, dag_ids: Collection[str]) -> dict[str, ExportTask]:
    """Find the tasks of exports with one query.

    The query uses the index on XCom keys, and reads no XCom older than the oldest export.

    :param conn_id: the connection of the exports.
    :param dag_ids: the DAGs that the user may read.
    :return: by export id, the task that created the export, or else the first one that used it.
    """
    created = [export.created_at for export in exports if export.created_at]
    if not created or not dag_ids:
        return {}
    found: dict[str, ExportTask] = {}
    for task, url in reversed(_newest_links(since=min(created) - _CLOCKS_APART, dag_ids=dag_ids)):
        conn_and_export = export_of(url)
        if conn_and_export is None or conn_and_export[0] != conn_id:
            continue
        known = found.setdefault(conn_and_export[1], task)
        if task.created and not known.created:
            found[conn_and_export[1]] = task
    return found


def _newest_links(*, since: datetime, dag_ids: Collection[str]) -> list[tuple[ExportTask, object]]:
    from airflow.models.taskinstance import TaskInstance  # the database's models
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import and_, select

    # Airflow 3.4 keeps the XComs of each attempt, and shows those of old and new tables as one that knows the attempt.
    same_task = (
        TaskInstance.id == XComModel.task_instance_id
        if hasattr(XComModel, "task_instance_id")
        else and_(
            TaskInstance.dag_id == XComModel.dag_id,
            TaskInstance.run_id == XComModel.run_id,
            TaskInstance.task_id == XComModel.task_id,
            TaskInstance.map_index == XComModel.map_index,
        )
    )
    newest = (
        select(
            XComModel.dag_id,
            XComModel.run_id,
            XComModel.task_id,
            XComModel.map_index,
            XComModel.value,
            TaskInstance.operator,
            TaskInstance.rendered_map_index.label("map_label"),  # type: ignore[attr-defined] # a hybrid property
        )
        .join(TaskInstance, same_task)
        .where(XComModel.key == _LINK_KEY, XComModel.timestamp >= since, XComModel.dag_id.in_(dag_ids))
        .order_by(XComModel.timestamp.desc())
        .limit(MOST_LINKS)
    )
    with create_session() as session:
        return [
            (
                ExportTask(
                    dag_id=row.dag_id,
                    run_id=row.run_id,
                    task_id=row.task_id,
                    map_index=row.map_index,
                    map_label=row.map_label or str(row.map_index),
                    created=row.operator in _CREATING,
                ),
                _plain(row.value),
            )
            for row in session.execute(newest)
        ]


def _plain(value: object) -> object:
    """Parse a stored value as JSON, and do not deserialize it: an XCom of a DAG can name any class."""
    try:
        return json.loads(value)  # type: ignore[arg-type]
    except (ValueError, TypeError, RecursionError):
        return value
