# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.plugins.export_list import ExportRow, to_rows

NOW = datetime(2026, 3, 6, 9, 0, tzinfo=UTC)

COMPLETED = {
    "id": "dd8eea7b",
    "type": "TAXONOMY_ITEM",
    "status": "COMPLETED",
    "url": "https://api.isvapp.com/api/v1/exports/dd8eea7b",
    "download_url": "https://api.isvapp.com/api/v1/exports/dd8eea7b/download/sentinel-token",
    "created_at": "2026-03-06T08:38:31.711005Z",
    "completed_at": "2026-03-06T08:42:22.100005Z",
    "expires_at": "2026-03-06T09:42:22.100005Z",
    "is_expired": False,
    "download_size_compressed_bytes": 1010000,
    "download_size_uncompressed_bytes": 12600000,
    "signed_copy": "https://files.example.com/dd8eea7b?signature=sentinel-token",
}


def row(**changes: Any) -> ExportRow:
    (only,) = to_rows([Export.from_record(COMPLETED | changes)], now=NOW)
    return only


def test_a_completed_export() -> None:
    assert row() == ExportRow(
        id="dd8eea7b",
        state="ready",
        created_at="2026-03-06T08:38:31.711005+00:00",
        finished_at="2026-03-06T08:42:22.100005+00:00",
        expires_at="2026-03-06T09:42:22.100005+00:00",
        age_seconds=1288.3,
        duration_seconds=230.4,
        expires_in_seconds=2542.1,
        compressed_bytes=1010000,
        plain_bytes=12600000,
        error_message=None,
    )


def test_a_waiting_export_has_an_age_and_no_duration() -> None:
    waiting = row(status="PENDING", completed_at=None, expires_at=None)

    assert (waiting.state, waiting.age_seconds, waiting.duration_seconds) == ("waiting", 1288.3, None)


def test_an_errored_export_took_until_its_error() -> None:
    failed = row(status="ERRORED", completed_at=None, errored_at="2026-03-06T08:39:31.711005Z", error_message="No.")

    assert (failed.state, failed.duration_seconds, failed.error_message) == ("failed", 60.0, "No.")


def test_an_expired_export_has_its_expiry() -> None:
    expired = row(is_expired=None, expires_at="2026-03-06T08:59:00Z")

    assert (expired.state, expired.expires_in_seconds) == ("expired", -60.0)


def test_fields_that_the_vendor_omits_are_none() -> None:
    (bare,) = to_rows([Export.from_record({"id": "a", "status": "PENDING"})], now=NOW)

    open_fields = {name for name, value in asdict(bare).items() if value is None}
    assert open_fields == set(asdict(bare)) - {"id", "state"}


def test_the_newest_comes_first_and_an_unknown_age_last() -> None:
    created = {"old": "2026-03-01T00:00:00Z", "unknown": None, "new": "2026-03-05T00:00:00Z"}
    exports = [Export.from_record(COMPLETED | {"id": name, "created_at": at}) for name, at in created.items()]

    assert [shown.id for shown in to_rows(exports, now=NOW)] == ["new", "old", "unknown"]


def test_clocks_that_differ_make_no_negative_times() -> None:
    early = row(created_at="2026-03-06T09:00:02Z", completed_at="2026-03-06T09:00:01Z")

    assert (early.age_seconds, early.duration_seconds) == (0.0, 0.0)


def test_rows_contain_no_urls() -> None:
    failed = row(status="ERRORED", error_message="See https://files.example.com/log?signature=sentinel-token for more.")

    assert failed.error_message == "See (URL) for more."
    for shown in (row(), failed):
        assert "://" not in repr(shown)
        assert "sentinel" not in repr(shown)


@pytest.mark.parametrize("piece", ["a", "a.", "://", "http://", "a ", "a+-", "\u202e", "\x00"])
def test_a_message_is_bounded_and_its_length_costs_nothing(piece: str) -> None:
    """Counts calls instead of time: a cost that is quadratic in 400,000 would take minutes."""

    def cost(length: int) -> float:
        record = COMPLETED | {"status": "ERRORED", "error_message": (piece * length)[:length]}
        export = Export.from_record(record)
        start = time.process_time()
        (failed,) = to_rows([export], now=NOW)
        assert len(failed.error_message or "") <= 2001
        return time.process_time() - start

    short = min(cost(10_000) for _ in range(3))
    assert cost(400_000) < 10 * short + 0.01


@pytest.mark.parametrize("letter", ["\x00", "\x1b", "\x85", "\u202e", "\u2066", "\ufeff", "\ud800", "\u2028"])
def test_control_bidirectional_and_unencodable_characters_are_removed(letter: str) -> None:
    failed = row(status="ERRORED", error_message=f"No{letter}entry.")

    assert failed.error_message == "No entry."


def test_no_more_rows_than_the_vendor_documents() -> None:
    first = datetime(2026, 1, 1, tzinfo=UTC)
    records = [
        COMPLETED | {"id": str(n), "created_at": (first + timedelta(seconds=n)).isoformat()} for n in range(1002)
    ]

    rows = to_rows([Export.from_record(record) for record in records], now=NOW)

    assert [rows[0].id, rows[-1].id, len(rows)] == ["1001", "2", 1000]
