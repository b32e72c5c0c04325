# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The part of the leaking DAG that runs in the triggerer, which imports it by its name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_isvapp.triggers.isvapp import EARLIEST_EVENT
from tests.system.secrets.planted import PLANTED


class PlantingTrigger(BaseTrigger):
    """Leaks a value, and waits until a file is there."""

    def __init__(self, *, hint: str, file: str) -> None:
        super().__init__()
        self.hint = hint
        self.file = file

    def serialize(self) -> tuple[str, dict[str, str]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", {"hint": self.hint, "file": self.file}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        self.log.info("The triggerer was told: %s", PLANTED["triggerer's log"])
        # Another process makes the file, perhaps before the scheduler has recorded the deferral.
        await asyncio.sleep(EARLIEST_EVENT)
        while not await asyncio.to_thread(Path(self.file).exists):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        yield TriggerEvent({})
