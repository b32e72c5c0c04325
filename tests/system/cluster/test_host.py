# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import os
import time
from pathlib import Path

import psutil
import pytest

from tests.system.cluster.cluster import Cluster, ClusterFailed
from tests.system.cluster.host import Host, missing_rights
from tests.system.cluster.translation import LocalService

pytestmark = pytest.mark.skipif(missing_rights() is not None, reason=f"hosts cannot be imitated: {missing_rights()}")


def service(home: Path, name: str, script: str, check: str = "", needs: dict[str, str] | None = None) -> LocalService:
    folders = {"AIRFLOW_HOME": home / name / "airflow", "HOME": home / name, "TMPDIR": home / name / "tmp"}
    return LocalService(
        name=name,
        service=name,
        home=home / name,
        words=("sh", "-c", script),
        environment={"PATH": os.environ["PATH"], "HOSTNAME": name}
        | {key: str(value) for key, value in folders.items()},
        healthcheck=("sh", "-c", check) if check else (),
        links={home / name / "airflow" / "logs": home / "logs"},
        needs=needs or {},
    )


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 20
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.02)
    return path.read_text().strip()


def test_a_host_has_a_name_and_dies_with_all_its_processes(tmp_path: Path) -> None:
    # A process that has left the session of its parent would survive a kill of its group.
    script = "setsid sh -c 'sleep 300 & wait' & hostname > logs/name; wait"
    host = Host(service(tmp_path, "first", script), tmp_path)
    host.start()
    try:
        assert wait_for(tmp_path / "logs" / "name") == "first"
        assert host.pid is not None
        everything = psutil.Process(host.pid).children(recursive=True)
        while not any("sleep" in process.name() for process in everything):
            everything = psutil.Process(host.pid).children(recursive=True)
    finally:
        host.kill()
    assert host.status is not None
    assert not [process for process in everything if process.is_running()]


def test_hosts_start_in_order(tmp_path: Path) -> None:
    services = [
        service(tmp_path, "last", "date +%s%N > logs/last; sleep 300", "true", {"middle": "service_healthy"}),
        service(
            tmp_path,
            "middle",
            "sleep 0.5; date +%s%N > logs/middle; sleep 300",
            "test -s logs/middle",
            {"first": "service_completed_successfully"},
        ),
        service(tmp_path, "first", "sleep 0.5; date +%s%N > logs/first"),
    ]
    said: list[str] = []
    with Cluster(services, tmp_path) as cluster:
        cluster.start(said.append)
        processes = [psutil.Process(host.pid) for host in cluster.hosts.values() if host.status is None]
    moments = [int(wait_for(tmp_path / "logs" / name)) for name in ("first", "middle", "last")]
    assert moments == sorted(moments)
    assert said == ["first is done", "middle is healthy", "last is healthy"]
    assert len(processes) == 2
    assert not [process for process in processes if process.is_running()]


def test_a_host_that_exits_is_noticed(tmp_path: Path) -> None:
    with (
        Cluster([service(tmp_path, "broken", "exit 3", "false")], tmp_path) as cluster,
        pytest.raises(ClusterFailed, match="broken ended with status 3"),
    ):
        cluster.start(print)
