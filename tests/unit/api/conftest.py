# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.doubles import FakeTime, RecordingLimiter
from tests.support.scripted_server import ScriptedServer

__all__ = ["FakeTime", "RecordingLimiter"]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as running:
        yield running


@pytest.fixture
def limiter() -> RecordingLimiter:
    return RecordingLimiter()


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()
