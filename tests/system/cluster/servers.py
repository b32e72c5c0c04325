# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Servers on this machine in place of the compose file's third-party images."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from tests.support import ceph_gateway
from tests.support.object_stores import moto
from tests.support.services import PostgresqlServer, RedisServer


@dataclass(frozen=True, kw_only=True)
class ObjectStore:
    """An S3 server with one user."""

    name: str
    url: str
    access_key: str
    secret_key: str

    @property
    def port(self) -> int:
        """Where it listens."""
        return urlsplit(self.url).port or 80


@contextmanager
def object_store(values: Mapping[str, str]) -> Iterator[ObjectStore]:
    """Start a Ceph gateway if Debian's packages are there, else moto's server.

    :param values: of the compose file; moto takes any keys, the gateway has its own.
    """
    if ceph_gateway.missing_programs():
        with moto() as url:
            yield ObjectStore(
                name="moto", url=url, access_key=values["S3_ACCESS_KEY"], secret_key=values["S3_SECRET_KEY"]
            )
    else:
        keys = {"access_key": ceph_gateway.ACCESS_KEY, "secret_key": ceph_gateway.SECRET_KEY}
        with ceph_gateway.ceph_gateway() as url:
            yield ObjectStore(name="Ceph RADOS gateway", url=url, **keys)


class Database(PostgresqlServer):
    """PostgreSQL as its image starts it: with one user, one database of the user's name, and durable writes.

    :param logs: the folder that keeps the log.
    """

    def __init__(self, *, user_name: str, user_password: str, logs: Path) -> None:
        super().__init__()
        self._name, self._password, self._logs = user_name, user_password, logs

    def command(self) -> list[str]:
        return [word.replace("fsync=off", "fsync=on") for word in super().command()]

    def start(self) -> None:
        super().start()
        with psycopg.connect(self.url, autocommit=True) as session:
            name = sql.Identifier(self._name)
            role = sql.SQL("create role {} login superuser password {}")
            session.execute(role.format(name, sql.Literal(self._password)))
            session.execute(sql.SQL("create database {} owner {}").format(name, name))

    def stop(self) -> None:
        super().stop()
        _keep_log(self.directory, self._logs / "postgres.log")


class Broker(RedisServer):
    """Valkey or Redis without a password.

    :param logs: the folder that keeps the log.
    """

    def __init__(self, *, logs: Path) -> None:
        super().__init__()
        self._logs = logs

    def command(self) -> list[str]:
        words = super().command()
        at = words.index("--requirepass")
        return words[:at] + words[at + 2 :]

    def stop(self) -> None:
        super().stop()
        _keep_log(self.directory, self._logs / "redis.log")


def _keep_log(directory: Path, target: Path) -> None:
    if (directory / "log").exists():
        shutil.copyfile(directory / "log", target)
