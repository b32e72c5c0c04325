# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Validates events against the OpenLineage specification, with the classes of its client.

The client generates them from the JSON schema: required fields, types and formats are theirs. Other facets are
checked only for the part that all facets share.
"""

from __future__ import annotations

import importlib
import pkgutil
import types
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

import attr
from openlineage.client import generated
from openlineage.client.event_v2 import RunEvent
from openlineage.client.generated.base import BaseFacet

_SCALARS = {str: str, int: int, float: int | float, bool: bool}


def _known_facets() -> dict[str, type]:
    modules = [
        importlib.import_module(f"{generated.__name__}.{item.name}")
        for item in pkgutil.iter_modules(generated.__path__)
    ]
    classes = [item for module in modules for item in vars(module).values() if isinstance(item, type)]
    return {item.__name__: item for item in classes if issubclass(item, BaseFacet)}


_FACETS = _known_facets()


def check_event(event: dict[str, Any]) -> None:
    """Check an event as received.

    :raises AssertionError: naming the first place that is wrong.
    """
    _check(RunEvent, event, "event")


def _check(kind: Any, value: Any, where: str) -> None:
    if get_origin(kind) in (Union, types.UnionType):
        choices = get_args(kind)
        if value is None:
            assert type(None) in choices, f"{where} is null"
            return
        (kind,) = (choice for choice in choices if choice is not type(None))
    if kind is Any:
        return
    if get_origin(kind) is list:
        assert isinstance(value, list), f"{where} is no list"
        for number, item in enumerate(value):
            _check(*get_args(kind), item, f"{where}[{number}]")  # type: ignore[call-arg]
    elif get_origin(kind) is dict:
        assert isinstance(value, dict), f"{where} is no object"
        for name, item in value.items():
            _check(get_args(kind)[1], item, f"{where}.{name}")
    elif isinstance(kind, type) and issubclass(kind, Enum):
        assert value in {choice.value for choice in kind}, f"{where} is {value!r}"
    elif kind in _SCALARS:
        assert isinstance(value, _SCALARS[kind]), f"{where} is {value!r}"
        assert kind is bool or not isinstance(value, bool), f"{where} is {value!r}"
    else:
        _check_object(kind, value, where)


def _check_object(kind: Any, value: Any, where: str) -> None:
    assert isinstance(value, dict), f"{where} is no object"
    if issubclass(kind, BaseFacet):
        assert value.get("_producer"), f"{where} has no _producer"
        assert value.get("_schemaURL"), f"{where} has no _schemaURL"
        kind = _FACETS.get(value["_schemaURL"].rpartition("/")[2], kind)
    fields = {field.name: field for field in attr.fields(kind)}
    hints = get_type_hints(kind)
    for name, field in fields.items():
        assert name in value or field.default is not attr.NOTHING, f"{where} has no {name}"
        if name in value:
            _check(hints[name], value[name], f"{where}.{name}")
            if field.validator is not None:
                field.validator(None, field, value[name])
    # A facet that is not specified is only known to be one.
    if kind not in (BaseFacet, *BaseFacet.__subclasses__()):
        assert set(value) <= set(fields), f"{where} has {sorted(set(value) - set(fields))}"
