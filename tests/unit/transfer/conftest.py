# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Shared by the transfer tests."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.support.ceph_gateway import ceph_gateway, missing_programs
from tests.support.object_stores import azurite, moto


@pytest.fixture
def full_disk() -> Iterator[Callable[[int], None]]:
    """Make each write fail that would exceed a file size, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The URL of an S3 server from a wheel."""
    pytest.importorskip("s3fs", reason="the extra 's3' is not installed")
    pytest.importorskip("moto.server", reason="moto[server] is not installed")
    with moto() as url:
        yield url


@pytest.fixture(scope="session")
def ceph_server() -> Iterator[str]:
    """The URL of a Ceph object gateway."""
    pytest.importorskip("s3fs", reason="the extra 's3' is not installed")
    if missing := missing_programs():
        pytest.skip(f"no {', '.join(missing)}: install Debian's ceph-mon, ceph-osd and radosgw")
    with ceph_gateway() as url:
        yield url


@pytest.fixture(scope="session")
def azure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an Azure storage account."""
    pytest.importorskip("azure.storage.blob", reason="the extra 'azure' is not installed")
    with azurite(tmp_path_factory.mktemp("azurite")) as url:
        yield url
