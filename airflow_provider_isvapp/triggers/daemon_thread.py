# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Blocking calls beside an event loop, in threads that nobody has to wait for.

``asyncio.to_thread`` shares a pool that the whole triggerer uses, and a process joins the threads of a pool before it
exits. A request may wait minutes for the shared limiter: it must neither occupy that pool nor hold up a shutdown.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

Result = TypeVar("Result")


async def in_daemon_thread(call: Callable[[], Result], *, name: str) -> Result:
    """Run a blocking call in a thread of its own and wait for its result without blocking the loop.

    Cancelling the waiter leaves the thread to finish; what it returns then is dropped.

    :param name: the thread's name, as it shows in stack dumps.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def deliver(result: Result | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, error = None, None
        try:
            result = call()
        except BaseException as problem:  # noqa: BLE001 (belongs to the waiter)
            error = problem
        # The loop may be closed by now; then nobody waits any more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(deliver, result, error)

    threading.Thread(target=work, name=name, daemon=True).start()
    return await future
