# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The one place that knows where Airflow 2.11 and 3.x keep things.

The rest of the package imports Airflow from here. Names that moved between the lines come from the common-compat
provider; what did not move comes from Airflow itself.
"""

from __future__ import annotations

import inspect
from datetime import datetime
from typing import Any

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSensorTimeout,
    Asset,
    AssetAlias,
    BaseHook,
    BaseOperator,
    BaseOperatorLink,
    BaseSensorOperator,
    Connection,
    Context,
    ObjectStoragePath,
    PokeReturnValue,
    Stats,
    conf,
    mask_secret,
)
from airflow.triggers.base import BaseTrigger, TriggerEvent

__all__ = [
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowSensorTimeout",
    "Asset",
    "AssetAlias",
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
    "alias_extra",
    "conf",
    "execute_base_sensor",
    "first_reschedule_of",
    "get_async_connection",
    "has_file_system",
    "mask_secret",
    "shows_guarded_pages",
    "xcom_of",
]


def alias_extra(extra: dict[str, Any]) -> dict[str, Any]:
    """Return the extra of an event that comes by an alias, as this Airflow takes it.

    Airflow 2.11 puts the values into a set, and fails the task if one of them cannot be hashed.
    """
    from airflow import __version__

    return {name: _hashable(value) for name, value in extra.items()} if __version__.startswith("2.") else extra


class _HashableDict(dict[str, Any]):
    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


def _hashable(value: Any) -> Any:
    """Return what has the same JSON and can be hashed."""
    if isinstance(value, dict):
        return _HashableDict({name: _hashable(item) for name, item in value.items()})
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def execute_base_sensor(sensor: BaseSensorOperator, context: Context) -> Any:
    """Call what ``super().execute(context)`` stands for in a sensor.

    Airflow guards each ``execute`` against calls from outside of a task, and Airflow 2.11 takes one through ``super()``
    for that: it would log a warning in every run.
    """
    return inspect.unwrap(BaseSensorOperator.execute)(sensor, context)


def first_reschedule_of(sensor: BaseSensorOperator, context: Context) -> datetime | None:
    """Return when the first of a rescheduling sensor's looks began; None if this is the first one."""
    ti: Any = context["ti"]
    if hasattr(ti, "get_first_reschedule_date"):
        found: datetime | None = ti.get_first_reschedule_date(context)
        return found
    # Airflow 2.11, as its own sensors do it.
    from airflow.sensors import base  # type: ignore[attr-defined]

    first_try = (ti.max_tries or 0) - (sensor.retries or 0) + 1
    ids = {name: getattr(ti, name) for name in ("dag_id", "task_id", "run_id", "map_index")}
    return base._orig_start_date(**ids, try_number=first_try)  # type: ignore[no-any-return]


def has_file_system(scheme: str) -> bool:
    """Say whether Airflow's object storage can open addresses of a scheme."""
    # In here, since it loads all file systems. Common-compat's `io` lacks the function on Airflow 3.0.
    try:
        from airflow.sdk.io import has_fs
    except ImportError:
        from airflow.io import has_fs  # type: ignore[attr-defined, no-redef]
    return bool(has_fs(scheme))


def shows_guarded_pages() -> bool:
    """Say whether Airflow's UI can show a plugin's page whose script is for some users only.

    Pages of plugins came with 3.1. Their scripts are loaded with the session's cookie, which 3.1.0 does not accept yet.
    """
    from airflow import __version__
    from packaging.version import Version

    return Version(__version__).release >= (3, 1, 1)


def xcom_of(ti_key: Any, *, key: str) -> Any:
    """Return an XCom of one task instance, None if there is none: in a task of Airflow 3, in the web server of 2.11.

    :param ti_key: with the ids of DAG, run and task, and the map index.
    """
    # In here, since it makes Airflow choose and load the storage of XComs.
    from airflow.providers.common.compat.sdk import XCom

    return XCom.get_value(ti_key=ti_key, key=key)
