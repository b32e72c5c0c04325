# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""All hosts together: started in the order of the compose file, and always stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.system.cluster.host import Host
from tests.system.cluster.translation import LocalService

SECONDS_TO_START = 300.0


class ClusterFailed(Exception):
    """The cluster cannot continue; the message says why."""


class Cluster:
    """A context manager; leaving it kills every host.

    :param services: the services to start.
    :param logs: a folder for the log of each host.
    """

    def __init__(self, services: list[LocalService], logs: Path) -> None:
        self.hosts = {service.name: Host(service, logs) for service in services}

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts.values():
            host.kill()

    def roots(self) -> dict[int, str]:
        """Return the processes that all others descend from, by name."""
        return {pid: name for host in self.hosts.values() for pid, name in host.roots.items()}

    def start(self, say: Callable[[str], None]) -> None:
        """Start every host when its dependencies are ready, and return when all are healthy.

        :raises ClusterFailed: one of them ended, or they took too long.
        """
        deadline = time.monotonic() + SECONDS_TO_START
        up: set[str] = set()
        while len(up) < len(self.hosts):
            for host in self.hosts.values():
                if not host.started and all(self._is(*need) for need in host.service.needs.items()):
                    host.start()
                host.run_health_check()
                if host.name not in up and (host.healthy or host.status == 0):
                    up.add(host.name)
                    say(f"{host.name} is {'healthy' if host.healthy else 'done'}")
            self.check()
            if time.monotonic() > deadline:
                missing = ", ".join(sorted(set(self.hosts) - up))
                raise ClusterFailed(f"After {SECONDS_TO_START:.0f} s these were not up: {missing}.")
            time.sleep(0.2)

    def check(self) -> None:
        """Check that no host has died without being killed.

        :raises ClusterFailed: naming it.
        """
        for host in self.hosts.values():
            # Services without a health check run to their end.
            if host.status is not None and (host.service.healthcheck or host.status != 0) and host.expected:
                raise ClusterFailed(f"{host.name} ended with status {host.status}.")

    def _is(self, service: str, condition: str) -> bool:
        hosts = [host for host in self.hosts.values() if host.service.service == service]
        assert hosts, f"there is no service {service} to wait for"
        match condition:
            case "service_healthy":
                return all(host.healthy for host in hosts)
            case "service_completed_successfully":
                return all(host.status == 0 for host in hosts)
            case "service_started":
                return all(host.started for host in hosts)
        raise AssertionError(f"an unknown condition: {condition}")
