# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The differences between the containers of docker-compose.yaml and the processes of this machine.

| In the compose file | Here |
| --- | --- |
| a container | processes with a separate host name, process ids, home and temporary folder |
| ``service:port``, ``localhost:port`` in its health check | ``127.0.0.1`` and a free port, on which the service listens (``LISTENS``) |
| the images of PostgreSQL, Valkey and SeaweedFS | servers from wheels or Debian packages (``REPLACED``; see servers.py) |
| the image of Airflow: its entrypoint, ``/opt/airflow``, ``/opt/isvapp`` | ``airflow`` of this environment, a folder of the host, ``docker/`` |
| ``./dags`` | the DAG of this test (``FOLDERS``) |
| named volumes | folders that the hosts share, as they share volumes |
| the emulator's rows | fewer, so that two cores can also write and compare them |

Everything else is unchanged: every environment variable, command, health check, dependency and replica.
"""  # noqa: E501 (a table)

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT, free_port
from tests.system.cluster.compose_file import Service

# Their containers are replaced by other servers, which the caller starts.
REPLACED = {"postgres": 5432, "redis": 6379, "s3": 8333}
# The port of each process of Airflow, by its option; in containers, each has these ports for itself.
LISTENS = {
    "AIRFLOW__API__PORT": 8080,
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": 8974,
    "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": 8793,
    "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": 8794,
}
# A container is reached through published ports only.
LOOPBACK_ONLY = {
    "AIRFLOW__API__HOST": "127.0.0.1",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_HOST": "127.0.0.1",
}
AIRFLOW_IMAGE = "isvapp-airflow:local"
FOLDERS = {"./dags": Path(__file__).resolve().parent / "dags"}
# The entrypoint of Airflow's image runs other words as arguments of `airflow`.
PROGRAMS = ("airflow", "bash", "python")


class Addresses:
    """Ports of this machine in place of ports of containers.

    :param servers: ports of what is not started as a service here, by its name in the compose file.
    """

    def __init__(self, servers: Mapping[str, int]) -> None:
        self._ports = {(name, REPLACED[name]): port for name, port in servers.items()}

    def port(self, host: str, container_port: int) -> int:
        """Return the port in place of a container's, always the same one."""
        if (host, container_port) not in self._ports:
            # The kernel may offer a port again before the service that it was given to listens.
            port = next(port for port in iter(free_port, None) if port not in self._ports.values())
            self._ports[host, container_port] = port
        return self._ports[host, container_port]

    def translated(self, text: str, *, host: str, hosts: set[str]) -> str:
        """Replace hosts and ports in a text.

        :param host: whose ``localhost`` it is.
        :param hosts: all names of hosts.
        """
        names = "|".join(sorted(map(re.escape, hosts | {"localhost"}), key=len, reverse=True))

        def here(match: re.Match[str]) -> str:
            name = host if match[1] == "localhost" else match[1]
            return f"127.0.0.1:{self.port(name, int(match[2]))}"

        return re.sub(rf"(?<![\w.-])({names}):(\d+)(?!\w)", here, text)


@dataclass(frozen=True, kw_only=True)
class LocalService:
    """A service on this machine.

    :param service: its name in the compose file; ``name`` also has a number if there are several of it.
    :param links: symbolic links in place of mounts.
    """

    name: str
    service: str
    home: Path
    words: tuple[str, ...]
    environment: dict[str, str]
    healthcheck: tuple[str, ...]
    links: dict[Path, Path]
    needs: dict[str, str]


def localised(services: list[Service], folder: Path, urls: Addresses, *, rows: int) -> list[LocalService]:
    """Translate all services that are not replaced.

    :param folder: for the files of all hosts, and the volumes.
    :param rows: the emulator's.
    """
    hosts = {service.name for service in services}
    found = []
    for service in services:
        if service.name in REPLACED:
            continue
        for number in range(1, service.replicas + 1):
            name = service.name if service.replicas == 1 else f"{service.name}-{number}"
            found.append(_localised(service, name, hosts, folder, urls, rows))
    return found


def _localised(service: Service, name: str, hosts: set[str], folder: Path, urls: Addresses, rows: int) -> LocalService:
    assert service.image == AIRFLOW_IMAGE, f"nothing here stands for {service.image} of {service.name}"
    home = folder / "hosts" / name
    airflow_home = home / "opt" / "airflow"

    def here(text: str) -> str:
        # A service's other names lead to it as well.
        translated = urls.translated(text, host=name, hosts=hosts)
        return translated.replace("/opt/airflow", str(airflow_home)).replace("/opt/isvapp", str(ROOT / "docker"))

    words = service.entrypoint + service.command
    if not service.entrypoint and words[0] not in PROGRAMS:
        words = ("airflow", *words)
    if service.name == "emulator":
        words = tuple(_emulator_argument(word, name, urls, rows) for word in words)
    own = {
        "AIRFLOW_HOME": str(airflow_home),
        "HOME": str(home / "home"),
        "TMPDIR": str(home / "tmp"),
        "HOSTNAME": name,
        "LANG": "C.UTF-8",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), *os.environ["PATH"].split(os.pathsep)]),
    }
    listens = {option: str(urls.port(name, port)) for option, port in LISTENS.items()}
    return LocalService(
        name=name,
        service=service.name,
        home=home,
        words=tuple(map(here, words)),
        environment={key: here(value) for key, value in service.environment.items()} | own | listens | LOOPBACK_ONLY,
        healthcheck=tuple(map(here, service.healthcheck)),
        links={Path(here(inside)): _source(source, folder) for inside, source in service.mounts.items()},
        needs={needed: condition for needed, condition in service.needs.items() if needed not in REPLACED},
    )


def _emulator_argument(word: str, name: str, urls: Addresses, rows: int) -> str:
    option, _, value = word.partition("=")
    match option:
        case "--host":
            return "--host=127.0.0.1"
        case "--port":
            return f"--port={urls.port(name, int(value))}"
        case "--rows":
            return f"--rows={rows}"
    return word


def _source(source: str, folder: Path) -> Path:
    if source.startswith((".", "/")):
        return FOLDERS[source]
    return folder / "volumes" / source
