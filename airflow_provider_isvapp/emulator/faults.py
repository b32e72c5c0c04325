# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The faults that are still to happen."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from airflow_provider_isvapp.emulator.endpoint import Endpoint
from airflow_provider_isvapp.emulator.fault import ANSWERING, Fault


@dataclass
class _Pending:
    fault: Fault
    spare: int
    left: int | None


class Faults:
    """All of them, in the order in which they were injected; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: list[_Pending] = []

    def inject(self, fault: Fault) -> None:
        """Let a fault happen from the next request on."""
        with self._lock:
            self._pending.append(_Pending(fault, fault.after, fault.times))

    def take(self, endpoint: Endpoint, *, export_id: str | None, month: str | None) -> tuple[Fault, ...]:
        """Return what happens to a request, and count it as having happened."""
        taken = []
        with self._lock:
            for pending in self._pending:
                if not pending.fault.matches(endpoint, export_id, month):
                    continue
                if pending.spare:
                    pending.spare -= 1
                    continue
                taken.append(pending.fault)
                if pending.left is not None:
                    pending.left -= 1
                if pending.fault.kind in ANSWERING:
                    break
            self._pending = [pending for pending in self._pending if pending.left != 0]
        return tuple(taken)

    def pending(self) -> list[tuple[Fault, int | None]]:
        """Return the faults still to happen and how often; None means for ever."""
        with self._lock:
            return [(pending.fault, pending.left) for pending in self._pending]

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        with self._lock:
            self._pending.clear()
