# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The parts of a task's context that the operators read, and a run of a task with its deferrals."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from airflow import __version__ as airflow_version
from airflow.serialization.serialized_objects import BaseSerialization

if airflow_version.startswith("2."):
    from airflow.exceptions import AirflowSkipException, TaskDeferred
    from airflow.utils.context import OutletEventAccessors
elif airflow_version.startswith(("3.0.", "3.1.")):
    from airflow.exceptions import AirflowSkipException, TaskDeferred
    from airflow.sdk.execution_time.context import OutletEventAccessors  # type: ignore[assignment]
else:
    from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred
    from airflow.sdk.execution_time.context import OutletEventAccessors  # type: ignore[assignment]

__all__ = [
    "AirflowSkipException",
    "TaskDeferred",
    "TaskInstance",
    "TaskStateStore",
    "alias_events",
    "run_to_its_end",
    "task_context",
]


class TaskInstance:
    """The parts of a task instance that the operators use.

    :param max_tries: Airflow's bookkeeping, which a clear changes.
    """

    def __init__(self, *, max_tries: int = 3) -> None:
        self.max_tries = max_tries
        self.dag_id, self.run_id, self.task_id, self.map_index = "dag", "run", "task", -1
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = json.loads(json.dumps(value))


class TaskStateStore:
    """Airflow 3.3's store of one task: JSON values by key."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(self.values[key]) if key in self.values else default

    def set(self, key: str, value: Any) -> None:
        assert value is not None
        self.values[key] = json.dumps(value)

    def delete(self, key: str) -> None:
        self.values.pop(key, None)


def task_context(store: TaskStateStore | None = None, *, max_tries: int = 3) -> Any:
    """A context with Airflow's own accessors of outlet events.

    :param store: the task state store of Airflow 3.3; None for earlier versions.
    :param max_tries: Airflow's bookkeeping, which a clear changes.
    """
    context: dict[str, Any] = {
        "dag_run": SimpleNamespace(run_type="manual"),
        "outlet_events": OutletEventAccessors(),
        "task": SimpleNamespace(),
        "ti": TaskInstance(max_tries=max_tries),
    }
    if store is not None:
        context["task_state_store"] = store
    return context


def alias_events(context: Any, alias: Any) -> dict[str, Any]:
    """Return the events of an alias: the extra by the URI of the asset."""
    accessor = context["outlet_events"][alias]
    if airflow_version.startswith("2."):
        assert all(frozenset(event["extra"].items()) for event in accessor.dataset_alias_events)  # as Airflow does
        return {
            event["dest_dataset_uri"]: json.loads(json.dumps(event["extra"])) for event in accessor.dataset_alias_events
        }
    return {event.dest_asset_key.uri: event.extra for event in accessor.asset_alias_events}


def run_to_its_end(make: Callable[[], Any], context: Any, *, deferred: Callable[[Any], None] = lambda _: None) -> Any:
    """Run a task as Airflow does: each start in a new operator, each trigger from its serialized form.

    :param make: makes the operator.
    :param deferred: called with each deferral before its trigger runs.
    """
    try:
        return make().execute(context)
    except TaskDeferred as deferral:
        pending = deferral
    while True:
        deferred(pending)
        # dag.test() of Airflow 3.3 loses the deferral's arguments, so no operator may need any.
        arguments = {"event": _event_of(pending.trigger)}
        try:
            return make().resume_execution(pending.method_name, arguments, context)
        except TaskDeferred as deferral:
            pending = deferral


def _event_of(trigger: Any) -> Any:
    path, stored_arguments = trigger.serialize()
    arguments = _stored(stored_arguments)
    module, _, name = path.rpartition(".")
    stored = getattr(importlib.import_module(module), name)(**arguments)

    async def all_events() -> list[Any]:
        return [event.payload async for event in stored.run()]

    (payload,) = asyncio.run(asyncio.wait_for(all_events(), timeout=20))
    return _stored(payload)


def _stored(value: Any) -> Any:
    """Return the value as Airflow reads it from its database, which keeps times."""
    return BaseSerialization.deserialize(json.loads(json.dumps(BaseSerialization.serialize(value))))
