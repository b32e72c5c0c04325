# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The page about the emulator agrees with the emulator."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields

import requests

from airflow_provider_isvapp.emulator import Emulator, EmulatorConfig, Endpoint, Fault, FaultKind
from airflow_provider_isvapp.emulator.data import Restatement
from tests.support import ROOT

PAGE = (ROOT / "docs" / "emulator.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def first_cells(text: str) -> list[str]:
    """Return the texts in backticks in the first column of all tables."""
    return [name for row in re.findall(r"^\| ([^|]*) \|", text, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)]


def test_the_python_example_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(code, "docs/emulator.md", "exec"), {})


def test_the_faults_of_the_shell_examples_are_the_same_fault() -> None:
    text = shlex.split(re.search(r"--fault (.*)", PAGE)[1])[0]  # type: ignore[index]
    body = re.search(r"curl -d '(.*?)'", PAGE)[1]  # type: ignore[index]
    code = re.search(r"inject\((Fault\(endpoint=\"download\".*?\))\)", PAGE)[1]  # type: ignore[index]
    assert Fault.from_text(text) == Fault.from_text(body) == eval(code)


def test_every_kind_of_fault_and_every_endpoint_is_on_the_page() -> None:
    text = section("Faults")
    kinds, _, restatements = text.partition("| `restatement` |")
    assert first_cells(kinds) == ["kind", *sorted(FaultKind, key=first_cells(kinds).index)]
    assert first_cells(restatements) == list(Restatement)
    assert all(f"`{endpoint}`" in text for endpoint in set(Endpoint) - {Endpoint.UNKNOWN})
    fault_fields = {item.name for item in fields(Fault)}
    assert all(f"`{name}`" in text or f"`{name}=" in text for name in fault_fields)


def test_options_and_attributes_on_the_page_exist() -> None:
    assert set(first_cells(section("Options"))) <= {item.name for item in fields(EmulatorConfig)}
    names = first_cells(PAGE.partition("| `Emulator` |")[2].partition("\n\n")[0])
    assert len(names) > 10
    assert all(hasattr(Emulator, name.partition("(")[0]) for name in names)


def test_the_control_urls_on_the_page_exist() -> None:
    urls = [name.split() for name in first_cells(section("Inspecting it")) if name.startswith(("GET", "POST"))]
    assert len(urls) > 6
    with Emulator() as emulator:
        for method, path in urls:
            response = requests.request(method, emulator.url + path.replace("{id}", "x"), data="{}", timeout=10)
            assert response.headers["Content-Type"].startswith("application/json"), path
            # The response for an unknown path is ISVapp's, with "success"; these are the emulator's own.
            assert "success" not in response.json(), path
