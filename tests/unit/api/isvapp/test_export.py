# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_isvapp.api.isvapp.export_state import ExportState, classify, is_ready_or_raise, may_appear
from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.api.schema.isvapp import ExportStatus
from airflow_provider_isvapp.errors import ContractBroken, ExportExpired, ExportFailed

COMPLETED: dict[str, Any] = {
    "completed_at": "2023-10-01T08:42:22.100005Z",
    "created_at": "2023-10-01T08:38:31.711005Z",
    "download_size_compressed_bytes": 1010000,
    "download_size_uncompressed_bytes": 12600000,
    "download_url": "https://api.isvapp.com/api/v1/exports/e1/download/sentinel",
    "error_message": None,
    "errored_at": None,
    "expires_at": "2023-10-01T09:42:22.100005Z",
    "id": "e1",
    "is_expired": False,
    "status": "COMPLETED",
    "type": "TAXONOMY_ITEM",
}
NOW = datetime(2023, 10, 1, 9, 0, tzinfo=UTC)


def test_a_record_becomes_typed_values():
    export = Export.from_record(COMPLETED | {"url": "https://api.isvapp.com/api/v1/exports/e1", "priority": 3})

    assert export.status is ExportStatus.COMPLETED
    assert export.completed_at == datetime(2023, 10, 1, 8, 42, 22, 100005, tzinfo=UTC)
    assert export.download_size_uncompressed_bytes == 12600000
    assert export.is_expired is False
    assert dict(export.extra) == {"priority": 3}


def test_any_field_but_the_id_may_be_absent():
    export = Export.from_record({"id": "e1"})

    assert (export.type, export.download_url, export.created_at, export.is_expired) == (None, None, None, None)


def test_details_are_json_and_hold_no_download_url():
    export = Export.from_record(COMPLETED | {"priority": 3, "mirror": ["https://cdn.test/sentinel"]})

    details = export.details()

    assert json.loads(json.dumps(details)) == details
    assert details["id"] == "e1"
    assert details["status"] == "COMPLETED"
    assert details["completed_at"] == "2023-10-01T08:42:22.100005+00:00"
    assert details["priority"] == 3
    assert "download_url" not in details
    assert "sentinel" not in json.dumps(details) + repr(export)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": None}, "without an id"),
        ({"id": " "}, "without an id (a string of 1 characters)"),
        ({"id": True}, "without an id (true or false)"),
        ({"id": 1.5}, "without an id (a number)"),
        ({"status": 5}, "Export e1: the field 'status' is a number and not one of PENDING, COMPLETED, ERRORED"),
        ({"download_url": 7}, "Export e1: the field 'download_url' is a number and not a string"),
        ({"download_url": ["sentinel"]}, "is a list of 1 elements and not a string"),
        ({"type": {}}, "'type' is an object and not a string"),
        ({"completed_at": "yesterday"}, "'completed_at' is a string of 9 characters and not a time in ISO 8601"),
        ({"completed_at": 7}, "'completed_at' is a number and not a time"),
        ({"completed_at": True}, "'completed_at' is true or false and not a time"),
        ({"is_expired": "no"}, "'is_expired' is a string of 2 characters and not true or false"),
        ({"is_expired": 2}, "'is_expired' is a number and not true or false"),
        ({"is_expired": 0.0}, "'is_expired' is a number and not true or false"),
        ({"download_size_compressed_bytes": "1,010"}, "'download_size_compressed_bytes' is a string of 5 characters"),
        ({"download_size_compressed_bytes": "-12"}, "is a string of 3 characters and not a size in bytes"),
        ({"download_size_compressed_bytes": "9" * 5000}, "is a string of 5000 characters and not a size in bytes"),
        ({"download_size_compressed_bytes": True}, "is true or false and not a size in bytes"),
        ({"download_size_compressed_bytes": 1.5}, "is a number and not a size in bytes"),
        ({"download_size_uncompressed_bytes": -1}, "is a number and not a size in bytes"),
    ],
)
def test_an_ambiguous_value_is_an_error(change, message):
    with pytest.raises(ContractBroken) as caught:
        Export.from_record(COMPLETED | change)
    assert message in str(caught.value)
    assert "sentinel" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "sent", "read"),
    [
        ("id", 8315, "8315"),
        ("status", "completed", ExportStatus.COMPLETED),
        ("status", " Completed ", ExportStatus.COMPLETED),
        ("download_size_compressed_bytes", "1010000", 1010000),
        ("download_size_compressed_bytes", 1010000.0, 1010000),
        ("download_size_uncompressed_bytes", "", None),
        ("is_expired", "false", False),
        ("is_expired", "True", True),
        ("is_expired", 0, False),
        ("is_expired", "1", True),
        ("is_expired", "", None),
        ("error_message", " ", None),
        ("error_message", {"code": 7}, '{"code": 7}'),
        ("errored_at", "", None),
        ("download_url", "", None),
        *(
            ("completed_at", sent, datetime(2023, 10, 1, 8, 42, 22, tzinfo=UTC))
            for sent in (
                "2023-10-01 08:42:22",
                "2023-10-01 08:42:22Z",
                "2023-10-01 08:42:22 UTC",
                "2023-10-01 10:42:22 +0200",
                "2023-10-01T10:42:22+02",
                "Sun, 01 Oct 2023 08:42:22 GMT",
                "2023-10-01T08:42:22.000+0000",
                "1696149742",
                "1696149742000",
                1696149742,
                1696149742.0,
                1696149742000,
            )
        ),
    ],
)
def test_an_unambiguous_value_is_read_with_a_warning(field, sent, read):
    told: dict[str, str] = {}

    export = Export.from_record(COMPLETED | {field: sent}, on_undocumented=told.__setitem__)

    assert getattr(export, field) == read
    assert list(told) == [field]
    assert "sentinel" not in told[field]


