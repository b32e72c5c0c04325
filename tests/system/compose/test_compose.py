# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import yaml
from airflow import __version__ as airflow_version
from airflow.configuration import conf
from cryptography.fernet import Fernet
from packaging.requirements import Requirement

from airflow_provider_isvapp.api.settings import IsvappSettings, ProductivSettings
from tests.support import ROOT
from tests.system.compose.conftest import VARIABLE

BIN = Path(sys.executable).parent
AIRFLOW_SERVICES = ["apiserver", "scheduler", "dag-processor", "triggerer", "worker", "init"]
ONE_SHOT = {"airflow-init", "bucket"}
# Off by default, so commented out in .env.example.
SWITCHES = {"AIRFLOW_STATSD_ON"}
METRICS_SERVICES = {"statsd-exporter", "prometheus", "grafana"}


@pytest.fixture
def airflow_environment(services: dict[str, Any]) -> dict[str, str]:
    environment: dict[str, str] = services["airflow-scheduler"]["environment"]
    return environment


def connection(environment: dict[str, str], conn_id: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(environment[f"AIRFLOW_CONN_{conn_id.upper()}"])
    return fields


def test_follows_the_compose_specification() -> None:
    check = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", ROOT / "docker-compose.yaml"]
    ended = subprocess.run(check, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


def test_every_variable_has_an_example_and_every_example_is_used(raw_compose: str, env_values: dict[str, str]) -> None:
    uncommented = "\n".join(line for line in raw_compose.splitlines() if not line.lstrip().startswith("#"))
    used = {match["name"] for match in VARIABLE.finditer(uncommented) if match["name"]}
    assert used == set(env_values) | SWITCHES
    # The switches are there, to be switched on.
    example = (ROOT / ".env.example").read_text()
    assert all(f"\n# {name}=" in example for name in [*SWITCHES, "COMPOSE_PROFILES"])
    # Nothing of the $ kind is left over that compose would read as a variable.
    assert "$" not in VARIABLE.sub("", uncommented)


def test_secrets_have_no_default(raw_compose: str) -> None:
    kinds = {(match["name"], match["kind"]) for match in VARIABLE.finditer(raw_compose) if match["name"]}
    assert {name for name, kind in kinds if kind != ":?"} == {
        "AIRFLOW_PORT",
        "AIRFLOW_STATSD_ON",
        "EMULATOR_PORT",
        "GRAFANA_PORT",
        "S3_PORT",
    }


def test_no_secret_is_committed(env_values: dict[str, str]) -> None:
    committed = dict(re.findall(r"^(\w+)=(.+)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert set(committed) == {"S3_ACCESS_KEY", "AIRFLOW_PORT", "EMULATOR_PORT", "S3_PORT", "GRAFANA_PORT"}
    generated = {name: value for name, value in env_values.items() if name not in committed}
    assert set(generated) >= {"POSTGRES_PASSWORD", "ISVAPP_CLIENT_SECRET", "S3_SECRET_KEY", "GRAFANA_PASSWORD"}
    assert all(re.fullmatch(r"[\w=-]{44}", value, re.ASCII) for value in generated.values())
    assert len(set(generated.values())) == len(generated)
    Fernet(generated["AIRFLOW_FERNET_KEY"])


def test_the_env_file_is_private_and_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    script = shutil.copy(ROOT / "docker/generate_env.py", tmp_path / "docker")
    shutil.copy(ROOT / ".env.example", tmp_path)

    first = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    written = (tmp_path / ".env").read_bytes()
    second = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)

    assert (first.returncode, second.returncode) == (0, 1), first.stderr
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / ".env").read_bytes() == written
    assert "exists and was not changed" in second.stderr
    ignored = subprocess.run(["git", "check-ignore", "--no-index", ROOT / ".env"], cwd=ROOT, check=False)
    assert ignored.returncode == 0


def test_every_part_of_airflow_is_there(services: dict[str, Any]) -> None:
    assert {f"airflow-{name}" for name in AIRFLOW_SERVICES} < set(services)
    assert services["airflow-worker"]["deploy"]["replicas"] == 2


def test_images_are_pinned_or_built_here(services: dict[str, Any]) -> None:
    built = {service["image"] for service in services.values() if "build" in service}
    for name, service in services.items():
        tag = service["image"].rpartition(":")[2]
        assert service["image"] in built or re.match(r"v?\d+\.\d+", tag), f"{name}: {service['image']}"


def test_one_service_builds_each_image_and_nothing_pulls_it(services: dict[str, Any]) -> None:
    builders = {name: service["image"] for name, service in services.items() if "build" in service}
    assert builders == {"airflow-init": "isvapp-airflow:local"}
    users = {name for name, service in services.items() if service["image"] in builders.values()} - set(builders)
    assert len(users) == 7
    assert {services[name]["pull_policy"] for name in users} == {"never"}


def test_dependencies_exist_and_can_be_met(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[needed], f"{name} waits for the health of {needed}"
            else:
                assert how["condition"] == "service_completed_successfully"
                assert needed in ONE_SHOT, f"{name} waits for the end of {needed}"


def test_lasting_services_have_a_health_check_and_come_back(services: dict[str, Any]) -> None:
    for name in set(services) - ONE_SHOT:
        assert "healthcheck" in services[name], name
        assert services[name]["restart"] == "unless-stopped", name


def test_ports_are_published_to_this_machine_only(services: dict[str, Any]) -> None:
    assert {name: service["ports"] for name, service in services.items() if "ports" in service} == {
        "airflow-apiserver": ["127.0.0.1:8080:8080"],
        "emulator": ["127.0.0.1:8085:8085"],
        "s3": ["127.0.0.1:8333:8333"],
        "grafana": ["127.0.0.1:3000:3000"],
    }


def test_metrics_are_a_profile_that_nothing_else_needs(
    services: dict[str, Any], airflow_environment: dict[str, str]
) -> None:
    assert {name for name, service in services.items() if service.get("profiles")} == METRICS_SERVICES
    assert all(services[name]["profiles"] == ["metrics"] for name in METRICS_SERVICES)
    for name in set(services) - METRICS_SERVICES:
        assert not METRICS_SERVICES & set(services[name].get("depends_on", {})), name
    assert airflow_environment["AIRFLOW__METRICS__STATSD_ON"] == "false"
    assert airflow_environment["AIRFLOW__METRICS__STATSD_HOST"] == "statsd-exporter"


def test_what_is_mounted_is_there(services: dict[str, Any], raw_compose: str) -> None:
    volumes = set(yaml.safe_load(raw_compose)["volumes"])
    for name, service in services.items():
        for source, *_ in (volume.split(":") for volume in service.get("volumes", ())):
            assert source in volumes or (source.startswith("./") and (ROOT / source).is_dir()), f"{name}: {source}"


def test_urls_name_services(services: dict[str, Any], airflow_environment: dict[str, str]) -> None:
    text = json.dumps(services)
    hosts = {match.group(1) for match in re.finditer(r"(?:https?|redis)://(?:[^@\"/ ]*@)?([\w.-]+):\d+", text)}
    assert hosts - {"localhost", "127.0.0.1"} <= set(services)
    assert "@postgres:5432/" in airflow_environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]


def test_airflow_knows_every_option(airflow_environment: dict[str, str]) -> None:
    options = [name.split("__")[1:] for name in airflow_environment if name.startswith("AIRFLOW__")]
    # Celery's options belong to a provider that is in the image, not in this environment.
    own = [(section.lower(), key.lower()) for section, key in options if not section.startswith("CELERY")]
    assert len(own) >= 10
    for section, key in own:
        assert key in conf.configuration_description[section]["options"], f"[{section}] {key}"


def test_the_image_has_the_airflow_that_is_tested() -> None:
    (base,) = re.findall(r"^FROM (\S+)$", (ROOT / "docker/Dockerfile").read_text(), re.MULTILINE)
    assert base.startswith(f"apache/airflow:{airflow_version}-python")


def test_the_image_installs_the_versions_of_the_lock_file(tmp_path: Path) -> None:
    dockerfile = (ROOT / "docker/Dockerfile").read_text().replace("\\\n", " ")
    export = shlex.split(re.search(r"uv (export .*?) &&", dockerfile)[1])  # type: ignore[index]
    (installed,) = re.findall(r'"\.\[([\w,]+)\]"', dockerfile)
    file = tmp_path / "constraints.txt"
    uv = ROOT / ".venvs/bootstrap/bin/uv"
    exported = [str(file) if word == "constraints.txt" else word for word in export]

    ended = subprocess.run([uv, *exported], cwd=ROOT, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr
    pinned = {
        requirement.name: str(requirement.specifier)
        for requirement in map(Requirement, re.findall(r"^[a-z].*", file.read_text(), re.MULTILINE))
        if requirement.marker is None or requirement.marker.evaluate({"python_full_version": "3.12.0"})
    }
    assert pinned["apache-airflow"] == f"=={airflow_version}"
    assert "--constraint constraints.txt" in dockerfile
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = {Requirement(text).name for extra in installed.split(",") for text in extras[extra]}
    assert wanted
    assert wanted <= set(pinned)


def test_the_image_gets_all_it_copies() -> None:
    dockerfile = (ROOT / "docker/Dockerfile").read_text()
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = set()
    for line in re.findall(r"^COPY (.+)$", dockerfile, re.MULTILINE):
        *sources, _ = [word for word in shlex.split(line) if not word.startswith("--")]
        copied |= set(sources)
    assert copied == allowed
    assert all((ROOT / path).exists() for path in copied)
    # What the package is built from.
    sdist = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["sdist"]
    assert {path.split("/")[1] for path in sdist["include"]} <= copied


def test_the_connections_are_accepted(airflow_environment: dict[str, str]) -> None:
    isvapp = connection(airflow_environment, "isvapp_default")
    productiv = connection(airflow_environment, "productiv_default")
    assert isvapp.pop("conn_type") == "isvapp"
    assert productiv.pop("conn_type") == "productiv"

    settings = IsvappSettings.from_connection(**isvapp)
    ProductivSettings.from_connection(**productiv)

    # The configuration holds for both.
    assert settings.rate_limit_storage == ""
    assert airflow_environment["AIRFLOW__ISVAPP__RATE_LIMIT_STORAGE"] == "redis://redis:6379/1"


def test_the_emulator_starts_with_these_arguments(
    services: dict[str, Any], airflow_environment: dict[str, str]
) -> None:
    service = services["emulator"]
    arguments = [
        {"--host": "--host=127.0.0.1", "--port": "--port=0"}.get(word.partition("=")[0], word)
        for word in service["command"]
    ]
    process = subprocess.Popen(
        [BIN / service["entrypoint"][0], *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        greeting = ""
        while "http://" not in greeting:
            line = process.stdout.readline()  # type: ignore[union-attr]
            assert line, greeting
            greeting += line
        url = re.search(r"http://127\.0\.0\.1:\d+", greeting).group()  # type: ignore[union-attr]
        # The path of the health check.
        health = urlsplit(service["healthcheck"]["test"][-1]).path
        assert requests.get(url + health, timeout=10).status_code == 200
        fields = connection(airflow_environment, "isvapp_default")
        form = {"grant_type": "client_credentials", "scope": "identity"}
        login = (fields["login"], fields["password"])
        token = requests.post(f"{url}/api/oauth2/token", data=form, auth=login, timeout=10)
        assert token.status_code == 200, token.text
    finally:
        process.terminate()
        process.wait(timeout=10)
        process.stdout.close()  # type: ignore[union-attr]


def test_the_bucket_is_made_through_the_connection(airflow_environment: dict[str, str], s3_url: str) -> None:
    aws = connection(airflow_environment, "aws_default")
    aws["extra"]["endpoint_url"] = s3_url
    environment = os.environ | {
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws),
        "ISVAPP_LAKE": airflow_environment["ISVAPP_LAKE"],
    }
    make_bucket = [sys.executable, ROOT / "docker/make_bucket.py"]

    first = subprocess.run(make_bucket, env=environment, capture_output=True, text=True, check=False)
    second = subprocess.run(make_bucket, env=environment, capture_output=True, text=True, check=False)

    assert "Made the bucket isvapp-lake." in first.stdout, first.stderr
    assert "The bucket isvapp-lake is there." in second.stdout, second.stderr


def test_the_bucket_is_made_by_the_command_of_its_service(services: dict[str, Any]) -> None:
    *_, script = services["bucket"]["command"]
    assert f"COPY docker/make_bucket.py {script}\n" in (ROOT / "docker/Dockerfile").read_text()


def test_yaml_has_no_duplicate_keys(raw_compose: str) -> None:
    class Strict(yaml.SafeLoader):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [key.value for key, _ in node.value]
            assert len(keys) == len(set(keys)), keys
            return super().construct_mapping(node, deep)

    assert yaml.load(raw_compose, Strict)["name"] == "isvapp"
