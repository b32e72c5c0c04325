# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.errors import ExportRefused
from airflow_provider_isvapp.transfer.audit import find_month_mismatch
from airflow_provider_isvapp.transfer.destination import local_destination
from airflow_provider_isvapp.transfer.results import Outcome, WriteResult
from tests.support.downloads import download_with
from tests.support.file_server import FileResponse, FileServer, gzip_bytes, ndjson

YEAR = [f"2023-{month:02}" for month in range(3, 13)] + ["2024-01", "2024-02"]


def of(*months: str) -> dict[str, int]:
    return dict.fromkeys(months, 1)


@pytest.mark.parametrize(
    ("found", "expected", "required"),
    [
        (of("2024-02"), None, True),
        (of("2024-02"), ["2024-02"], True),
        (of("2024-02"), ["2024-01", "2024-02"], False),
        (of(*YEAR), 12, True),
        (of("2024-02"), 1, True),
        (of("2024-02"), 12, False),
    ],
)
def test_the_right_months(found: dict[str, int], expected: list[str] | int | None, required: bool) -> None:
    assert find_month_mismatch(found, expected, required=required) is None


@pytest.mark.parametrize(
    ("found", "expected", "problem"),
    [
        (of("2024-02"), ["2024-01", "2024-02"], "no rows of requested months: 2024-01"),
        (of("2024-01", "2024-02"), ["2024-02"], "rows of months that were not requested: 2024-01"),
        (of(), 12, "it has no rows; months requested: 12"),
        (of(*YEAR[:3], *YEAR[4:10], *YEAR[11:]), 12, "no rows of 2023-06, 2024-01, between 2023-03 and 2024-02"),
        (of(*YEAR[1:]), 12, "rows of 2023-04 to 2024-02; months: 11, requested: 12"),
        (of(*YEAR), 1, "rows of 2023-03 to 2024-02; months: 12, requested: 1"),
    ],
)
def test_wrong_months_are_named(found: dict[str, int], expected: list[str] | int, problem: str) -> None:
    assert problem in (find_month_mismatch(found, expected, required=True) or "")


@pytest.mark.parametrize("partition_by", [None, "reference_date"])
@pytest.mark.parametrize(
    ("expected", "problem"),
    [
        (["2024-01", "2024-02"], "it has no rows of requested months: 2024-02"),
        (12, "it has rows of 2024-01 to 2024-01; months: 1, requested: 12"),
        (["2024-01"], None),
        (None, None),
    ],
)
def test_an_incomplete_export_is_written_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, expected: Any, problem: str | None, partition_by: Any
) -> None:
    path = tmp_path / ("usage" if partition_by is None else "{reference_date}")
    arguments = {"export_id": "e-1", "expected_months": expected, "partition_by": partition_by}

    for outcome in (Outcome.WRITTEN, Outcome.UNCHANGED):
        caplog.clear()
        result = download(path, ndjson(3, months=["2024-01"]), **arguments)
        said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        warnings = [message for message in said if "incomplete" in message]
        assert result.outcome is outcome
        assert len(warnings) == (problem is not None)
        for warning in warnings:
            assert f"Export e-1 is incomplete: {problem}." in warning
            assert "set require_months=True" in warning
            assert ("A stored object of a month without rows stays as it is." in warning) == bool(partition_by)


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (of(*YEAR, "2024-03"), "rows of 2023-03 to 2024-03; months: 13, requested: 12"),
        (of("abc"), "rows of 'abc', which is not a month"),
        (of("9" * 5_000 + "-01"), f"rows of '{'9' * 20}', which is not a month"),
        (of(""), "rows of '', which is not a month"),
    ],
)
def test_months_that_are_none_or_too_many_are_named(found: dict[str, int], problem: str, required: bool) -> None:
    assert problem in (find_month_mismatch(found, 12, required=required) or "")


def download(path: Path, plain: bytes, **arguments: Any) -> WriteResult:
    arguments = {"attempts": 3, "sleep": lambda seconds: None, **arguments}
    with FileServer(FileResponse(gzip_bytes(plain))) as server:
        result = download_with(server.source(), local_destination(str(path)), **arguments)
        assert len(server.requested_ranges) <= 1
        return result


FORMATS: list[dict[str, Any]] = [{}, {"compression": "gzip"}, {"output_format": "parquet"}]


def needs_pyarrow(*options: dict[str, Any]) -> None:
    if any(option.get("output_format") == "parquet" for option in options):
        pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")


@pytest.mark.parametrize("new", FORMATS, ids=str)
@pytest.mark.parametrize("old", FORMATS, ids=str)
def test_an_empty_export_does_not_replace_rows(tmp_path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    needs_pyarrow(old, new)
    path = tmp_path / "x.gz"
    download(path, ndjson(3), **old)
    before = path.read_bytes()
    with pytest.raises(ExportRefused, match=r"no rows, and the object at the path has some\. Set min_rows=0") as caught:
        download(path, b"", manifest=True, **new)
    assert caught.value.permanent
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    assert download(path, b"", min_rows=0, **new).outcome is Outcome.WRITTEN
    assert path.read_bytes() != before


@pytest.mark.parametrize("new", FORMATS, ids=str)
@pytest.mark.parametrize("old", [*FORMATS, None], ids=str)
def test_an_empty_export_replaces_an_empty_one(tmp_path: Path, old: dict[str, Any] | None, new: dict[str, Any]) -> None:
    needs_pyarrow(old or {}, new)
    path = tmp_path / "x.gz"
    if old is not None:
        download(path, b"", validate="full", **old)
    result = download(path, b"", export_id="e-1", **new)
    assert (result.outcome, result.rows) == (Outcome.WRITTEN, 0)
    assert download(path, b"", export_id="e-1", **new).outcome is Outcome.UNCHANGED


@pytest.mark.parametrize(
    "data",
    [b"x", b"\x1f\x8b", b"\x1f\x8bjunk", b"PAR1", b"PAR1junk", gzip.compress(b"", mtime=0)[:5] + b"x" * 40],
    ids=str,
)
def test_bytes_of_another_program_count_as_rows(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(ExportRefused, match="min_rows=0"):
        download(path, b"")
    assert path.read_bytes() == data


@pytest.mark.parametrize("export_id", [None, "e-1"])
def test_an_export_needs_its_fewest_rows(tmp_path: Path, export_id: str | None) -> None:
    path = tmp_path / "x"
    download(path, ndjson(3), min_rows=3, export_id=export_id)
    before = path.read_bytes()
    with pytest.raises(ExportRefused, match=r"Export e-1 .* it has 3 rows, and min_rows is 4"):
        download(path, ndjson(3), min_rows=4, export_id=export_id)
    assert path.read_bytes() == before


def test_an_empty_export_by_month_leaves_the_months(tmp_path: Path) -> None:
    path = tmp_path / "{reference_date}"
    download(path, ndjson(3), partition_by="reference_date")
    before = {item.name: item.read_bytes() for item in tmp_path.iterdir()}
    assert download(path, b"", partition_by="reference_date").objects == ()
    assert {item.name: item.read_bytes() for item in tmp_path.iterdir()} == before
    with pytest.raises(ExportRefused, match="min_rows is 1"):
        download(path, b"", partition_by="reference_date", min_rows=1)
