# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Rows are counted and checked wherever the chunks are cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_isvapp.errors import DamagedDownload
from airflow_provider_isvapp.transfer import rows
from airflow_provider_isvapp.transfer.rows import RowInspector
from tests.support.file_server import ndjson


def inspect(*chunks: bytes) -> RowInspector:
    inspector = RowInspector()
    for chunk in chunks:
        inspector.feed(chunk)
    inspector.finish()
    return inspector


TEXT = ndjson(20, months=("2024-01", "2024-02", "2024-03"))


@settings(max_examples=80, deadline=None)
@given(cuts=st.lists(st.integers(min_value=0, max_value=len(TEXT)), max_size=12), newline=st.booleans())
def test_rows_and_months_do_not_depend_on_the_chunks(cuts: list[int], newline: bool) -> None:
    text = TEXT if newline else TEXT.removesuffix(b"\n")
    edges = [0, *sorted(cuts), len(text)]
    inspector = inspect(*(text[a:b] for a, b in itertools.pairwise(edges)))
    assert inspector.rows == 20
    assert inspector.months == {"2024-01": 7, "2024-02": 7, "2024-03": 6}


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"[]",
        b"7",
        b"null",
        b'{"a":1',
        b'{"a":1}}',
        b'{"a":1,}',
        b"{'a':1}",
        b'{"a":1}{"b":2}',
        b"<html>",
        b'{"a":tru}',
    ],
)
@pytest.mark.parametrize("cut", [0, 3, 10_000])
def test_a_line_that_is_no_object_is_named(bad: bytes, cut: int) -> None:
    text = b'{"a":1}\n' + bad + b'\n{"b":2}\n'
    with pytest.raises(DamagedDownload, match=r"line 2 |after line 1 "):
        inspect(text[:cut], text[cut:])


def test_an_object_over_two_lines_is_not_ndjson() -> None:
    with pytest.raises(DamagedDownload, match="line 1"):
        inspect(b'{"a":\n1}\n')


def test_the_message_does_not_show_the_row() -> None:
    with pytest.raises(DamagedDownload) as caught:
        inspect(b'{"salesforce_account_name":"Example GmbH",}\n')
    assert "Example" not in str(caught.value)


def test_a_body_without_newlines_is_not_collected_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LONGEST_ROW", 1_000)
    with pytest.raises(DamagedDownload, match="line 1 is longer than 1000 bytes"):
        inspect(*[b"x" * 100] * 11)
