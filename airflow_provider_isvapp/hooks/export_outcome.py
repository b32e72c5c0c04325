# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What became of an export, counted by the task that learns of it.

Never by a trigger: the task that it resumes learns the same, and several triggers may wait for one export.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_isvapp.api.isvapp.export_state import ExportState, decide
from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.errors import ExportExpired, ExportFailed
from airflow_provider_isvapp.events import ExportEnded
from airflow_provider_isvapp.metrics import record


def count_ready(details: Mapping[str, Any], *, seen_at: datetime, poll_interval: float) -> None:
    """Count an export that can be downloaded, with the time it took.

    An export that was ready more than a poll interval before it was seen was not waited for: then the vendor's own time
    counts.

    :param details: the export's, as in an XCom.
    :param seen_at: when it was seen to be ready, aware.
    :param poll_interval: the most seconds between two looks at it.
    """
    created_at, completed_at = (_moment(details.get(name)) for name in ("created_at", "completed_at"))
    ready_at = seen_at
    if completed_at is not None and seen_at - completed_at > timedelta(seconds=poll_interval):
        ready_at = completed_at
    waited = None if created_at is None else max((ready_at - created_at).total_seconds(), 0.0)
    record(ExportEnded(outcome="completed", waited=waited))


@contextmanager
def failures_counted() -> Iterator[None]:
    """Count an export that turns out to have errored or expired within the block."""
    try:
        yield
    except ExportFailed:
        record(ExportEnded(outcome="errored"))
        raise
    except ExportExpired:
        record(ExportEnded(outcome="expired"))
        raise


def count_if_lost(export: Export) -> None:
    """Count an export that is looked at again and has errored or expired meanwhile."""
    match decide(export, now=datetime.now(UTC)):
        case ExportState.FAILED:
            record(ExportEnded(outcome="errored"))
        case ExportState.EXPIRED:
            record(ExportEnded(outcome="expired"))


def _moment(text: Any) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None
