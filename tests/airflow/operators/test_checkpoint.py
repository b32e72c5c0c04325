# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from airflow_provider_isvapp.api.isvapp.models import Export, ExportRequest
from airflow_provider_isvapp.api.schema.isvapp import ExportStatus
from airflow_provider_isvapp.operators import checkpoint
from airflow_provider_isvapp.operators.checkpoint import (
    STORE_KEY,
    ExportCheckpoint,
    SavedExport,
    hash_of,
    reason_to_discard,
    reason_to_replace,
)
from tests.support.task_context import TaskStateStore, task_context

NOW = datetime(2024, 3, 6, 6, tzinfo=UTC)
KEPT = SavedExport(export_id="export-1", request_hash="f", max_tries=3, known_since=1000.0)


def request_of(**changes: Any) -> ExportRequest:
    return ExportRequest.checked(**{"timeframe": "2024-02", "taxonomy_ids": ["a", "b"], **changes})


class TestFingerprint:
    def test_equal_requests_have_the_same(self) -> None:
        assert hash_of(request_of()) == hash_of(request_of(taxonomy_ids=("a", "b")))

    @pytest.mark.parametrize(
        "changes",
        [
            {"timeframe": "2024-01"},
            {"taxonomy_ids": ["a"]},
            {"taxonomy_ids": None, "taxonomy_item_ids": ["a", "b"]},
            {"salesforce_account_ids": ["0014x000FVCAPXF"]},
        ],
    )
    def test_any_change_shows(self, changes: dict[str, Any]) -> None:
        assert hash_of(request_of()) != hash_of(request_of(**changes))


class TestStartAfresh:
    def test_a_retry_of_the_same_request_does_not(self) -> None:
        assert reason_to_discard(KEPT, request_hash="f", max_tries=3) is None

    def test_a_clear_does(self) -> None:
        assert reason_to_discard(KEPT, request_hash="f", max_tries=4) == "the task was cleared since"

    def test_another_request_does(self) -> None:
        assert reason_to_discard(KEPT, request_hash="g", max_tries=3) == "the request has changed since"


class TestReplace:
    @pytest.mark.parametrize("status", [ExportStatus.PENDING, ExportStatus.COMPLETED])
    def test_a_living_export_is_kept(self, status: ExportStatus) -> None:
        export = Export(id="export-1", status=status, expires_at=NOW + timedelta(seconds=1))

        assert reason_to_replace(export, now=NOW) is None

    @pytest.mark.parametrize(
        ("export", "reason"),
        [
            (None, "ISVapp does not know it"),
            (Export(id="export-1", status=ExportStatus.COMPLETED, expires_at=NOW), "it has expired"),
            (Export(id="export-1", status=ExportStatus.COMPLETED, is_expired=True), "it has expired"),
            (Export(id="export-1", status=ExportStatus.ERRORED, error_message="too much"), "it errored (too much)"),
        ],
    )
    def test_a_lost_one_is_replaced(self, export: Export | None, reason: str) -> None:
        assert reason_to_replace(export, now=NOW) == reason


class TestCheckpoint:
    @pytest.fixture(autouse=True)
    def created_at_that_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(checkpoint.time, "time", lambda: KEPT.known_since)  # type: ignore[attr-defined]

    def test_saves_an_export_for_the_next_try(self) -> None:
        store = TaskStateStore()
        ExportCheckpoint(task_context(store, max_tries=3)).save("export-1", request_hash="f")

        assert ExportCheckpoint(task_context(store)).load() == KEPT

    def test_is_cleared(self) -> None:
        store = TaskStateStore()
        checkpoint = ExportCheckpoint(task_context(store))
        checkpoint.save("export-1", request_hash="f")

        checkpoint.clear()

        assert checkpoint.load() is None

    @pytest.mark.parametrize(
        "value", ["export-1", 7, {}, {"export_id": "export-1"}, {**msgspec.structs.asdict(KEPT), "max_tries": "3"}]
    )
    def test_ignores_an_invalid_checkpoint(self, value: Any) -> None:
        store = TaskStateStore()
        store.set(STORE_KEY, value)

        assert ExportCheckpoint(task_context(store)).load() is None

    def test_without_a_store_nothing_is_kept(self) -> None:
        checkpoint = ExportCheckpoint(task_context())
        checkpoint.save("export-1", request_hash="f")
        checkpoint.clear()

        assert checkpoint.load() is None

    def test_a_ready_export_is_seen_for_the_first_time_once_over_all_tries(self) -> None:
        store = TaskStateStore()
        ExportCheckpoint(task_context(store)).save("export-1", request_hash="f")

        first, later = ExportCheckpoint(task_context(store)), ExportCheckpoint(task_context(store))

        assert first.is_first_to_see_ready()
        assert not first.is_first_to_see_ready()
        assert not later.is_first_to_see_ready()
        assert later.load() == msgspec.structs.replace(KEPT, seen_ready=True)
        later.save("export-2", request_hash="f")
        assert later.is_first_to_see_ready()

    def test_without_a_store_each_try_counts_its_export(self) -> None:
        checkpoint = ExportCheckpoint(task_context())

        assert checkpoint.is_first_to_see_ready()
        assert checkpoint.is_first_to_see_ready()
