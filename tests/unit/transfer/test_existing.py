# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The existing object: the same export is not downloaded again, and if_exists decides about another one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.errors import DestinationExists
from airflow_provider_isvapp.transfer.destination import local_destination
from airflow_provider_isvapp.transfer.results import Outcome, WriteResult
from tests.support.downloads import download_with
from tests.support.file_server import FileResponse, FileServer, gzip_bytes, ndjson

PLAIN = ndjson(3_000, months=("2024-02", "2024-03"))


def download(path: Path | str, plain: bytes = PLAIN, **options: Any) -> WriteResult:
    options = {"sleep": lambda seconds: None, "attempts": 1, **options}
    with FileServer(FileResponse(gzip_bytes(plain))) as server:
        return download_with(server.source(), local_destination(str(path)), **options)


def test_skip_keeps_the_existing_object(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"old\n")
    with FileServer(FileResponse(gzip_bytes(PLAIN))) as server:
        result = download_with(server.source(), local_destination(str(tmp_path / "x")), if_exists="skip")
        assert server.requested_ranges == []
    assert result.outcome is Outcome.SKIPPED
    assert result.rows is None
    assert (tmp_path / "x").read_bytes() == b"old\n"
    assert download(tmp_path / "y", if_exists="skip").outcome is Outcome.WRITTEN


@pytest.mark.parametrize("if_exists", ["overwrite", "skip", "fail"])
@pytest.mark.parametrize(
    "form",
    [{}, {"compression": "gzip"}, {"validate": "full"}, {"output_format": "parquet"}, {"manifest": True}],
    ids=str,
)
def test_a_rerun_of_the_same_export_downloads_nothing(tmp_path: Path, if_exists: Any, form: dict[str, Any]) -> None:
    if form.get("output_format") == "parquet":
        pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    with FileServer(FileResponse(gzip_bytes(PLAIN))) as server:
        destination = local_destination(str(tmp_path / "x.gz"))
        options: Any = {"export_id": "e-1", "if_exists": if_exists, **form}
        first = download_with(server.source(), destination, **options)
        again = download_with(server.source(), destination, **options)
        assert len(server.requested_ranges) == 1
    assert (first.outcome, again.outcome) == (Outcome.WRITTEN, Outcome.UNCHANGED)
    for figure in ("rows", "bytes", "compressed_bytes", "crc32", "months", "manifests"):
        assert getattr(again, figure) == getattr(first, figure)


def touched(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-2] + b" \n")


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


@pytest.mark.parametrize("change", [touched, replaced, Path.unlink])
def test_a_file_that_was_changed_is_written_again(tmp_path: Path, change: Any) -> None:
    download(tmp_path / "x", export_id="e-1")
    change(tmp_path / "x")
    assert download(tmp_path / "x", export_id="e-1").outcome is Outcome.WRITTEN
    assert (tmp_path / "x").read_bytes() == PLAIN


@pytest.mark.parametrize(
    "options", [{"export_id": "e-2"}, {"compression": "gzip"}, {"validate": "full"}], ids=["export", "form", "checks"]
)
def test_another_export_or_form_is_written(tmp_path: Path, options: dict[str, Any]) -> None:
    download(tmp_path / "x.gz", export_id="e-1")
    assert download(tmp_path / "x.gz", **{"export_id": "e-1"} | options).outcome is Outcome.WRITTEN


MONTHS: dict[str, Any] = {"partition_by": "reference_date", "export_id": "e-1"}


