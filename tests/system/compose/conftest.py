# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The file as ``docker compose config`` would show it: parsed, and interpolated with generated secrets."""

from __future__ import annotations

import re
import runpy
from typing import Any

import pytest
import yaml

from tests.support import ROOT

# ${NAME}, ${NAME:-default}, ${NAME:?message}; $$ is a dollar sign for the container's shell.
VARIABLE = re.compile(r"\$\$|\$\{(?P<name>\w+)(?:(?P<kind>:[-?])(?P<text>[^}]*))?\}")


def generated_values() -> dict[str, str]:
    """The values of a new .env."""
    with_secrets = runpy.run_path(str(ROOT / "docker/generate_env.py"))["with_secrets"]
    lines = with_secrets((ROOT / ".env.example").read_text()).splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


@pytest.fixture(scope="session")
def env_values() -> dict[str, str]:
    return generated_values()


@pytest.fixture(scope="session")
def raw_compose() -> str:
    return (ROOT / "docker-compose.yaml").read_text()


@pytest.fixture(scope="session")
def services(raw_compose: str, env_values: dict[str, str]) -> dict[str, Any]:
    """The services as compose would start them."""
    return interpolated(yaml.safe_load(raw_compose), env_values)["services"]


def interpolated(node: Any, values: dict[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: interpolated(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [interpolated(value, values) for value in node]
    if not isinstance(node, str):
        return node

    def value_of(match: re.Match[str]) -> str:
        if match.group() == "$$":
            return "$"
        if match["kind"] == ":-":
            return values.get(match["name"]) or match["text"]
        return values[match["name"]]

    return VARIABLE.sub(value_of, node)
