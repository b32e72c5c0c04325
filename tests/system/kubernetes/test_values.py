# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Our values fit the chart, Airflow, and each other."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from airflow import __version__ as airflow_version
from airflow.configuration import conf

from airflow_provider_isvapp.api.settings import IsvappSettings, ProductivSettings
from tests.support import ROOT
from tests.system.kubernetes.chart import (
    KNOWN,
    VALUES,
    VERSION,
    UnknownValue,
    all_paths,
    known_text,
    paths,
    read_known,
    read_schema,
    types_of,
)

# `helm pull apache-airflow/airflow --version 1.22.0` brings it; a folder with the unpacked chart will do as well.
CHART = os.environ.get("ISVAPP_AIRFLOW_CHART")
needs_chart = pytest.mark.skipif(not CHART, reason=f"ISVAPP_AIRFLOW_CHART does not name the Airflow chart {VERSION}")
needs_helm = pytest.mark.skipif(not (CHART and shutil.which("helm")), reason="no helm here, or no chart")
JSON_TYPES = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", type(None): "null"}
KUBERNETES_EXECUTOR = ROOT / "kubernetes" / "kubernetes-executor.yaml"


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "kubernetes" / "values.yaml").read_text()))


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    files = [ROOT / "kubernetes" / name for name in ("secrets.yaml", "bucket-rule.yaml")]
    return [manifest for file in files for manifest in yaml.safe_load_all(file.read_text())]


def problems(found: dict[str, Any], known: dict[str, set[str]]) -> list[str]:
    """Return the values that the chart would not understand, or silently ignore."""
    said = []
    for path, value in found.items():
        kind = JSON_TYPES[type(value)]
        if path not in known:
            said.append(f"{path}: chart {VERSION} is not known to have it")
        elif not known[path] & {"any", kind, "number" if kind == "integer" else kind}:
            said.append(f"{path}: is {kind}, and the chart wants {' or '.join(sorted(known[path]))}")
    return said


def test_the_chart_has_every_value_and_wants_its_type() -> None:
    assert problems(all_paths(), read_known()) == []
    # The list has no unused values.
    assert set(read_known()) == set(all_paths())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"workers": {"celery": {"replicas": "two"}}}, "workers.celery.replicas: is string, and the chart wants"),
        ({"workers": {"celery": {"replica": 2}}}, "workers.celery.replica: chart 1.22.0 is not known to have it"),
        ({"secret": [{"name": "X"}]}, "secret[].name: chart 1.22.0 is not known to have it"),
    ],
)
def test_drift_is_noticed(wrong: dict[str, Any], said: str) -> None:
    (problem,) = problems(dict(paths(wrong)), read_known())
    assert said in problem


@needs_chart
@pytest.mark.parametrize("file", VALUES, ids=lambda file: file.stem)
def test_the_schema_of_the_chart_accepts_them(file: Path) -> None:
    jsonschema.validate(yaml.safe_load(file.read_text()), read_schema(Path(str(CHART))))


@needs_chart
def test_what_is_written_down_is_what_the_schema_says() -> None:
    schema = read_schema(Path(str(CHART)))
    assert known_text(schema) == KNOWN.read_text()
    with pytest.raises(UnknownValue):
        types_of(schema, "workers.celery.replica")


