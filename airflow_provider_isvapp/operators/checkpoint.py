# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Saves a task's export across retries, so that a retry reuses it instead of creating another one."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import msgspec

from airflow_provider_isvapp.api.isvapp.export_state import ExportState, classify
from airflow_provider_isvapp.api.isvapp.models import Export, ExportRequest
from airflow_provider_isvapp.errors import DamagedDownload, ExportError, ExportExpired, ExportFailed, ExportRefused
from airflow_provider_isvapp.metrics import record_failures
from airflow_provider_isvapp.version_compat import Context

STORE_KEY = "isvapp_export"


def hash_of(request: ExportRequest) -> str:
    """Return a hash that identifies the request."""
    return hashlib.sha256(json.dumps(request.payload(), sort_keys=True).encode()).hexdigest()[:32]


class SavedExport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The content of the checkpoint.

    :param request_hash: the hash of the request that created the export.
    :param max_tries: the task instance's ``max_tries`` at that time, which a clear raises.
    :param known_since: when the export was created, in seconds since the epoch.
    :param seen_ready: whether a try has seen the export ready.
    """

    export_id: str
    request_hash: str
    max_tries: int
    known_since: float
    seen_ready: bool = False


def reason_to_discard(saved: SavedExport, *, request_hash: str, max_tries: int) -> str | None:
    """Return why the saved export cannot be reused, without a request to the vendor; None if it may be reusable."""
    if saved.max_tries != max_tries:
        return "the task was cleared since"
    if saved.request_hash != request_hash:
        return "the request has changed since"
    return None


def reason_to_replace(export: Export | None, *, now: datetime) -> str | None:
    """Return why an export cannot be reused; None if it can.

    :param export: as the vendor shows it now; None if the vendor does not know it.
    :param now: the current time, timezone-aware.
    """
    if export is None:
        return "ISVapp does not know it"
    match classify(export, now=now):
        case ExportState.FAILED:
            return f"it errored ({export.error_message or 'no reason given'})"
        case ExportState.EXPIRED:
            return "it has expired"
        case ExportState.WAITING | ExportState.READY:
            return None


class ExportCheckpoint:
    """Stores a task's export across retries.

    :param context: the context of the running task. Nothing is saved if it has no task state store (before Airflow
        3.3).
    """

    def __init__(self, context: Context) -> None:
        self._store: Any = context.get("task_state_store")
        self._max_tries = 0 if self._store is None else int(context["ti"].max_tries)

    @property
    def max_tries(self) -> int:
        """The task instance's current ``max_tries``."""
        return self._max_tries

    def load(self) -> SavedExport | None:
        """Return the export that an earlier try saved; None if there is none in this format."""
        try:
            return msgspec.convert(None if self._store is None else self._store.get(STORE_KEY), SavedExport)
        except msgspec.ValidationError:
            return None

    def save(self, export_id: str, *, request_hash: str) -> None:
        """Save an export for the next try."""
        if self._store is not None:
            saved = SavedExport(
                export_id=export_id, request_hash=request_hash, max_tries=self._max_tries, known_since=time.time()
            )
            self._store.set(STORE_KEY, msgspec.to_builtins(saved))

    def is_first_to_see_ready(self) -> bool:
        """Record that this try saw the saved export ready, and return whether it was the first to do so."""
        saved = self.load()
        if saved is None or saved.seen_ready:
            return saved is None
        self._store.set(STORE_KEY, msgspec.to_builtins(msgspec.structs.replace(saved, seen_ready=True)))
        return True

    def clear(self) -> None:
        """Make the next try create a new export."""
        if self._store is not None:
            self._store.delete(STORE_KEY)

    @contextmanager
    def clear_if_lost(self, export_id: str) -> Iterator[None]:
        """Turn a lost, damaged or refused export into a failure that a retry fixes by creating a new export."""
        try:
            with record_failures():
                yield
        except DamagedDownload:
            self.clear()
            raise
        except ExportExpired as error:
            self.clear()
            # The error itself says to clear the task that created the export, which is this one.
            raise ExportError(
                f"Export {export_id} expired before this task had downloaded it. A retry of this task creates a new "
                "export.",
                export_id=export_id,
            ) from error
        except (ExportFailed, ExportRefused) as error:
            self.clear()
            raise ExportError(f"{error} A retry of this task creates a new export.", export_id=export_id) from error
