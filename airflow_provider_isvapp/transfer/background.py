# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Runs work in a thread, so that whoever waits for it can look up."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable

_TICK_SECONDS = 0.2
_SECONDS_TO_LET_GO = 1.0


class Background:
    """One function in a thread of its own.

    :param work: what to do.
    :param name: of the thread.
    """

    def __init__(self, work: Callable[[], None], *, name: str) -> None:
        self._work = work
        self._error: BaseException | None = None
        # Task logs of Airflow are bound to the context.
        run = contextvars.copy_context().run
        # A daemon: a process that was told to stop does not wait for a silent server.
        self._thread = threading.Thread(target=run, args=(self._run,), name=name, daemon=True)
        self._thread.start()

    def is_done(self) -> bool:
        """Wait a moment for the end, and return whether it has come.

        :raises BaseException: what the function raised.
        """
        self._thread.join(timeout=_TICK_SECONDS)
        # Asked in this order: a thread that ends in between must not be taken for one that ended well.
        is_over = not self._thread.is_alive()
        if self._error is not None:
            raise self._error
        return is_over

    def let_go(self) -> None:
        """Wait a moment for the end, whatever it is; the function was told otherwise that it shall stop."""
        self._thread.join(timeout=_SECONDS_TO_LET_GO)

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - handed over to who waits
            self._error = error
