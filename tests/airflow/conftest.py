# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
from airflow import __version__ as airflow_version

from airflow_provider_isvapp.ratelimit import storage
from tests.support.airflow_connections import (
    clock,
    download_url,
    emulator,
    isvapp,
    logs,
    productiv,
    ready,
    set_connection,
)

__all__ = ["clock", "download_url", "emulator", "isvapp", "logs", "productiv", "ready", "set_connection"]


@pytest.fixture(scope="session")
def airflow_database(airflow_database: None) -> Iterator[None]:
    """Let whole DAGs share one Execution API: ``dag.test()`` of Airflow 3.0 to 3.2 needs up to two seconds to build it
    for each task. Their triggerer and DAG processor share theirs, too.
    """
    with pytest.MonkeyPatch.context() as patch:
        if airflow_version.startswith(("3.0.", "3.1.", "3.2.")):
            from airflow.sdk.execution_time import supervisor

            patch.setattr(supervisor, "in_process_api_server", cache(supervisor.in_process_api_server))
        yield


@pytest.fixture(scope="module", autouse=True)
def own_limiter_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Separate the state that the tests share between processes from that of the user's Airflow."""
    directory = tmp_path_factory.mktemp("limiter")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "default_directory", lambda: directory)
        yield
