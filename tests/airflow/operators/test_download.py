# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What a task tells of an export that an earlier try has written."""

from __future__ import annotations

from pathlib import Path

from airflow_provider_isvapp.operators.download import published_objects
from airflow_provider_isvapp.transfer.destination import open_destination
from airflow_provider_isvapp.transfer.results import Outcome, WriteResult


def found(path: Path) -> WriteResult:
    return WriteResult(
        path=str(path),
        export_id="e-1",
        rows=5,
        bytes=90,
        compressed_bytes=40,
        crc32="0a0b0c0d",
        months={"2024-02": 2, "2024-03": 3},
        outcome=Outcome.UNCHANGED,
    )


def test_a_divided_export_is_told_of_month_by_month(tmp_path: Path) -> None:
    template = tmp_path / "{reference_date}"
    told = published_objects(found(template), open_destination(str(template)), output_format="ndjson")
    assert [(item.name.uri, item.rows, item.written) for item in told] == [
        (f"file://{tmp_path}/2024-02", 2, False),
        (f"file://{tmp_path}/2024-03", 3, False),
    ]
    assert told[1].metadata == {
        "path": f"{tmp_path}/2024-03",
        "export_id": "e-1",
        "outcome": "unchanged",
        "rows": 3,
        "months": {"2024-03": 3},
        "reference_date": "2024-03",
    }


def test_an_undivided_one_is_told_of_as_a_whole(tmp_path: Path) -> None:
    (told,) = published_objects(found(tmp_path / "x"), open_destination(str(tmp_path / "x")), output_format="ndjson")
    assert (told.name.uri, told.rows, told.metadata["crc32"]) == (f"file://{tmp_path}/x", 5, "0a0b0c0d")
