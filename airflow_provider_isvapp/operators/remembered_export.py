# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Which export a task has created already, kept over its retries.

Airflow 3.3 keeps values for a task over its tries and deferrals (``context["task_state_store"]``); before that, nothing
survives a try. A clear does not empty that store. But it gives the task new tries: ``max_tries`` becomes the number of
tries used so far plus ``retries``, while a retry leaves it as it is (``clear_task_instances`` in Airflow 2.11 to 3.3).
So the value tells whether the task was cleared since. The one exception is a clear while the task's process runs, which
Airflow itself turns into a retry.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from airflow_provider_isvapp.api.isvapp.export import Export
from airflow_provider_isvapp.api.isvapp.export_request import ExportRequest
from airflow_provider_isvapp.api.isvapp.export_state import ExportState, decide
from airflow_provider_isvapp.version_compat import Context

STORE_KEY = "isvapp_export"


def fingerprint_of(request: ExportRequest) -> str:
    """Return a short text that is equal for equal requests only."""
    return hashlib.sha256(json.dumps(request.payload(), sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class RememberedExport:
    """What is kept of an export.

    :param fingerprint: of the request that it was created with.
    :param max_tries: Airflow's bookkeeping at that time.
    :param known_since: when it was created, in seconds since the epoch.
    """

    export_id: str
    fingerprint: str
    max_tries: int
    known_since: float


def reason_to_start_afresh(remembered: RememberedExport, *, fingerprint: str, max_tries: int) -> str | None:
    """Say why an export is not even worth asking for; None if it is."""
    if remembered.max_tries != max_tries:
        return "the task was cleared since"
    if remembered.fingerprint != fingerprint:
        return "the request has changed since"
    return None


def reason_to_replace(export: Export | None, *, now: datetime) -> str | None:
    """Say why an export cannot be taken over; None if it can.

    :param export: as the vendor shows it now; None if the vendor does not know it.
    :param now: the present time, aware.
    """
    if export is None:
        return "ISVapp does not know it"
    match decide(export, now=now):
        case ExportState.FAILED:
            return f"it errored ({export.error_message or 'no reason given'})"
        case ExportState.EXPIRED:
            return "it has expired"
        case ExportState.WAITING | ExportState.READY:
            return None


class ExportMemory:
    """The place of one task for the export that it has created.

    :param context: of the running task. Without a store in it, nothing is kept.
    """

    def __init__(self, context: Context) -> None:
        self._store: Any = context.get("task_state_store")
        self._max_tries = 0 if self._store is None else int(context["ti"].max_tries)

    @property
    def max_tries(self) -> int:
        """Airflow's bookkeeping now."""
        return self._max_tries

    def recall(self) -> RememberedExport | None:
        """Return what was kept, if anything that this version understands."""
        match None if self._store is None else self._store.get(STORE_KEY):
            case {
                "export_id": str(export_id),
                "fingerprint": str(fingerprint),
                "max_tries": int(max_tries),
                "known_since": float(known_since),
            }:
                return RememberedExport(
                    export_id=export_id, fingerprint=fingerprint, max_tries=max_tries, known_since=known_since
                )
        return None

    def keep(self, export_id: str, *, fingerprint: str) -> None:
        """Keep an export for the next try."""
        if self._store is not None:
            kept = RememberedExport(
                export_id=export_id, fingerprint=fingerprint, max_tries=self._max_tries, known_since=time.time()
            )
            self._store.set(STORE_KEY, asdict(kept))

    def is_first_sight(self) -> bool:
        """Say whether the kept export is seen to be ready for the first time in all tries, and keep that it was."""
        kept = None if self._store is None else self._store.get(STORE_KEY)
        if not isinstance(kept, dict):
            return True
        if kept.get("seen_ready"):
            return False
        self._store.set(STORE_KEY, {**kept, "seen_ready": True})
        return True

    def forget(self) -> None:
        """Let the next try create an export of its own."""
        if self._store is not None:
            self._store.delete(STORE_KEY)
