# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The log messages of a task."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.api.isvapp.models import ExportRequest
from airflow_provider_isvapp.emulator import Emulator, ManualClock
from airflow_provider_isvapp.log_messages import StatusLogger, log_folded, log_ready, log_request
from airflow_provider_isvapp.operators.isvapp import IsvappExportOperator
from tests.support.task_context import run_to_its_end, task_context


class Lines:
    """A log that records its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str, /, *args: object) -> None:
        self.lines.append(message % args)

    warning = info


@pytest.fixture
def log() -> Lines:
    return Lines()


class TestRequest:
    @pytest.mark.parametrize(
        ("request_for", "words"),
        [
            (
                {"timeframe": "2026-02", "taxonomy_ids": ["main"]},
                "of 2026-02: all items of taxonomy main; all accounts",
            ),
            (
                {"timeframe": "LATEST_12_COMPLETED_MONTHS", "taxonomy_level_ids": ["a", "b"]},
                "of the latest 12 completed months: all items of 2 taxonomy levels (a, b); all accounts",
            ),
            (
                {
                    "timeframe": "LATEST_COMPLETED_MONTH",
                    "taxonomy_item_ids": ["x"],
                    "salesforce_account_ids": ["0014x000FVCAPXF"],
                },
                "of the latest completed month: taxonomy item x; only account 0014x000FVCAPXF",
            ),
        ],
    )
    def test_a_request_is_logged_in_words(self, log: Lines, request_for: dict[str, Any], words: str) -> None:
        log_request(log, ExportRequest.checked(**request_for))

        assert log.lines == [f"Requesting an export (TAXONOMY_ITEM, MONTHLY) {words}"]

    def test_long_lists_are_counted_and_folded(self, log: Lines) -> None:
        items = [f"item-{number}" for number in range(4)]

        log_request(log, ExportRequest.checked(timeframe="2026-02", taxonomy_item_ids=items))

        assert log.lines == [
            "Requesting an export (TAXONOMY_ITEM, MONTHLY) of 2026-02: 4 taxonomy items; all accounts",
            "::group::4 taxonomy items",
            *items,
            "::endgroup::",
        ]


def test_a_percent_sign_is_kept(log: Lines) -> None:
    log_folded(log, "100% of it", ["50%s"])

    assert log.lines == ["::group::100% of it", "50%s", "::endgroup::"]


class TestReady:
    def test_logs_the_known_figures(self, log: Lines) -> None:
        log_ready(
            log,
            {
                "id": "export-1",
                "created_at": "2026-11-21T20:51:18+00:00",
                "completed_at": "2026-11-21T21:51:38.4+01:00",
                "expires_at": "2026-11-21T21:51:38+00:00",
                "download_size_compressed_bytes": 1_071_290,
                "download_size_uncompressed_bytes": 13_481_053,
            },
        )

        assert log.lines == [
            "Export export-1 is ready: generated in 20 s, 1,071,290 bytes compressed, 13,481,053 bytes as ndjson, "
            "available until 2026-11-21 21:51:38 UTC"
        ]

    def test_leaves_out_unknown_figures(self, log: Lines) -> None:
        log_ready(log, {"id": "export-1", "created_at": None})

        assert log.lines == ["Export export-1 is ready"]


def test_a_wait_logs_changes_and_once_per_minute_that_there_is_none(log: Lines) -> None:
    now = [0.0]
    wait = StatusLogger("export-1", log, clock=lambda: now[0])

    for moment, state in ((0, "PENDING"), (10, "PENDING"), (59, "PENDING"), (61, "PENDING"), (100, "PENDING")):
        now[0] = moment
        wait.update(state)
    now[0] = 121
    wait.update("PENDING")
    wait.update("QUEUED")

    assert log.lines == [
        "Export export-1 is PENDING",
        "Export export-1 is still PENDING after 61 s",
        "Export export-1 is still PENDING after 121 s",
        "Export export-1 is QUEUED",
    ]


def test_the_log_of_a_whole_task(
    isvapp: Emulator,
    clock: ManualClock,
    tmp_path: Path,
    logs: Callable[[], str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("airflow_provider_isvapp.triggers.isvapp.EARLIEST_EVENT", 0.0)
    monkeypatch.setattr("airflow_provider_isvapp.triggers.waiters.FIRST_INTERVAL", 0.02)
    path = str(tmp_path / "month={reference_date}.ndjson")

    run_to_its_end(
        lambda: IsvappExportOperator(
            task_id="export",
            timeframe="LATEST_12_COMPLETED_MONTHS",
            taxonomy_ids=["main"],
            path=path,
            partition_by="reference_date",
            manifest=True,
            deferrable=True,
        ),
        task_context(),
        deferred=lambda _: clock.advance(61),
    )

    (export_id,) = isvapp.exports
    log_text = [
        r"Requesting an export \(TAXONOMY_ITEM, MONTHLY\) of the latest 12 completed months: all items of taxonomy",
        rf"Export {export_id} is created and PENDING",
        r"Waiting in the triggerer for at most 3600 s, until .* UTC, polling at least every 30 s",
        rf"Export {export_id} is ready: generated in 60 s, [\d,]+ bytes compressed, [\d,]+ bytes as ndjson",
        rf"Downloading export {export_id} to {re.escape(path)}",
        rf"Wrote {re.escape(path)}: 2,400 rows, .* in .* s; 12 objects, one per month: \d{{4}}-\d\d to \d{{4}}-\d\d",
        r"::group::The 12 objects",
        r"month=\d{4}-\d\d\.ndjson: \d+ rows, [\d,]+ bytes",
        r"::endgroup::",
        r"::group::Their 12 manifests",
        r"month=\d{4}-\d\d\.ndjson\.manifest\.json",
        r"::endgroup::",
    ]
    # Airflow 2.11 also prints what it logs.
    logged = caplog.text if "Requesting" in caplog.text else logs()
    assert re.search(".*".join(log_text), logged, re.S), logged
    for logged_once in (log_text[0], log_text[1], log_text[2], log_text[3], log_text[4], log_text[5]):
        assert len(re.findall(logged_once, logged)) == 1
    assert logged.count("::group::") == logged.count("::endgroup::")
