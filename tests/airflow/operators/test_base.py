# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

from pathlib import Path

from airflow_provider_isvapp.operators.base import Publication
from airflow_provider_isvapp.transfer.destination import local_destination
from airflow_provider_isvapp.transfer.results import Outcome, WriteResult


def found(path: Path) -> Publication:
    result = WriteResult(
        path=str(path),
        export_id="e-1",
        rows=5,
        bytes=90,
        compressed_bytes=40,
        crc32="0a0b0c0d",
        months={"2024-02": 2, "2024-03": 3},
        outcome=Outcome.UNCHANGED,
    )
    return Publication(destination=local_destination(str(path)), result=result, fields=())


def test_a_divided_export_is_reported_month_by_month(tmp_path: Path) -> None:
    template = tmp_path / "{reference_date}"
    published = found(template).objects
    assert [(item.name.uri, item.rows, item.written) for item in published] == [
        (f"file://{tmp_path}/2024-02", 2, False),
        (f"file://{tmp_path}/2024-03", 3, False),
    ]
    assert published[1].metadata == {
        "path": f"{tmp_path}/2024-03",
        "export_id": "e-1",
        "outcome": "unchanged",
        "rows": 3,
        "months": {"2024-03": 3},
        "drift": None,
        "changes": None,
        "reference_date": "2024-03",
    }


def test_an_undivided_one_is_reported_as_a_whole(tmp_path: Path) -> None:
    (published,) = found(tmp_path / "x").objects
    assert (published.name.uri, published.rows, published.metadata["crc32"]) == (f"file://{tmp_path}/x", 5, "0a0b0c0d")
