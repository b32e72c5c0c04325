# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

from collections.abc import Iterator

import pytest

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


@pytest.fixture(scope="module", autouse=True)
def own_limiter_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what the tests share between processes away from what the user's Airflow shares."""
    directory = tmp_path_factory.mktemp("limiter")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "default_directory", lambda: directory)
        yield
