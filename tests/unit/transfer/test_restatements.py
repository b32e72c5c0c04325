# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What a month of an export is to the one that is stored."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_isvapp.transfer.restatements import MonthChange, MonthStatus, compare_month, missing_months
from airflow_provider_isvapp.transfer.summary import COUNTERS, MonthSummary, RowSummarizer

MONTH = "2024-03"
LABELS = ("salesforce_account_name", "taxonomy_item_label", "taxonomy_label", "taxonomy_level_label")


def summarize(rows: list[dict[str, Any]]) -> MonthSummary:
    summarizer = RowSummarizer()
    summarizer.feed(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    summarizer.finish()
    return summarizer.summary().months[MONTH]


def _row(account: int, item: int, count: int) -> dict[str, Any]:
    return {
        "reference_date": MONTH,
        "salesforce_account_id": f"00100000000000{account}AAA",
        "taxonomy_item_id": f"item-{item}",
        **dict.fromkeys(LABELS, "Übersicht"),
        **dict.fromkeys(COUNTERS, str(count)),
    }


MONTHS = st.lists(st.builds(_row, st.integers(0, 4), st.integers(0, 4), st.integers(0, 2**60)), min_size=1, max_size=8)


@settings(max_examples=100, deadline=None)
@given(rows=MONTHS, seed=st.integers(0, 2**32), data=st.data())
def test_a_month_is_what_its_rows_say(rows: list[dict[str, Any]], seed: int, data: st.DataObject) -> None:
    """Any permutation is unchanged, any other name relabelled, and any changed, lost or doubled row restated."""
    stored = summarize(rows)
    rand = random.Random(seed)
    other = [dict(rand.sample(list(row.items()), len(row))) for row in rows]
    rand.shuffle(other)
    assert compare_month(summarize(other), stored) == MonthChange(status=MonthStatus.UNCHANGED)

    at = data.draw(st.integers(0, len(rows) - 1))
    others, row = rows[:at] + rows[at + 1 :], rows[at]
    label = data.draw(st.sampled_from(LABELS))
    assert compare_month(summarize([*others, row | {label: "renamed"}]), stored).status == MonthStatus.RELABELLED

    counter = data.draw(st.sampled_from(COUNTERS))
    more = compare_month(summarize([*others, row | {counter: str(int(row[counter]) + 5), label: "renamed"}]), stored)
    assert more.status == MonthStatus.RESTATED
    assert more.differences == {"rows": 0, "accounts": 0, **dict.fromkeys(COUNTERS, 0), counter: 5}
    doubled = compare_month(summarize([*rows, row]), stored)
    assert doubled.status == MonthStatus.RESTATED
    assert doubled.differences == {"rows": 1, "accounts": 0, **{name: int(row[name]) for name in COUNTERS}}
    moved = compare_month(summarize([*others, row | {"taxonomy_item_id": "other"}]), stored)
    assert (moved.status, set(moved.differences.values())) == (MonthStatus.RESTATED, {0})  # type: ignore[union-attr]
    if others:
        lost = compare_month(summarize(others), stored)
        assert lost.status == MonthStatus.RESTATED
        assert lost.differences == {
            "rows": -1,
            "accounts": summarize(others).accounts - stored.accounts,
            **{name: -int(row[name]) for name in COUNTERS},
        }


def test_a_month_that_cannot_be_compared_is_new() -> None:
    assert compare_month(summarize([_row(1, 1, 1)]), None) == MonthChange(status=MonthStatus.NEW)


def test_a_counter_that_appears_or_disappears_is_in_the_differences() -> None:
    row = _row(1, 1, 7)
    without = {name: value for name, value in row.items() if name != "operations"}
    assert compare_month(summarize([row]), summarize([without])).differences["operations"] == 7  # type: ignore[index]
    assert compare_month(summarize([without]), summarize([row])).differences["operations"] == -7  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (MonthChange(status=MonthStatus.RELABELLED), "relabelled"),
        (
            MonthChange(status=MonthStatus.RESTATED, differences={"rows": -1200, "accounts": 0, "operations": 5}),
            "restated (-1,200 rows, +5 operations)",
        ),
        (MonthChange(status=MonthStatus.RESTATED, differences={"rows": 0}), "restated (the sums are the same)"),
    ],
)
def test_a_change_is_read_as_it_was_written_and_says_what_differs(change: MonthChange, text: str) -> None:
    assert str(change) == text
    assert MonthChange.from_json(json.loads(json.dumps(change.as_json()))) == change
    assert MonthChange.from_json({"status": "other"}) is None
    assert MonthChange.from_json(None) is None


@pytest.mark.parametrize(
    ("found", "stored", "expected", "missing"),
    [
        # The months that were asked for.
        (["2024-02"], ["2024-01", "2024-02", "2024-03"], ["2024-02", "2024-03"], ("2024-03",)),
        ([], ["2024-02"], ["2024-02"], ("2024-02",)),
        (["2024-02"], ["2023-02"], ["2024-01", "2024-02"], ()),
        # So many latest months: the newest of them, one in the middle, and what has left the window.
        (["2024-01", "2024-02"], ["2024-01", "2024-02", "2024-03"], 3, ("2024-03",)),
        (["2024-01", "2024-03"], ["2024-01", "2024-02"], 3, ("2024-02",)),
        (["2024-02", "2024-03"], ["2023-12", "2024-01"], 2, ()),
        # Unknown.
        (["2024-01", "2024-03"], ["2023-12", "2024-02", "2024-04"], None, ("2024-02",)),
        ([], ["2024-02"], None, ()),
    ],
)
def test_a_stored_month_that_was_asked_for_is_missing(
    found: list[str], stored: list[str], expected: Any, missing: tuple[str, ...]
) -> None:
    assert missing_months(found, stored, expected) == missing
