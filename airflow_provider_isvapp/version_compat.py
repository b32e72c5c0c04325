# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The differences between Airflow 2.11 and 3.x, in one place.

The rest of the package imports Airflow's names from here. Each name has a separate ``try``, since ``airflow.sdk`` grew
over the releases: a name missing in Airflow 3.0 must not make the others fall back to Airflow 2.
"""

from __future__ import annotations

import inspect
from datetime import datetime
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

try:
    from airflow.triggers.base import BaseEventTrigger
except ImportError:  # Airflow 2.11, which has no AssetWatcher
    BaseEventTrigger = BaseTrigger  # type: ignore[assignment, misc]
try:
    from airflow.sdk.exceptions import AirflowException
except ImportError:
    from airflow.exceptions import AirflowException  # type: ignore[attr-defined]
try:
    from airflow.sdk.exceptions import AirflowFailException
except ImportError:
    from airflow.exceptions import AirflowFailException  # type: ignore[no-redef]
try:
    from airflow.sdk.exceptions import AirflowNotFoundException
except ImportError:
    from airflow.exceptions import AirflowNotFoundException  # type: ignore[attr-defined]
try:
    from airflow.sdk.exceptions import AirflowSensorTimeout
except ImportError:
    from airflow.exceptions import AirflowSensorTimeout  # type: ignore[no-redef]
try:
    from airflow.sdk.exceptions import AirflowSkipException
except ImportError:
    from airflow.exceptions import AirflowSkipException  # type: ignore[no-redef]
try:
    from airflow.sdk import Asset
except ImportError:
    from airflow.datasets import Dataset as Asset  # type: ignore[import-not-found, no-redef]
try:
    from airflow.sdk import AssetAlias
except ImportError:
    from airflow.datasets import DatasetAlias as AssetAlias  # type: ignore[no-redef]
try:
    from airflow.sdk import BaseHook
except ImportError:
    from airflow.hooks.base import BaseHook  # type: ignore[attr-defined, no-redef]
try:
    from airflow.sdk import BaseOperator
except ImportError:
    from airflow.models.baseoperator import BaseOperator  # type: ignore[import-not-found, no-redef]
try:
    from airflow.sdk import BaseOperatorLink
except ImportError:
    from airflow.models.baseoperatorlink import BaseOperatorLink  # type: ignore[import-not-found, no-redef]
try:
    from airflow.sdk import BaseSensorOperator
except ImportError:
    from airflow.sensors.base import BaseSensorOperator  # type: ignore[import-not-found, no-redef]
try:
    from airflow.sdk import Connection
except ImportError:
    from airflow.models.connection import Connection  # type: ignore[assignment]
try:
    from airflow.sdk import Context
except ImportError:
    from airflow.utils.context import Context  # type: ignore[attr-defined, no-redef]
try:
    from airflow.sdk import ObjectStoragePath
except ImportError:
    from airflow.io.path import ObjectStoragePath  # type: ignore[import-not-found, no-redef]
try:
    from airflow.sdk import PokeReturnValue
except ImportError:
    from airflow.sensors.base import PokeReturnValue  # type: ignore[no-redef]
try:
    from airflow.sdk.observability.stats import Stats
except ImportError:
    from airflow.stats import Stats
try:
    from airflow.sdk.configuration import conf
except ImportError:
    from airflow.configuration import conf
try:
    from airflow.sdk.log import mask_secret
except ImportError:
    from airflow.utils.log.secrets_masker import mask_secret  # type: ignore[import-not-found, no-redef]

__all__ = [
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "Asset",
    "AssetAlias",
    "BaseEventTrigger",
    "BaseHook",
    "BaseOperator",
    "BaseOperatorLink",
    "BaseSensorOperator",
    "BaseTrigger",
    "Connection",
    "Context",
    "ObjectStoragePath",
    "PokeReturnValue",
    "Stats",
    "TriggerEvent",
    "add_partitions",
    "alias_extra",
    "conf",
    "date_time_trigger",
    "execute_base_sensor",
    "first_reschedule_of",
    "get_async_connection",
    "has_file_system",
    "mask_secret",
    "next_run_after",
    "partition_key_of",
    "shows_guarded_pages",
    "stores_links",
    "xcom_of",
]


def add_partitions(event: Any, keys: list[str]) -> bool:
    """Send the event of an outlet once per partition; return whether this Airflow can (3.3 and later).

    :param event: the event of an asset, from ``outlet_events``.
    """
    if not hasattr(event, "add_partitions"):
        return False
    event.add_partitions(keys)
    return True


def alias_extra(extra: dict[str, Any]) -> dict[str, Any]:
    """Return the extra of an event of an alias, in a form that this Airflow accepts.

    Airflow 2.11 puts the values into a set, and fails the task if one of them cannot be hashed.
    """
    from airflow import __version__

    return {name: _hashable(value) for name, value in extra.items()} if __version__.startswith("2.") else extra


class _HashableDict(dict[str, Any]):
    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


def _hashable(value: Any) -> Any:
    """Return a hashable value with the same JSON."""
    if isinstance(value, dict):
        return _HashableDict({name: _hashable(item) for name, item in value.items()})
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def date_time_trigger(moment: datetime) -> BaseTrigger:
    """Return Airflow's own trigger that waits until a time.

    :param moment: timezone-aware.
    """
    # Imported here, since only a deferral needs it.
    try:
        from airflow.providers.standard.triggers.temporal import DateTimeTrigger
    except ImportError:
        from airflow.triggers.temporal import DateTimeTrigger  # type: ignore[import-not-found, no-redef]
    trigger: BaseTrigger = DateTimeTrigger(moment)
    return trigger


def execute_base_sensor(sensor: BaseSensorOperator, context: Context) -> Any:
    """Call the base sensor's ``execute``, as ``super().execute(context)`` would.

    Airflow guards each ``execute`` against calls from outside a task, and Airflow 2.11 mistakes a call through
    ``super()`` for one: it would log a warning in every run.
    """
    return inspect.unwrap(BaseSensorOperator.execute)(sensor, context)


def first_reschedule_of(sensor: BaseSensorOperator, context: Context) -> datetime | None:
    """Return the start of a rescheduling sensor's first poll; None if this is the first one."""
    ti: Any = context["ti"]
    if hasattr(ti, "get_first_reschedule_date"):
        found: datetime | None = ti.get_first_reschedule_date(context)
        return found
    # Airflow 2.11, as its own sensors do it.
    from airflow.sensors import base

    first_try = (ti.max_tries or 0) - (sensor.retries or 0) + 1
    ids = {name: getattr(ti, name) for name in ("dag_id", "task_id", "run_id", "map_index")}
    return base._orig_start_date(**ids, try_number=first_try)  # type: ignore[no-any-return]


