# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Writes to a staged object in a thread, so that storage and checks work at the same time."""

from __future__ import annotations

import contextvars
import threading

from airflow_provider_isvapp.transfer.handover import Handover
from airflow_provider_isvapp.transfer.staged import Staged

_DEPTH = 8


class WriteBehind:
    """Hands bytes to a staged object a few pieces later, in order.

    An error of the storage shows at a later :meth:`write` or at :meth:`drain`; nothing is written after it.

    :param staged: only this thread writes to it until :meth:`drain` or :meth:`stop` has returned.
    """

    def __init__(self, staged: Staged) -> None:
        self._staged = staged
        self._queue: Handover[bytes | None] = Handover(_DEPTH)
        self._error: BaseException | None = None
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(self._run,), name="isvapp-write", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Take bytes to be written.

        :raises StorageFailed: if bytes that were taken before could not be written.
        """
        if self._error is not None:
            raise self._error
        self._queue.put(data)

    def drain(self) -> None:
        """Wait until everything is written.

        :raises StorageFailed: if something could not be written.
        """
        self.stop()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Wait until the thread has let go of the object; harmless the second time."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (data := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._staged.write(data)
                except BaseException as error:  # noqa: BLE001 - handed over to the writer
                    self._error = error
