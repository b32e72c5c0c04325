# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A poller against the emulator, with short intervals; other tests cover the real ones without waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.emulator import Emulator
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.triggers.poller import ExportPoller

POLL_INTERVAL = 0.05
Result = TypeVar("Result")


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(asyncio.wait_for(coroutine, timeout=20))


def create_exports(count: int) -> list[str]:
    with IsvappHook() as hook:
        return [
            hook.create_export(timeframe="LATEST_COMPLETED_MONTH", taxonomy_ids=["taxonomy"]).id for _ in range(count)
        ]


async def connect() -> IsvappClient:
    return await IsvappHook().aget_conn()


def wait_for(
    poller: ExportPoller,
    export_id: str,
    *,
    seconds: float = 600.0,
    poll_interval: float = POLL_INTERVAL,
    known_since: float = 0.0,
    on_warning: Callable[[str], None] = print,
) -> Awaitable[Export]:
    return poller.wait(
        export_id,
        deadline=time.time() + seconds,
        poll_interval=poll_interval,
        known_since=known_since,
        on_warning=on_warning,
    )


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 (the emulator is in another thread)
        await asyncio.sleep(0.01)


async def rounds(emulator: Emulator, count: int) -> None:
    """Let a number of polls happen from now on."""
    before = emulator.request_counts().get("list_exports", 0)
    await until(lambda: emulator.request_counts().get("list_exports", 0) >= before + count)


async def one_wait(export_id: str, *, seconds: float = 600.0, poll_interval: float = POLL_INTERVAL) -> Export:
    return await wait_for(
        ExportPoller("isvapp_default", connect), export_id, seconds=seconds, poll_interval=poll_interval
    )
