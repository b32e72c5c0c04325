# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The one decision about an export: is it waiting, ready, failed or expired?

Poking, rescheduling and deferred sensors, retries and downloads all ask here.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.api.schema.isvapp import ExportStatus
from airflow_provider_isvapp.errors import ExportExpired, ExportFailed

# For how long after its creation an export may be unknown to one of the vendor's servers.
NOT_FOUND_GRACE = timedelta(seconds=30)


class ExportState(StrEnum):
    """What a caller can do about an export now."""

    WAITING = "waiting"
    READY = "ready"
    FAILED = "failed"
    EXPIRED = "expired"


def classify(export: Export, *, now: datetime) -> ExportState:
    """Turn a record into a state.

    The vendor's own ``is_expired`` is believed before our clock; ``expires_at`` counts only where the flag is absent.

    :param now: the current time, timezone-aware.
    """
    if export.status is ExportStatus.ERRORED:
        return ExportState.FAILED
    expired = export.is_expired
    if expired is None:
        expired = export.expires_at is not None and export.expires_at <= now
    if expired:
        return ExportState.EXPIRED
    return ExportState.READY if export.status is ExportStatus.COMPLETED else ExportState.WAITING


def may_appear(*, known_since: datetime, now: datetime) -> bool:
    """Say whether an export that the vendor does not know (404) is worth waiting for, because it is that new.

    :param known_since: when the caller first had the export's id, by the clock of ``now``.
    :param now: the current time, timezone-aware.
    """
    return now - known_since < NOT_FOUND_GRACE


def is_ready_or_raise(export: Export, *, now: datetime) -> bool:
    """Say whether an export can be downloaded now.

    :return: True if it can, False if it is worth waiting.
    :raises ExportFailed: with the vendor's message, if the export errored.
    :raises ExportExpired: if its file is gone.
    """
    match classify(export, now=now):
        case ExportState.READY:
            return True
        case ExportState.WAITING:
            return False
        case ExportState.FAILED:
            raise ExportFailed(
                f"Export {export.id} errored at ISVapp: {export.error_message or 'no reason given'}. "
                "Create a new export; if that one errors too, ask the vendor with this id.",
                export_id=export.id,
            )
        case ExportState.EXPIRED:
            when = f" at {export.expires_at.isoformat()}" if export.expires_at else ""
            raise ExportExpired(
                f"Export {export.id} expired{when} and can no longer be downloaded. Create a new export, for example "
                "by clearing the task that created this one.",
                export_id=export.id,
            )