async def get_async_connection(conn_id: str) -> Connection:
    """Fetch a connection without blocking the event loop.

    Before Airflow 3.3.2, which adds ``Connection.aextra_dejson``, ``BaseHook.aget_connection`` masks secrets through a
    blocking call to the supervisor, which fails during another call (``DeadlockImminentError``). A thread fetches the
    connection there. It must be asgiref's, which runs the coroutines of that call in the waiting event loop.
    """
    if hasattr(Connection, "aextra_dejson"):
        return await BaseHook.aget_connection(conn_id)

    from asgiref.sync import sync_to_async

    return await sync_to_async(BaseHook.get_connection)(conn_id)


def has_file_system(scheme: str) -> bool:
    """Return whether Airflow's object storage can open URIs of a scheme."""
    # Imported here, since it loads all file systems.
    try:
        from airflow.sdk.io import has_fs
    except ImportError:
        from airflow.io import has_fs  # type: ignore[attr-defined, no-redef]
    return bool(has_fs(scheme))


def next_run_after(dag: Any, moment: datetime) -> datetime | None:
    """Return the time of a DAG's next scheduled run after a time; None if there is none.

    :param moment: timezone-aware, a time at which the schedule has a run.
    """
    # Imported here, since only a late run of a list needs them.
    from airflow.timetables.base import DataInterval, TimeRestriction
    from pendulum import instance

    timetable = dag.timetable
    try:
        from airflow.serialization.encoders import coerce_to_core_timetable
    except ImportError:  # before Airflow 3.2, whose DAGs hold core timetables
        pass
    else:
        timetable = coerce_to_core_timetable(timetable)
    info = timetable.next_dagrun_info(
        last_automated_data_interval=DataInterval.exact(instance(moment)),
        restriction=TimeRestriction(earliest=None, latest=None, catchup=True),
    )
    return None if info is None else info.run_after


def partition_key_of(context: Context) -> str | None:
    """Return the partition key of a run; None if it has none, as always before Airflow 3.2."""
    key: str | None = getattr(context["dag_run"], "partition_key", None)
    return key


def shows_guarded_pages() -> bool:
    """Return whether Airflow's UI can show a plugin's page whose script is restricted to some users.

    Plugin pages exist since 3.1. Their scripts are loaded with the session cookie, which 3.1.0 does not accept yet.
    """
    from airflow import __version__
    from packaging.version import Version

    return Version(__version__).release >= (3, 1, 1)


def stores_links() -> bool:
    """Return whether Airflow itself stores a task's links: Airflow 3 does, the web server of 2.11 requests each one."""
    from airflow import __version__

    return not __version__.startswith("2.")


def xcom_of(ti_key: Any, *, key: str) -> Any:
    """Return an XCom of a task instance in the web server of Airflow 2.11; None if there is none.

    :param ti_key: the key with the ids of DAG, run and task, and the map index.
    """
    from airflow.models.xcom import XCom  # not in workers

    return XCom.get_value(ti_key=ti_key, key=key)