@needs_helm
@pytest.mark.parametrize("executor", ["CeleryExecutor", "KubernetesExecutor"])
def test_helm_renders_what_is_meant(executor: str) -> None:
    files = [ROOT / "kubernetes" / "values.yaml"]
    files += [KUBERNETES_EXECUTOR] if executor == "KubernetesExecutor" else []
    command = ["helm", "template", "airflow", str(CHART), "--namespace", "airflow"]
    rendered = subprocess.run(
        [*command, *(f"--values={file}" for file in files)], capture_output=True, text=True, check=False
    )
    assert rendered.returncode == 0, rendered.stderr
    found = [document for document in yaml.safe_load_all(rendered.stdout) if document]
    pods = {
        f"{document['kind']}/{document['metadata']['name']}": document["spec"]["template"]["spec"]
        for document in found
        if document["kind"] in ("Deployment", "StatefulSet")
    }
    if executor == "KubernetesExecutor":
        (settings,) = [item for item in found if "pod_template_file.yaml" in item.get("data", {})]
        pods["worker"] = yaml.safe_load(settings["data"]["pod_template_file.yaml"])["spec"]
    workers = [pod for name, pod in pods.items() if "worker" in name]
    triggerers = [pod for name, pod in pods.items() if "triggerer" in name]
    assert len(workers) == len(triggerers) == 1
    assert workers[0]["terminationGracePeriodSeconds"] == (60 if executor == "KubernetesExecutor" else 600)
    for pod in workers + triggerers:
        (container,) = [item for item in pod["containers"] if item["name"] in ("worker", "triggerer", "base")]
        assert container["image"] == "registry.example.com/isvapp-airflow:3.3.2-1"
        secret = {item["name"]: item.get("valueFrom", {}).get("secretKeyRef") for item in container["env"]}
        assert secret["AIRFLOW_CONN_ISVAPP_DEFAULT"] == {"name": "isvapp-connections", "key": "isvapp_default"}
        assert "memory" in container["resources"]["requests"]
    assert not [name for name in pods if re.search("redis|postgresql", name)]


def test_the_versions_are_those_that_are_tested(values: dict[str, Any]) -> None:
    assert values["airflowVersion"] == airflow_version
    assert str(values["defaultAirflowTag"]).startswith(f"{airflow_version}-")


@pytest.mark.parametrize("file", VALUES, ids=lambda file: file.stem)
def test_airflow_knows_every_option(file: Path) -> None:
    sections = yaml.safe_load(file.read_text()).get("config", {})
    # Of providers that are in the image, not in this environment.
    own = {name: options for name, options in sections.items() if name not in ("celery", "kubernetes_executor")}
    for section, options in own.items():
        for option in options:
            assert option in conf.configuration_description[section]["options"], f"[{section}] {option}"


def test_every_secret_that_is_named_is_there(values: dict[str, Any], manifests: list[dict[str, Any]]) -> None:
    secrets = {item["metadata"]["name"]: set(item["stringData"]) for item in manifests if item["kind"] == "Secret"}
    named = {entry["secretName"]: set() for entry in values["secret"]}  # type: ignore[var-annotated]
    for entry in values["secret"]:
        named[entry["secretName"]].add(entry["secretKey"])
    # The keys that the chart reads from each of its own secrets.
    named |= {
        values["data"]["metadataSecretName"]: {"connection"},
        values["data"]["brokerUrlSecretName"]: {"connection"},
        values["fernetKeySecretName"]: {"fernet-key"},
        values["apiSecretKeySecretName"]: {"api-secret-key"},
        values["jwtSecretName"]: {"jwt-secret"},
    }
    assert named == secrets


def test_the_connections_are_accepted_and_share_their_limit(manifests: list[dict[str, Any]]) -> None:
    (secret,) = [item["stringData"] for item in manifests if item["metadata"]["name"] == "isvapp-connections"]
    isvapp, productiv = json.loads(secret["isvapp_default"]), json.loads(secret["productiv_default"])
    assert (isvapp.pop("conn_type"), productiv.pop("conn_type")) == ("isvapp", "productiv")
    empty = {"login": None, "password": None, "host": None, "port": None, "schema": None, "extra": {}}  # type: ignore[var-annotated]

    settings = IsvappSettings.from_connection(**{**empty, **isvapp})
    ProductivSettings.from_connection(**{**empty, **productiv})

    # A file would be one for each pod, and each would send two requests per second.
    assert settings.rate_limit_storage.startswith("redis://")


def test_only_examples_are_in_the_secrets(manifests: list[dict[str, Any]]) -> None:
    text = json.dumps([item["stringData"] for item in manifests if item["kind"] == "Secret"])
    found = re.findall(r'password\\": \\"([^\\]*)|://[^:]*:([^@]*)@|-key": "([^"]*)"|-secret": "([^"]*)"', text)
    assert len(found) == 8
    assert all("".join(value).startswith("REPLACE") for value in found)
