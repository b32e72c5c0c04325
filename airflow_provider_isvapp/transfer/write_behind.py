# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Writes the output in a thread, so that storage and checks work at the same time."""

from __future__ import annotations

import contextvars
import threading

from airflow_provider_isvapp.transfer.handover import Handover
from airflow_provider_isvapp.transfer.output import Output, Piece

_DEPTH = 3
_TICK_SECONDS = 0.2


class WriteBehind:
    """Hands pieces to an output a little later, in order.

    An error of the storage shows at a later :meth:`offer` or at :meth:`is_drained`; nothing is written after it.

    :param output: only the thread here writes to it until :meth:`is_drained` says so or :meth:`stop` has returned.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._queue: Handover[list[Piece] | None] = Handover(_DEPTH)
        self._error: BaseException | None = None
        self._stopped = False
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(self._run,), name="isvapp-write", daemon=True)
        self._thread.start()

    def offer(self, batch: list[Piece] | None) -> bool:
        """Take pieces, or None after the last ones; or return False if the storage is too far behind for now.

        :raises BaseException: what the output raised at a piece before.
        """
        if self._error is not None:
            raise self._error
        return self._queue.put(batch, timeout=_TICK_SECONDS)

    def is_drained(self) -> bool:
        """Wait a moment for the last piece to be written, and return whether it is.

        :raises BaseException: what the output raised.
        """
        self._thread.join(timeout=_TICK_SECONDS)
        if self._error is not None:
            raise self._error
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Write nothing more, and wait a moment for the piece that is being written."""
        self._stopped = True
        self._queue.put(None, timeout=0)
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while not self._stopped and (batch := self._queue.get()) is not None:
            if self._error is None:
                try:
                    for piece in batch:
                        self._output.write(piece)
                except BaseException as error:  # noqa: BLE001 - handed over to the reader
                    self._error = error
