# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A local server that emulates ISVapp and Productiv, for development, tests and demos.

Needs the extra ``emulator``: ``pip install 'airflow-provider-isvapp[emulator]'``.

::

    with Emulator(EmulatorConfig(export_seconds=0.2, rows=1000)) as emulator:
        requests.get(f"{emulator.url}/api/v1/account", headers={"Authorization": f"Bearer {emulator.api_key}"})
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_isvapp.emulator.config import Clock, EmulatorConfig, ManualClock
from airflow_provider_isvapp.emulator.faults import Fault, FaultKind
from airflow_provider_isvapp.emulator.http import Endpoint, RequestRecord

if TYPE_CHECKING:
    from airflow_provider_isvapp.emulator.server import Emulator

__all__ = [
    "Clock",
    "Emulator",
    "EmulatorConfig",
    "Endpoint",
    "Fault",
    "FaultKind",
    "ManualClock",
    "RequestRecord",
]


MISSING_EXTRA = "The emulator needs aiohttp: pip install 'airflow-provider-isvapp[emulator]'"


def __getattr__(name: str) -> Any:
    """Import the server on first use: everything else here works without aiohttp."""
    if name != "Emulator":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from airflow_provider_isvapp.emulator.server import Emulator
    except ModuleNotFoundError as error:
        if error.name != "aiohttp":
            raise
        raise ModuleNotFoundError(MISSING_EXTRA, name=error.name) from None
    return Emulator
