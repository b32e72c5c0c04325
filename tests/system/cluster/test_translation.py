# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.system.cluster.compose_file import Service, generated_values, read_services
from tests.system.cluster.translation import LISTENS, LOOPBACK_ONLY, REPLACED, Addresses, LocalService, localised

SERVERS = {"postgres": 15432, "redis": 16379, "s3": 18333}
OWN = {"AIRFLOW_HOME", "HOME", "TMPDIR", "HOSTNAME", "LANG", "PATH", *LISTENS, *LOOPBACK_ONLY}


@pytest.fixture
def services() -> list[Service]:
    return read_services(generated_values())


@pytest.fixture
def local(services: list[Service], tmp_path: Path) -> dict[str, LocalService]:
    return {it.name: it for it in localised(services, tmp_path, Addresses(SERVERS), rows=7)}


def without_addresses(text: str) -> str:
    return re.sub(r"[\w.-]+:\d{4,5}(?!\d)", "<address>", text)


def test_every_service_has_the_replicas_of_the_file(services: list[Service], local: dict[str, LocalService]) -> None:
    started = {it.service for it in local.values()}
    assert started == {service.name for service in services} - set(REPLACED)
    assert {"airflow-worker-1", "airflow-worker-2"} <= set(local)
    assert len(local) == sum(service.replicas for service in services if service.name not in REPLACED)


def test_every_variable_is_the_files(services: list[Service], local: dict[str, LocalService]) -> None:
    by_name = {service.name: service for service in services}
    for it in local.values():
        theirs = by_name[it.service].environment
        ours = {name: value for name, value in it.environment.items() if name not in OWN}
        assert set(ours) == set(theirs) - OWN, it.name
        for name, value in ours.items():
            assert without_addresses(value) == without_addresses(theirs[name]), f"{it.name}: {name}"


def test_commands_are_the_files(services: list[Service], local: dict[str, LocalService]) -> None:
    commands = {service.name: service.command for service in services}
    for it in local.values():
        if it.service.startswith("airflow-"):
            assert it.words == ("airflow", *commands[it.service])
    assert local["bucket"].words[0] == "python"
    assert Path(local["bucket"].words[1]).is_file()
    assert "--requests-per-second=2" in local["emulator"].words
    assert "--rows=7" in local["emulator"].words


def test_no_name_of_a_container_is_left(services: list[Service], local: dict[str, LocalService]) -> None:
    names = "|".join({service.name for service in services} | {"localhost"})
    for it in local.values():
        for text in (*it.words, *it.healthcheck, *it.environment.values()):
            assert not re.search(rf"(?<![\w.-])({names}):\d", text), f"{it.name}: {text}"
            assert not re.search(r"(?<![\w/.-])/opt/", text), f"{it.name}: {text}"


def test_all_hosts_mean_the_same_by_a_url(local: dict[str, LocalService]) -> None:
    server = local["airflow-apiserver"]
    port = server.environment["AIRFLOW__API__PORT"]
    assert f"http://127.0.0.1:{port}/api/v2/version" in server.healthcheck
    for it in local.values():
        if it.service.startswith("airflow-"):
            assert it.environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == f"http://127.0.0.1:{port}/execution/"
            assert it.environment["AIRFLOW__CELERY__BROKER_URL"].startswith("redis://127.0.0.1:16379/")


def test_hosts_share_their_volumes_and_nothing_else(local: dict[str, LocalService], tmp_path: Path) -> None:
    for name in ("HOME", "TMPDIR", "AIRFLOW_HOME", "HOSTNAME", *LISTENS):
        assert len({it.environment[name] for it in local.values()}) == len(local), name
    shared = {target for it in local.values() for target in it.links.values()}
    assert tmp_path / "volumes" / "airflow-logs" in shared


def test_something_new_in_the_file_is_not_overlooked(services: list[Service], tmp_path: Path) -> None:
    worker = next(service for service in services if service.name == "airflow-worker")
    mounted = replace(worker, mounts={**worker.mounts, "/opt/airflow/config": "./config"})
    with pytest.raises(KeyError):
        localised([mounted], tmp_path, Addresses(SERVERS), rows=7)
    foreign = replace(worker, name="proxy", image="traefik:3.6")
    with pytest.raises(AssertionError, match=r"nothing here stands for traefik:3\.6"):
        localised([foreign], tmp_path, Addresses(SERVERS), rows=7)