def test_a_documented_record_causes_no_warning():
    told: list[tuple[str, str]] = []

    Export.from_record(COMPLETED, on_undocumented=lambda *oddity: told.append(oddity))

    assert told == []


@pytest.mark.parametrize("status", ["PAUSED", "", None, "DONE"])
@pytest.mark.parametrize(
    ("change", "meant", "state"),
    [
        ({}, ExportStatus.COMPLETED, ExportState.READY),
        ({"is_expired": True}, ExportStatus.COMPLETED, ExportState.EXPIRED),
        ({"download_url": None}, ExportStatus.PENDING, ExportState.WAITING),
        ({"completed_at": None}, ExportStatus.PENDING, ExportState.WAITING),
        ({"errored_at": "2023-10-01T08:42:22Z"}, ExportStatus.ERRORED, ExportState.FAILED),
    ],
)
def test_an_unknown_status_is_decided_by_the_record(status, change, meant, state):
    told: dict[str, str] = {}

    export = Export.from_record(COMPLETED | change | {"status": status}, on_undocumented=told.__setitem__)

    assert (export.status, classify(export, now=NOW)) == (meant, state)
    assert f"it is taken for {meant}, since it has" in told["status"]
    assert (f"the status '{status}', which is not documented" if status else "no status") in told["status"]


@pytest.mark.parametrize("record", [None, [], "e1"])
def test_something_else_than_an_object_is_loud(record):
    with pytest.raises(ContractBroken, match="must be a JSON object"):
        Export.from_record(record)


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"status": "PENDING", "expires_at": None}, ExportState.WAITING),
        ({}, ExportState.READY),
        ({"is_expired": True}, ExportState.EXPIRED),
        ({"is_expired": None}, ExportState.READY),
        ({"is_expired": None, "expires_at": "2023-10-01T08:59:59Z"}, ExportState.EXPIRED),
        ({"is_expired": False, "expires_at": "2023-10-01T08:59:59Z"}, ExportState.READY),
        ({"is_expired": None, "expires_at": None}, ExportState.READY),
        ({"status": "ERRORED"}, ExportState.FAILED),
        ({"status": "ERRORED", "is_expired": True}, ExportState.FAILED),
    ],
)
def test_one_decision(change, state):
    assert classify(Export.from_record(COMPLETED | change), now=NOW) is state


@pytest.mark.parametrize(("seconds", "expected"), [(-5, True), (0, True), (29, True), (30, False), (3600, False)])
def test_an_unknown_export_may_appear_for_half_a_minute(seconds, expected):
    assert may_appear(known_since=NOW - timedelta(seconds=seconds), now=NOW) is expected


def test_require_ready():
    assert is_ready_or_raise(Export.from_record(COMPLETED), now=NOW)
    assert not is_ready_or_raise(Export.from_record({"id": "e1", "status": "PENDING"}), now=NOW)


def test_an_errored_export_fails_with_the_vendors_message():
    record = {"id": "e1", "status": "ERRORED", "error_message": "too many taxonomy items"}
    with pytest.raises(ExportFailed, match="Export e1 errored at ISVapp: too many taxonomy items") as caught:
        is_ready_or_raise(Export.from_record(record), now=NOW)
    assert caught.value.export_id == "e1"
    assert caught.value.permanent


def test_an_expired_export_has_its_own_error():
    with pytest.raises(ExportExpired, match="Export e1 expired at 2023-10-01T09:42:22") as caught:
        is_ready_or_raise(Export.from_record(COMPLETED | {"is_expired": True}), now=NOW)
    assert caught.value.permanent
