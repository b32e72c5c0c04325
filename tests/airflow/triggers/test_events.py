# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import inspect
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_isvapp import errors
from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.errors import ExportError, ProviderError, RequestRefused
from airflow_provider_isvapp.triggers.isvapp import failure_event, read_event, ready_event, seen_at

RECORD = {
    "id": "export-1",
    "status": "COMPLETED",
    "download_url": "https://api.isvapp.com/api/v1/exports/export-1/download/sentinel-token",
    "completed_at": "2024-03-05T08:42:22.100005Z",
    "download_size_compressed_bytes": 1010000,
}
ERRORS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, ProviderError)]


def example(kind: type[ProviderError]) -> ProviderError:
    if issubclass(kind, ExportError):
        return kind("what happened", export_id="export-1")
    if issubclass(kind, RequestRefused):
        return kind("what happened", status=404)
    return kind("what happened")


def through_the_database(event: dict[str, Any]) -> Any:
    return json.loads(json.dumps(event))


def test_details_survive_without_the_download_url() -> None:
    export = Export.from_record(RECORD)

    event = through_the_database(ready_event(export))

    assert read_event(event, export_id="export-1") == export.details()
    assert "sentinel" not in json.dumps(event)


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_survives_with_its_class_and_message(kind: type[ProviderError]) -> None:
    event = through_the_database(failure_event("export-1", example(kind)))

    with pytest.raises(ProviderError) as caught:
        read_event(event, export_id="export-1")

    assert type(caught.value) is kind
    assert str(caught.value) == "what happened"
    assert vars(caught.value) == vars(example(kind))


def test_an_error_of_a_newer_version_keeps_its_message() -> None:
    event = {"export_id": "export-1", "error": "NotYetInvented", "message": "what happened"}

    with pytest.raises(ProviderError, match="what happened") as caught:
        read_event(event, export_id="export-1")
    assert type(caught.value) is ProviderError


@pytest.mark.parametrize(
    "event",
    [
        None,
        {},
        "success",
        True,
        ["export-1"],
        {"status": "success"},
        {"export_id": "export-1"},
        {"export_id": "export-1", "export": "COMPLETED"},
        {"export_id": "another", "export": {"id": "another"}},
        {"export_id": "export-1", "error": "ExportFailed"},
        {"export_id": "export-1", "error": 7, "message": "what happened"},
        {"export_id": "export-1", "error": "ExportFailed", "message": ["what happened"]},
        {"export_id": "export-1", "export": {}},
        {"export_id": "export-1", "export": RECORD | {"id": "another"}},
        {"export_id": "export-1", "export": RECORD | {"status": "PENDING"}},
        {"export_id": "export-1", "export": RECORD | {"status": ["COMPLETED"]}},
        {"export_id": "export-1", "export": RECORD | {"completed_at": "yesterday"}},
        {"export_id": "export-1", "export": RECORD | {"download_size_compressed_bytes": "much"}},
        {"export_id": "x" * 5_000_000, "export": RECORD},
        {"x" * 5_000_000: 1},
    ],
)
def test_anything_else_is_never_a_success(event: Any) -> None:
    with pytest.raises(ProviderError, match=r"export export-1 .* event that this version does not understand"):
        read_event(event, export_id="export-1")
    assert seen_at(event) <= datetime.now(UTC)


@pytest.mark.parametrize("moment", [7, None, "yesterday", "2024-03-05T08:42:22", "9" * 5_000_000])
def test_a_moment_that_is_none_is_taken_as_now(moment: Any) -> None:
    before = datetime.now(UTC)

    assert before <= seen_at({"seen_at": moment}) <= datetime.now(UTC)


def test_a_message_of_five_megabytes_is_cut_when_written_and_when_read() -> None:
    event = failure_event("export-1", ProviderError("x" * 5_000_000))
    with pytest.raises(ProviderError) as caught:
        read_event(event | {"message": "y" * 5_000_000}, export_id="export-1")

    assert len(json.dumps(event)) < 10_000
    assert len(str(caught.value)) < 10_000


def test_a_record_of_any_size_makes_a_small_event() -> None:
    huge = {f"field{number}": "x" * 190 for number in range(10_000)}
    record = RECORD | {"error_message": "x" * 5_000_000, "nested": [[["x" * 1000]]] * 1000, **huge}

    assert len(json.dumps(ready_event(Export.from_record(record)))) < 20_000


def test_a_strange_event_is_described_by_its_shape_only() -> None:
    with pytest.raises(ProviderError) as caught:
        read_event({"b": "sentinel", "a": 1}, export_id="export-1")
    assert "(fields a, b)" in str(caught.value)
    assert "sentinel" not in str(caught.value)
