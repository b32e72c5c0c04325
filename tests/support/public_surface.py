# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What users and stored data rely on, as JSON: names, arguments and defaults, and the shape of all that is stored.

``make record-surface`` records it; the deprecation policy in docs/support.md says when it may change.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any
from unittest.mock import patch

from airflow_provider_isvapp import errors
from airflow_provider_isvapp.emulator import Emulator, EmulatorConfig, ManualClock
from airflow_provider_isvapp.get_provider_info import get_provider_info
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.metrics import METRICS
from airflow_provider_isvapp.operators import checkpoint
from airflow_provider_isvapp.operators.isvapp import (
    IsvappCreateExportOperator,
    IsvappDownloadExportOperator,
    IsvappExportOperator,
    IsvappFetchSalesforceAccountsOperator,
)
from airflow_provider_isvapp.operators.productiv import ProductivFetchAppsOperator
from airflow_provider_isvapp.ratelimit import algorithm
from airflow_provider_isvapp.sensors.isvapp import IsvappExportSensor
from airflow_provider_isvapp.transfer.staging.base import METADATA_KEY, Provenance
from airflow_provider_isvapp.triggers import isvapp as triggers
from airflow_provider_isvapp.triggers.isvapp import failure_event, ready_event
from tests.support.airflow_connections import isvapp_fields, productiv_fields
from tests.support.task_context import TaskDeferred, TaskStateStore, task_context

PACKAGE = "airflow_provider_isvapp"
RECORD = Path(__file__).parents[1] / "airflow" / "provider" / "public_surface.json"
# Modules whose names a DAG or a test of a DAG may import. All others may change with any release.
_MODULES = ("hooks", "operators", "sensors", "triggers")
_MONTH = re.compile(r"\A[0-9]{4}-[0-9]{2}\Z")
_MORE_MODULES = ("errors", "links.isvapp", "emulator")


def public_surface() -> dict[str, Any]:
    """Return the whole surface, sorted by name."""
    return {
        "import paths": {name: _module(importlib.import_module(name)) for name in _module_names()},
        "connection fields": _connection_fields(),
        "configuration": {name: sorted(section["options"]) for name, section in get_provider_info()["config"].items()},
        "metrics": {metric.name: [str(metric.kind), *metric.tags] for metric in METRICS},
        "stored": _stored(),
    }


def _module_names() -> list[str]:
    info = get_provider_info()
    listed = {name for kind in _MODULES for group in info[kind] for name in group["python-modules"]}
    return sorted(listed | {f"{PACKAGE}.{name}" for name in _MORE_MODULES})


def _module(module: Any) -> dict[str, Any]:
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")
    ]
    names = [name for name in names if inspect.isclass(getattr(module, name))]
    return {name: _described(getattr(module, name)) for name in sorted(names)}


def _described(kind: type) -> Any:
    if issubclass(kind, Exception):
        return f"class({kind.__mro__[1].__name__})"
    if issubclass(kind, Enum):
        return [str(member.value) for member in kind]
    described: dict[str, Any] = {"()": _arguments(kind.__init__)}
    if templated := getattr(kind, "template_fields", None):
        described["template_fields"] = sorted(templated)
    methods = {name: _arguments(member) for name, member in _own_members(kind) if callable(member)}
    return described | {name: arguments for name, arguments in methods.items() if not name.startswith("_")}


def _own_members(kind: type) -> Iterator[tuple[str, Any]]:
    """Return the members of a class that this package defines, including inherited ones."""
    ours = [parent for parent in kind.__mro__ if parent.__module__.startswith(PACKAGE)]
    found = {name: getattr(kind, name) for parent in reversed(ours) for name in vars(parent)}
    yield from sorted(found.items())


def _arguments(function: Any) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [
        parameter.name if parameter.default is parameter.empty else f"{parameter.name}={parameter.default!r}"
        for parameter in parameters
        if parameter.name not in {"self", "cls", "kwargs", "args"}
    ]


def _connection_fields() -> dict[str, Any]:
    return {
        kind["connection-type"]: sorted(kind.get("conn-fields") or _fields_of_the_form(kind["hook-class-name"]))
        for kind in get_provider_info()["connection-types"]
    }


def _fields_of_the_form(path: str) -> list[str]:
    module, _, name = path.rpartition(".")
    return list(getattr(importlib.import_module(module), name).get_connection_form_widgets())


def _shape(value: Any) -> Any:
    """Replace each value by its type, and keep the names."""
    if isinstance(value, Mapping):
        return {_MONTH.sub("<month>", str(name)): _shape(item) for name, item in sorted(value.items())}
    if isinstance(value, list | tuple):
        return [_shape(item) for item in value[:1]]
    return type(value).__name__


