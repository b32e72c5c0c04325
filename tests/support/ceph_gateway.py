# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A Ceph object gateway for the tests: one monitor, one storage daemon in memory, one gateway.

Needs Debian's ``ceph-mon``, ``ceph-osd`` and ``radosgw``. Runs as any user, in a separate folder.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
ACCESS_KEY, SECRET_KEY = "isvapp-test-key", "isvapp-test-secret"
_READY_SECONDS = 90

_CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon_port}
public addr = 127.0.0.1
keyring = {home}/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon data = {home}/mon
osd data = {home}/osd
rgw data = {home}/rgw
run dir = {home}
admin socket = {home}/$name.asok
log file = {home}/$name.log
mon cluster log file = {home}/cluster.log
pid file =
osd objectstore = memstore
memstore device bytes = 4294967296
rgw frontends = beast endpoint=127.0.0.1:{rgw_port}
rgw gc obj min wait = 1
rgw gc processor period = 2
[osd]
keyring = {home}/osd/keyring
"""


def missing_programs() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name) is None]


@dataclass(frozen=True)
class Cluster:
    home: Path

    @property
    def configuration(self) -> str:
        return str(self.home / "ceph.conf")

    def run(self, *command: str) -> str:
        full = [command[0], "-c", self.configuration, *command[1:]]
        return subprocess.run(full, check=True, capture_output=True, text=True, timeout=_READY_SECONDS).stdout

    @contextmanager
    def daemon(self, *command: str) -> Iterator[None]:
        with (
            (self.home / f"{command[0]}.out").open("wb") as log,
            subprocess.Popen([command[0], "-c", self.configuration, *command[1:], "-f"], stdout=log, stderr=log) as it,
        ):
            try:
                yield
            finally:
                it.kill()


@contextmanager
def ceph_gateway() -> Iterator[str]:
    """Start everything and yield the gateway's URL. Takes about ten seconds."""
    # The path of a socket must be short, so this is not below pytest's folder.
    with tempfile.TemporaryDirectory(prefix="isvapp-ceph-") as folder, ExitStack() as stack:
        cluster = Cluster(Path(folder))
        mon_port, rgw_port = _free_ports(2)
        fsid, osd_id = str(uuid.uuid4()), str(uuid.uuid4())
        for name in ("mon", "osd", "rgw"):
            (cluster.home / name).mkdir()
        Path(cluster.configuration).write_text(
            _CONFIGURATION.format(fsid=fsid, home=cluster.home, mon_port=mon_port, rgw_port=rgw_port)
        )
        keyring, monmap = str(cluster.home / "keyring"), str(cluster.home / "monmap")
        cluster.run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        everything = [word for kind in ("mon", "osd", "mgr") for word in ("--cap", kind, "allow *")]
        cluster.run("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", *everything)
        cluster.run("monmaptool", "--create", "--addv", "a", f"[v2:127.0.0.1:{mon_port}]", "--fsid", fsid, monmap)
        cluster.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        stack.enter_context(cluster.daemon("ceph-mon", "-i", "a"))
        cluster.run("ceph", "osd", "new", osd_id)
        osd_keyring = str(cluster.home / "osd" / "keyring")
        cluster.run(
            "ceph", "auth", "get-or-create", "osd.0", "mon", "allow profile osd", "osd", "allow *", "-o", osd_keyring
        )
        cluster.run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_id)
        stack.enter_context(cluster.daemon("ceph-osd", "-i", "0"))
        _wait_until(lambda: "1 up" in cluster.run("ceph", "osd", "stat"), "the storage daemon")
        cluster.run(
            "radosgw-admin", "user", "create", "--uid=test", "--display-name=test",
            f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}",
        )  # fmt: skip
        stack.enter_context(cluster.daemon("radosgw", "-n", "client.admin", "--keyring", keyring))
        _wait_until(lambda: _listens(rgw_port), "the gateway")
        yield f"http://127.0.0.1:{rgw_port}"


def _wait_until(ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} of the Ceph cluster did not start")
        time.sleep(0.2)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for it in sockets:
            it.bind(("127.0.0.1", 0))
        return [it.getsockname()[1] for it in sockets]
