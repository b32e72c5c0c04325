# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The services of docker-compose.yaml that start without a profile, with generated secrets."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tests.support import ROOT
from tests.system.compose.conftest import generated_values, interpolated

__all__ = ["ROOT", "Service", "generated_values", "read_services"]


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service.

    :param words: entrypoint and command.
    :param healthcheck: a command, empty if there is none.
    :param mounts: paths inside the container, each with its folder or volume.
    :param needs: services that start first, each with its condition.
    """

    name: str
    image: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    environment: dict[str, str]
    healthcheck: tuple[str, ...]
    mounts: dict[str, str]
    needs: dict[str, str]
    replicas: int


def read_services(values: Mapping[str, str]) -> list[Service]:
    """Read the compose file with these values for its variables."""
    document = interpolated(yaml.safe_load((ROOT / "docker-compose.yaml").read_text()), dict(values))
    return [_service(name, fields) for name, fields in document["services"].items() if not fields.get("profiles")]


def _service(name: str, fields: Mapping[str, Any]) -> Service:
    volumes = [volume.split(":") for volume in fields.get("volumes", ())]
    return Service(
        name=name,
        image=fields["image"],
        entrypoint=_words(fields.get("entrypoint", ())),
        command=_words(fields.get("command", ())),
        environment={key: str(value) for key, value in fields.get("environment", {}).items()},
        healthcheck=_check(fields.get("healthcheck", {}).get("test", ["CMD"])),
        mounts={inside: source for source, inside, *_ in volumes},
        needs={needed: how["condition"] for needed, how in fields.get("depends_on", {}).items()},
        replicas=fields.get("deploy", {}).get("replicas", 1),
    )


def _words(command: str | list[str] | tuple[str, ...]) -> tuple[str, ...]:
    return tuple(shlex.split(command) if isinstance(command, str) else command)


def _check(test: list[str]) -> tuple[str, ...]:
    kind, *words = test
    if kind == "CMD-SHELL":
        return ("sh", "-c", *words)
    assert kind == "CMD", f"a health check of an unknown kind: {kind}"
    return tuple(words)