def _stored() -> dict[str, Any]:
    """Run every operator, and return the shape of everything that it stores."""
    clock = ManualClock(datetime.now(UTC))
    config = EmulatorConfig(requests_per_second=None, export_seconds=60, rows=200)
    with Emulator(config, clock=clock) as emulator, _connections(emulator), tempfile.TemporaryDirectory() as folder:
        run = _Run(emulator, clock, Path(folder))
        return {
            "deferrals": run.deferrals(),
            "events": {
                "ready": _shape(ready_event(run.export)),
                "failed": _shape(failure_event("e-1", errors.ExportFailed("it errored", export_id="e-1"))),
            },
            "xcoms": run.xcoms(),
            "manifests": run.manifests(),
            "object metadata": {METADATA_KEY: list(Provenance.__struct_fields__)},
            "task state store": {checkpoint.STORE_KEY: run.checkpoint()},
            "asset state store": {triggers.STORE_KEY: ["str"]},
            "limiter state": _limiter_state(),
        }


def _limiter_state() -> Any:
    rate_limit = algorithm.RateLimit.of(2)
    state = algorithm.decode(None, rate_limit, 0.0)
    for ticket in ("a", "b", "c"):
        state, _ = algorithm.acquire(state, rate_limit, 1.0, ticket, None)
    return _shape(json.loads(algorithm.encode(algorithm.record_response(state, rate_limit, 1.0, "a"))))


def _stored_trigger(trigger: Any) -> dict[str, Any]:
    path, arguments = trigger.serialize()
    return {"trigger": path, "arguments": _shape(arguments)}


@contextmanager
def _connections(emulator: Emulator) -> Iterator[None]:
    variables = {
        "AIRFLOW_CONN_ISVAPP_DEFAULT": json.dumps(isvapp_fields(emulator)),
        "AIRFLOW_CONN_PRODUCTIV_DEFAULT": json.dumps(productiv_fields(emulator)),
    }
    with patch.dict(os.environ, variables):
        yield


class _Run:
    """One run of every operator.

    :param clock: the emulator's.
    :param folder: the folder for objects.
    """

    def __init__(self, emulator: Emulator, clock: ManualClock, folder: Path) -> None:
        self._emulator, self._clock, self._folder = emulator, clock, folder
        request: dict[str, Any] = {"timeframe": "LATEST_COMPLETED_MONTH", "taxonomy_ids": ["taxonomy"]}
        self._create = IsvappCreateExportOperator(task_id="create", **request)
        self._export = IsvappExportOperator(
            task_id="export", path=str(folder / "export.ndjson"), deferrable=True, **request
        )
        self._store = TaskStateStore()
        self._results: dict[str, Any] = {}
        self._links: set[str] = set()
        self._deferrals = {
            "IsvappExportOperator": self._deferral_of(self._export, task_context(self._store)),
        }
        export_id = self._run(self._create)
        sensor = IsvappExportSensor(task_id="wait", export_id=export_id, deferrable=True)
        self._deferrals["IsvappExportSensor"] = self._deferral_of(sensor, task_context())
        clock.advance(120)
        with IsvappHook() as hook:
            self.export = hook.get_conn().get_export(export_id)
        waited = IsvappExportSensor(task_id="wait", export_id=export_id, deferrable=False, poke_interval=0.1)
        self._run(waited)
        for operator in (
            IsvappDownloadExportOperator(
                task_id="download", export_id=export_id, path=str(folder / "usage.ndjson"), manifest=True
            ),
            IsvappFetchSalesforceAccountsOperator(
                task_id="accounts", path=str(folder / "accounts.ndjson"), manifest=True
            ),
            ProductivFetchAppsOperator(task_id="apps", path=str(folder / "apps.ndjson"), manifest=True),
        ):
            self._run(operator)

    def _run(self, operator: Any) -> Any:
        context = task_context()
        result = operator.execute(context)
        self._results[type(operator).__name__] = _shape(result)
        self._links |= {key for key in context["ti"].xcoms if key != "return_value"}
        return result

    def _deferral_of(self, operator: Any, context: Any) -> dict[str, Any]:
        try:
            operator.execute(context)
        except TaskDeferred as deferral:
            return {
                **_stored_trigger(deferral.trigger),
                "method": deferral.method_name,
                "kwargs": sorted(deferral.kwargs or {}),
            }
        raise AssertionError(f"{operator.task_id} was not deferred")

    def deferrals(self) -> dict[str, Any]:
        return {
            **self._deferrals,
            "AssetWatcher": _stored_trigger(triggers.IsvappExportCompletedTrigger()),
        }

    def xcoms(self) -> dict[str, Any]:
        return {"return_value": dict(sorted(self._results.items())), "links": sorted(self._links)}

    def manifests(self) -> dict[str, Any]:
        return {path.name: _shape(json.loads(path.read_text())) for path in sorted(self._folder.glob("_*.json"))}

    def checkpoint(self) -> Any:
        return _shape(self._store.get(checkpoint.STORE_KEY))


if __name__ == "__main__":
    RECORD.write_text(json.dumps(public_surface(), indent=2, sort_keys=True) + "\n")