@pytest.mark.parametrize("if_exists", ["overwrite", "skip", "fail"])
@pytest.mark.parametrize(
    "more", [{}, {"compression": "gzip"}, {"output_format": "parquet"}, {"manifest": True}], ids=str
)
def test_a_rerun_of_a_divided_export_downloads_nothing(tmp_path: Path, if_exists: Any, more: dict[str, Any]) -> None:
    if more.get("output_format") == "parquet":
        pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    # Beside it are an older month of another export, and a file that is not a month.
    (tmp_path / "in[1]" / "2024-01").mkdir(parents=True)
    (tmp_path / "in[1]" / "2024-01" / "2024-01.gz").write_bytes(b"older\n")
    (tmp_path / "in[1]" / "notes").write_bytes(b"none\n")
    template = tmp_path / "in[1]" / "{reference_date}" / "{reference_date}.gz"
    first = download(template, **MONTHS, **more)
    with FileServer(FileResponse(b"")) as server:
        again = download_with(server.source(), local_destination(str(template)), if_exists=if_exists, **MONTHS, **more)
        assert server.requested_ranges == []
    assert (first.outcome, again.outcome) == (Outcome.WRITTEN, Outcome.UNCHANGED)
    for figure in ("rows", "bytes", "compressed_bytes", "crc32", "months", "manifests"):
        assert getattr(again, figure) == getattr(first, figure)


@pytest.mark.parametrize("change", [touched, Path.unlink])
def test_a_divided_export_with_a_month_that_was_changed_is_written_again(tmp_path: Path, change: Any) -> None:
    download(tmp_path / "{reference_date}", **MONTHS)
    change(tmp_path / "2024-03")
    assert download(tmp_path / "{reference_date}", **MONTHS).outcome is Outcome.WRITTEN
    assert (tmp_path / "2024-03").read_bytes() + (tmp_path / "2024-02").read_bytes() == by_month(PLAIN)


def by_month(plain: bytes) -> bytes:
    lines = plain.splitlines(keepends=True)
    return b"".join(line for month in (b"2024-03", b"2024-02") for line in lines if b'"%s"' % month in line)


def test_skip_writes_the_months_that_are_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "2024-02").write_bytes(b"old\n")
    caplog.set_level(logging.INFO)
    result = download(tmp_path / "{reference_date}", if_exists="skip", **MONTHS)
    assert (tmp_path / "2024-02").read_bytes() == b"old\n"
    assert [item.reference_date for item in result.objects] == ["2024-03"]
    assert (tmp_path / "2024-03").stat().st_size == result.objects[0].bytes
    assert caplog.text.count("2024-02 already exists and stays as it is") == 1
    (tmp_path / "2024-03").write_bytes(b"old\n")
    assert download(tmp_path / "{reference_date}", if_exists="skip", **MONTHS).outcome is Outcome.SKIPPED


def test_fail_raises_at_the_first_row_of_an_existing_month(tmp_path: Path) -> None:
    (tmp_path / "2024-03").write_bytes(b"old\n")
    with pytest.raises(DestinationExists, match="2024-03 exists"):
        download(tmp_path / "{reference_date}", if_exists="fail", **MONTHS)
    assert [path.name for path in tmp_path.iterdir()] == ["2024-03"]
    assert (tmp_path / "2024-03").read_bytes() == b"old\n"


def test_fail_continues_where_a_run_of_the_same_export_was_killed_between_two_months(tmp_path: Path) -> None:
    download(tmp_path / "{reference_date}", **MONTHS)
    (tmp_path / "2024-03").unlink()
    result = download(tmp_path / "{reference_date}", if_exists="fail", **MONTHS)
    assert [item.reference_date for item in result.objects] == ["2024-03"]


@pytest.mark.parametrize("left", [None, b"", b"{}", b'{"source": {"export_id": "e-0"}}'], ids=str)
def test_a_manifest_that_a_killed_run_did_not_write_is_written_by_the_next(tmp_path: Path, left: bytes | None) -> None:
    download(tmp_path / "x", export_id="e-1")
    if left is not None:
        (tmp_path / "_x.manifest.json").write_bytes(left)
    result = download(tmp_path / "x", export_id="e-1", manifest=True)
    assert result.outcome is Outcome.WRITTEN
    assert b'"export_id": "e-1"' in (tmp_path / "_x.manifest.json").read_bytes()
