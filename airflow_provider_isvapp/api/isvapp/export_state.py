# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The state of an export: waiting, ready, failed or expired.

Sensors in all modes, retries and downloads all decide by it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.api.schema.isvapp import ExportStatus
from airflow_provider_isvapp.errors import ExportExpired, ExportFailed

# How long one of the vendor's servers may not know a new export.
NOT_FOUND_GRACE = timedelta(seconds=30)


class ExportState(StrEnum):
    """The states of an export, by what a caller can do next."""

    WAITING = "waiting"
    READY = "ready"
    FAILED = "failed"
    EXPIRED = "expired"


def classify(export: Export, *, now: datetime) -> ExportState:
    """Return the state of an export.

    The vendor's ``is_expired`` takes precedence over our clock; ``expires_at`` counts only if the flag is absent.

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
    """Return whether an export that the vendor does not know (404) is so new that it may still appear.

    :param known_since: when the caller first had the export's id, timezone-aware.
    :param now: the current time, timezone-aware.
    """
    return now - known_since < NOT_FOUND_GRACE


def is_ready_or_raise(export: Export, *, now: datetime) -> bool:
    """Return whether an export can be downloaded now.

    :return: True if it is ready, False if it is still being processed.
    :raises ExportFailed: with the vendor's message, if the export errored.
    :raises ExportExpired: if its file has expired.
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
