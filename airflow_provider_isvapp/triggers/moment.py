# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Trigger that waits until a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow_provider_isvapp.triggers.isvapp import EARLIEST_EVENT
from airflow_provider_isvapp.version_compat import BaseTrigger, TriggerEvent


class MomentTrigger(BaseTrigger):
    """Wait in the triggerer until a moment.

    Airflow's own trigger of this kind lives in different packages in 2.11 and 3.x.

    :param moment: seconds since the epoch; absolute, so that a restarted triggerer does not begin anew.
    """

    def __init__(self, *, moment: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.moment = moment

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what is stored of the trigger."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"moment": self.moment}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then yield one event that repeats the moment."""
        await asyncio.sleep(max(self.moment - time.time(), EARLIEST_EVENT))
        yield TriggerEvent({"moment": self.moment})  # type: ignore[no-untyped-call]
