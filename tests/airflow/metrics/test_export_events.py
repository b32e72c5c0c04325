# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_isvapp import metrics
from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.api.schema.isvapp import ExportStatus
from airflow_provider_isvapp.errors import ExportError, ExportExpired, ExportFailed, NotFound, ProviderError
from airflow_provider_isvapp.events import Event, ExportEnded
from airflow_provider_isvapp.metrics import record_failures, record_if_lost, record_ready

CREATED = datetime(2024, 3, 6, 6, tzinfo=UTC)
DETAILS = {"created_at": CREATED.isoformat(), "completed_at": (CREATED + timedelta(seconds=100)).isoformat()}


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    found: list[Event] = []
    monkeypatch.setattr(metrics, "record", found.append)
    return found


@pytest.mark.parametrize(
    ("seen_after", "waited"),
    [
        pytest.param(112, 112, id="as it was seen"),
        pytest.param(130, 130, id="at the end of a poll interval"),
        pytest.param(131, 100, id="later than a wait"),
        pytest.param(90_000, 100, id="a day later"),
        pytest.param(-5, 0, id="by a clock that is behind"),
    ],
)
def test_a_wait_ends_when_the_export_is_seen_unless_no_task_waited(
    events: list[Event], seen_after: int, waited: int
) -> None:
    record_ready(DETAILS, seen_at=CREATED + timedelta(seconds=seen_after), poll_interval=30)

    assert events == [ExportEnded(outcome="completed", waited=waited)]


def test_a_record_without_times_counts(events: list[Event]) -> None:
    record_ready({"created_at": None}, seen_at=CREATED, poll_interval=30)

    assert events == [ExportEnded(outcome="completed")]


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        (ExportFailed("no", export_id="e"), [ExportEnded(outcome="errored")]),
        (ExportExpired("no", export_id="e"), [ExportEnded(outcome="expired")]),
        (ExportError("not yet", export_id="e"), []),
        (NotFound("gone", status=404), []),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_the_end_of_an_export_counts(events: list[Event], error: ProviderError, counted: list[Event]) -> None:
    with pytest.raises(type(error)), record_failures():
        raise error

    assert events == counted


@pytest.mark.parametrize(
    ("export", "counted"),
    [
        (Export(id="e", status=ExportStatus.ERRORED), [ExportEnded(outcome="errored")]),
        (Export(id="e", status=ExportStatus.COMPLETED, is_expired=True), [ExportEnded(outcome="expired")]),
        (Export(id="e", status=ExportStatus.COMPLETED), []),
        (Export(id="e", status=ExportStatus.PENDING), []),
    ],
)
def test_a_lost_export_counts(events: list[Event], export: Export, counted: list[Event]) -> None:
    record_if_lost(export)

    assert events == counted
