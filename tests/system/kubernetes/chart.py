# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The chart's values that ours set, and their types.

The chart is not part of this project. ``chart-<version>.txt`` lists the values that ours use: a path and its types on
each line, generated from the chart's own schema by

    python -m tests.system.kubernetes.chart airflow-1.22.0.tgz

with the file that ``helm pull apache-airflow/airflow --version 1.22.0`` leaves.
"""

from __future__ import annotations

import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.support import ROOT

VALUES = [ROOT / "kubernetes" / name for name in ("values.yaml", "kubernetes-executor.yaml")]
VERSION = "1.22.0"
KNOWN = Path(__file__).resolve().parent / f"chart-{VERSION}.txt"


class UnknownValue(Exception):
    """The chart has no such value."""


def read_schema(chart: Path) -> dict[str, Any]:
    """Read the schema of a chart, packed or unpacked."""
    if chart.is_dir():
        return dict(json.loads((chart / "values.schema.json").read_text()))
    with tarfile.open(chart) as archive:
        member = archive.extractfile("airflow/values.schema.json")
        assert member is not None
        return dict(json.load(member))


def all_paths() -> dict[str, Any]:
    """Every leaf of our values: its path with dots, ``[]`` for the items of a list, and one of its values."""
    return {path: value for file in VALUES for path, value in paths(yaml.safe_load(file.read_text()))}


def paths(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Walk through values."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from paths(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(node, list) and node:
        for value in node:
            yield from paths(value, f"{prefix}[]")
    else:
        yield prefix, node


def types_of(schema: dict[str, Any], path: str) -> set[str]:
    """Return the JSON types that the schema allows at a path; ``any`` if it does not restrict them.

    :raises UnknownValue: the schema does not name the path, even if it would let it pass.
    """
    node: dict[str, Any] = schema
    for step in path.replace("[]", ".[]").split("."):
        node = _resolved(schema, node)
        if step == "[]":
            found = node.get("items")
        else:
            found = node.get("properties", {}).get(step)
            if found is None and not node.get("properties"):
                # A map with keys of the user's choice, such as the sections and options of airflow.cfg.
                found = node.get("additionalProperties")
                found = {} if found is True or (found is None and node.get("type") in ("object", None)) else found
        if not isinstance(found, dict):
            raise UnknownValue(path)
        node = found
    node = _resolved(schema, node)
    types = node.get("type", "any")
    return {types} if isinstance(types, str) else set(types)


def _resolved(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        target: Any = schema
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        node = {**{key: value for key, value in node.items() if key != "$ref"}, **target}
    return node


def read_known() -> dict[str, set[str]]:
    """Read the recorded list."""
    lines = [line for line in KNOWN.read_text().splitlines() if not line.startswith("#")]
    return {path: set(types.split("|")) for path, types in (line.split(" ") for line in lines)}


def known_text(schema: dict[str, Any]) -> str:
    """Record the values that ours use."""
    lines = [f"{path} {'|'.join(sorted(types_of(schema, path)))}" for path in sorted(all_paths())]
    head = f"# Values of the Apache Airflow Helm chart {VERSION} that ours set, with the types that its schema allows."
    return "\n".join([head, "# Made by tests/system/kubernetes/chart.py.", *lines]) + "\n"


if __name__ == "__main__":
    KNOWN.write_text(known_text(read_schema(Path(sys.argv[1]))))
