# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The reference has every public class, and a docstring describes exactly what its constructor takes."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import pytest

from airflow_provider_isvapp.get_provider_info import get_provider_info
from tests.support import ROOT

PACKAGE = "airflow_provider_isvapp"


def public_classes() -> list[type]:
    """Return the classes of the modules that Airflow is told about."""
    info = get_provider_info()
    groups = [group for kind in ("hooks", "operators", "sensors", "triggers") for group in info[kind]]
    names = [name for group in groups for name in group["python-modules"]]
    modules = [importlib.import_module(name) for name in names]
    found = {
        value
        for module in modules
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and name in getattr(module, "__all__", [name])
        and value.__module__.startswith(PACKAGE)
        # Without a list of its own, a module is meant for what it defines.
        if hasattr(module, "__all__") or value.__module__ == module.__name__
    }
    return sorted(found, key=lambda value: value.__name__)


CLASSES = public_classes()


def test_the_classes_are_found() -> None:
    names = {value.__name__ for value in CLASSES}
    assert names >= {"IsvappExportOperator", "IsvappExportSensor", "IsvappExportTrigger", "ProductivHook"}


def test_the_reference_has_every_public_class() -> None:
    pages = "".join(path.read_text() for path in (ROOT / "docs" / "reference").glob("*.md"))
    listed = {name.rpartition(".")[2] for name in re.findall(rf"autoclass:: ({PACKAGE}\.\S+)", pages)}
    assert {value.__name__ for value in CLASSES} <= listed


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_a_docstring_describes_what_the_constructor_takes(kind: type) -> None:
    described = re.findall(r":param (\w+):", inspect.getdoc(kind) or "")
    assert len(described) == len(set(described))
    assert set(described) == taken_by(kind)


def taken_by(kind: type) -> set[str]:
    constructors: list[Any] = [
        vars(base)["__init__"]
        for base in kind.__mro__
        if base.__module__.startswith(PACKAGE) and "__init__" in vars(base)
    ]
    return {
        parameter.name
        for constructor in constructors
        for parameter in list(inspect.signature(constructor).parameters.values())[1:]
        if parameter.kind is parameter.KEYWORD_ONLY
    }
