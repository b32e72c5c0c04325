# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_isvapp.emulator import Emulator, EmulatorConfig, ManualClock
from tests.unit.emulator.caller import Caller

NOW = datetime(2024, 4, 15, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def start(clock: ManualClock) -> Iterator[Callable[..., Caller]]:
    """Start emulators whose clock stops at noon of 15 April 2024."""
    with ExitStack() as running:

        def start(**options: Any) -> Caller:
            config = EmulatorConfig(**{"requests_per_second": None, "export_seconds": 60.0, "rows": 200} | options)
            return Caller(running.enter_context(Emulator(config, clock=clock)))

        yield start


@pytest.fixture
def caller(start: Callable[..., Caller]) -> Caller:
    return start()


@pytest.fixture
def ready(start: Callable[..., Caller], clock: ManualClock) -> Callable[..., tuple[Caller, str]]:
    """Start emulators with one export that can be downloaded."""

    def ready(**options: Any) -> tuple[Caller, str]:
        caller = start(**options)
        export_id = caller.export()
        clock.advance(60)
        assert caller.record(export_id)["status"] == "COMPLETED"
        return caller, export_id

    return ready
