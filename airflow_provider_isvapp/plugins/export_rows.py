# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""From the vendor's records to the rows of the exports page. Pure: no Airflow, no HTTP, no clock of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from airflow_provider_isvapp.api.isvapp.export import Export
from airflow_provider_isvapp.api.isvapp.export_state import decide

# As many as the vendor documents for its list.
MOST_ROWS = 1000
# Of an id or of a message. An error of ours quotes less of the vendor's than that, and says what to do.
_LONGEST_TEXT = 2000


@dataclass(frozen=True, kw_only=True)
class ExportRow:
    """One export as the page shows it. Whatever the vendor left out is None.

    :param state: an :class:`ExportState`: what can be done with the export at the time of the reading.
    :param created_at: ISO 8601, as are the other times.
    :param age_seconds: since it was created.
    :param duration_seconds: from creation to completion or error; None while it waits.
    :param expires_in_seconds: until its file is gone; negative if it is.
    :param error_message: the vendor's, fit to be shown: see :func:`shown`; the words with URLs are left out.
    """

    id: str
    state: str
    created_at: str | None
    finished_at: str | None
    expires_at: str | None
    age_seconds: float | None
    duration_seconds: float | None
    expires_in_seconds: float | None
    compressed_bytes: int | None
    plain_bytes: int | None
    error_message: str | None


def rows_of(exports: Iterable[Export], *, now: datetime) -> list[ExportRow]:
    """Make the rows of the 1000 newest exports, the newest first and those of unknown age last.

    :param now: when the exports were read, aware.
    """
    newest_first = sorted(
        exports, key=lambda export: export.created_at.timestamp() if export.created_at else float("-inf"), reverse=True
    )
    return [_row(export, now) for export in newest_first[:MOST_ROWS]]


def shown(text: str) -> str:
    """Make a text fit for the page: bounded, and without characters that control, reorder or cannot be encoded."""
    bounded = text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"
    return "".join(letter if letter.isprintable() else " " for letter in bounded)


def _without_urls(message: str) -> str:
    # Nobody promises that the vendor's message quotes no signed URL.
    return " ".join("(URL)" if "://" in word else word for word in message.split())


def _row(export: Export, now: datetime) -> ExportRow:
    finished_at = export.completed_at or export.errored_at
    return ExportRow(
        id=shown(export.id),
        state=str(decide(export, now=now)),
        created_at=_iso(export.created_at),
        finished_at=_iso(finished_at),
        expires_at=_iso(export.expires_at),
        age_seconds=_not_negative(_seconds(export.created_at, now)),
        duration_seconds=_not_negative(_seconds(export.created_at, finished_at)),
        expires_in_seconds=_seconds(now, export.expires_at),
        compressed_bytes=export.download_size_compressed_bytes,
        plain_bytes=export.download_size_uncompressed_bytes,
        error_message=_without_urls(shown(export.error_message)) if export.error_message else None,
    )


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return round((end - start).total_seconds(), 1) if start and end else None


def _not_negative(seconds: float | None) -> float | None:
    # The vendor's clock and ours are two: an export can seem to come from the future.
    return None if seconds is None else max(seconds, 0.0)
