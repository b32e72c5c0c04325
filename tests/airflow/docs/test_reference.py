# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The reference has every public class, and a docstring describes exactly what its constructor takes."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow import __version__ as airflow_version

from airflow_provider_isvapp.get_provider_info import get_provider_info
from tests.support import ROOT

PACKAGE = "airflow_provider_isvapp"


def public_classes() -> list[type]:
    """Return the classes of the modules that the provider info lists."""
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
        # Without a list in the page, the members are what the module defines.
        if hasattr(module, "__all__") or value.__module__ == module.__name__
    }
    return sorted(found, key=lambda value: value.__name__)


CLASSES = public_classes()


def test_the_classes_are_found() -> None:
    names = {value.__name__ for value in CLASSES}
    assert names >= {"IsvappExportOperator", "IsvappExportSensor", "IsvappExportTrigger", "ProductivHook"}


def test_the_reference_has_every_public_class() -> None:
    pages = "".join(path.read_text() for path in (ROOT / "docs" / "reference").glob("*.md"))
    listed = {name.rpartition(".")[2] for name in re.findall(rf"<!-- reference: ({PACKAGE}\.\S+)", pages)}
    assert {value.__name__ for value in CLASSES} <= listed


@pytest.mark.skipif(airflow_version.startswith("2."), reason="the pages show Airflow 3")
@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "reference").glob("*.md")), ids=lambda page: page.stem)
def test_the_pages_match_the_docstrings(page: Path) -> None:
    sys.path.insert(0, str(ROOT / "scripts"))
    reference = importlib.import_module("reference")

    assert reference.rewritten(page) == page.read_text(), "the docstrings have changed since: run make reference"


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_a_constructor_names_exactly_what_the_docstring_describes(kind: type) -> None:
    described = re.findall(r":param (\w+):", inspect.getdoc(kind) or "")
    assert len(described) == len(set(described))
    # The class's own constructor: editors and type checkers do not see what a base takes from ``**kwargs``.
    constructor: Any = vars(kind)["__init__"]
    parameters = list(inspect.signature(constructor).parameters.values())[1:]
    named = [parameter for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]
    assert {parameter.name for parameter in named} == set(described)
    assert set(getattr(kind, "template_fields", ())) <= {parameter.name for parameter in named}
    # As in Airflow's own hooks, the connection may come by position; nothing else does.
    by_position = [parameter.name for parameter in named if parameter.kind is not parameter.KEYWORD_ONLY]
    assert by_position == ([vars(kind)["conn_name_attr"]] if "conn_name_attr" in vars(kind) else [])
    assert all(parameter.annotation is not parameter.empty for parameter in parameters)


def test_the_docstring_of_the_download_names_each_key_of_its_xcom() -> None:
    surface = json.loads((ROOT / "tests/airflow/provider/public_surface.json").read_text())
    keys = surface["stored"]["xcoms"]["return_value"]["IsvappDownloadExportOperator"]
    (operator,) = (kind for kind in CLASSES if kind.__name__ == "IsvappDownloadExportOperator")
    described, _, _ = (inspect.getdoc(operator) or "").partition(":param")

    assert set(keys) <= set(re.findall(r"``(\w+)``", described))
