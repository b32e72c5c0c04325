# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Twelve exports of a month and one partitioned export of twelve months write the same objects."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.emulator import Emulator, ManualClock
from airflow_provider_isvapp.operators.isvapp import IsvappExportOperator
from airflow_provider_isvapp.triggers import isvapp, waiters
from tests.support.task_context import run_to_its_end, task_context


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isvapp, "EARLIEST_EVENT", 0.0)
    monkeypatch.setattr(waiters, "FIRST_INTERVAL", 0.02)


@pytest.mark.parametrize(
    "form", [{}, {"compression": "gzip"}, {"validate": "full"}], ids=["ndjson", "gzip", "validated"]
)
def test_are_the_same_byte_for_byte(isvapp: Emulator, clock: ManualClock, tmp_path: Path, form: dict[str, Any]) -> None:
    def export(folder: str, **arguments: Any) -> dict[str, Any]:
        path = str(tmp_path / folder / "month={reference_date}" / "usage.gz")
        made = {"path": path, "taxonomy_ids": ["taxonomy"], "deferrable": True, **form, **arguments}
        return run_to_its_end(
            lambda: IsvappExportOperator(task_id="export", **made), task_context(), deferred=lambda _: clock.advance(61)
        )

    divided = export("divided", timeframe="LATEST_12_COMPLETED_MONTHS", partition_by="reference_date")
    assert len(divided["objects"]) == len(divided["months"]) == 12
    for written in divided["objects"]:
        month = written["reference_date"]
        single = export("mapped", timeframe=month, path=str(tmp_path / "mapped" / f"month={month}" / "usage.gz"))
        assert single["rows"] == written["rows"] == divided["months"][month]

    def content(folder: str) -> dict[str, bytes]:
        files = (tmp_path / folder).rglob("usage.gz")
        return {file.parent.name: unpacked(file.read_bytes(), form) for file in files}

    assert content("divided") == content("mapped")
    assert len(content("mapped")) == 12


def unpacked(data: bytes, form: dict[str, Any]) -> bytes:
    """Return the rows: different gzip files can hold the same rows."""
    return gzip.decompress(data) if form.get("compression") else data
