# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Real storages for the tests of the limiter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.services import PostgresqlServer, RedisServer, Server, ServiceMissing


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    yield from running(RedisServer)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    yield from running(PostgresqlServer)


@pytest.fixture(params=["redis", "postgresql"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that is restarted after the test if the test stopped it."""
    server: Server = request.getfixturevalue(f"{request.param}_server")
    yield server
    server.resume()
    if not server.is_running():
        server.start()


@pytest.fixture(params=["file", "redis", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a storage that several processes can share."""
    if request.param == "file":
        return f"file://{tmp_path}/limiter"
    server: Server = request.getfixturevalue(f"{request.param}_server")
    return server.url


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A separate key of a limiter for each test."""
    return f"{os.getpid()}-{abs(hash(request.node.nodeid))}"


def running(kind: type[Server]) -> Iterator[Server]:
    try:
        with kind() as server:
            yield server
    except ServiceMissing as missing:
        if "CI" in os.environ:
            raise
        pytest.skip(f"needs {missing}")
