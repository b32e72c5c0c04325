# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A digest depends on the content of the rows, and on nothing else."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_isvapp.api.schema.fields import read_object
from airflow_provider_isvapp.api.schema.isvapp import TaxonomyItemRow
from airflow_provider_isvapp.errors import MalformedRows
from airflow_provider_isvapp.transfer.summary import COUNTERS, MonthSummary, RowSummarizer, Summary

LABELS = [item.name for item in read_object(TaxonomyItemRow).fields if item.facts.label]


def row(number: int = 0, **different: Any) -> dict[str, Any]:
    """Return a documented row."""
    return {
        "type": "TAXONOMY_ITEM",
        "reference_date": "2024-01",
        "salesforce_account_id": f"001000000000{number:03}AAA",
        "salesforce_account_name": "Übersicht / \U0001f600",
        "taxonomy_item_id": f"item-{number}",
        "taxonomy_item_label": "Export",
        "taxonomy_item_parent_item_id": None,
        "operations": "10",
        "operations_internal": "4",
        "operations_external": "6",
        **different,
    }


def summarize(*rows: dict[str, Any] | bytes, cut: int = 0, **options: Any) -> Summary:
    text = b"\n".join(item if isinstance(item, bytes) else json.dumps(item).encode() for item in rows)
    summarizer = RowSummarizer(**options)
    summarizer.feed(text[:cut])
    summarizer.feed(text[cut:])
    summarizer.finish()
    return summarizer.summary()


def spell(value: Any, rand: random.Random) -> str:
    """Write JSON as any serializer might."""
    blank = rand.choice(["", "", " ", "\t"])
    if isinstance(value, dict):
        members = list(value.items())
        rand.shuffle(members)
        inner = f",{blank}".join(f"{spell(name, rand)}:{blank}{spell(item, rand)}" for name, item in members)
        return f"{{{inner}{blank}}}"
    if isinstance(value, list):
        return f"[{blank}{','.join(spell(item, rand) for item in value)}]"
    if isinstance(value, str):
        plain = json.dumps(value, ensure_ascii=not value.isprintable() or rand.random() < 0.5)
        if "\\" in plain or rand.random() < 0.7:
            return plain
        return (
            '"' + "".join(f"\\u{ord(c):04X}" if c < "\uffff" and rand.random() < 0.3 else c for c in plain[1:-1]) + '"'
        )
    if isinstance(value, int) and not isinstance(value, bool):
        return rand.choice([f"{value}", f"{value}.0", f"{value * 10}e-1", f"{value}E0", f"{value}.000E+0"])
    return json.dumps(value)


TEXTS = st.text(max_size=4) | st.sampled_from(["\ud83d", "\\", '"', "1", "null", "1e0"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.sampled_from([0.5, 1.25, 1e300]) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=3,
)
FIELDS = st.sampled_from(["taxonomy_item_id", "taxonomy_label", "salesforce_account_id", "new", "newer", "\ud83d"])
ROWS = st.lists(
    st.builds(
        lambda number, month, more: row(number, reference_date=month) | more,
        st.integers(0, 3),
        st.sampled_from(["2024-01", "2024-02"]),
        st.dictionaries(FIELDS, TEXTS, max_size=1) | st.dictionaries(FIELDS, VALUES, max_size=2),
    ),
    min_size=1,
    max_size=6,
)


def digests(summary: Summary) -> dict[str, tuple[int, str]]:
    return {name: (month.rows, month.digest) for name, month in summary.months.items()}


@settings(max_examples=150, deadline=None)
@given(rows=ROWS, seed=st.integers(0, 2**32), cut=st.integers(0, 400))
def test_any_order_and_any_spelling_of_the_same_rows_are_unchanged(rows: list[Any], seed: int, cut: int) -> None:
    rand = random.Random(seed)
    spelled = [spell(item, rand).encode() for item in rows]
    rand.shuffle(spelled)

    plain, other = summarize(*rows), summarize(*spelled, cut=cut)

    assert digests(plain) == digests(other)
    assert [msgspec.structs.replace(item, bytes=0) for item in plain.months.values()] == [
        msgspec.structs.replace(item, bytes=0) for item in other.months.values()
    ]


def exactly(value: Any) -> str:
    """Return equal texts for equal JSON values only; for Python, 1 and true are equal."""
    return json.dumps(value, sort_keys=True)


@settings(max_examples=150, deadline=None)
@given(rows=ROWS, data=st.data())
def test_any_changed_lost_or_doubled_row_is_a_change(rows: list[Any], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(rows) - 1))
    field = data.draw(st.sampled_from(sorted(rows[index])) | FIELDS)
    value = data.draw((TEXTS | VALUES) if field not in (*COUNTERS, "reference_date") else st.sampled_from(["11", "12"]))
    changed = rows[index] | {field: value}
    before = digests(summarize(*rows))

    if exactly(changed) != exactly(rows[index]):
        assert digests(summarize(*rows[:index], changed, *rows[index + 1 :])) != before
        missing = {name: item for name, item in rows[index].items() if name != field}
        assert digests(summarize(*rows[:index], missing, *rows[index + 1 :])) != before or field not in rows[index]
    assert digests(summarize(*rows[:index], *rows[index + 1 :])) != before
    assert digests(summarize(*rows, rows[index])) != before
    # The same number of rows, but one of them twice and another one missing.
    other = data.draw(st.integers(0, len(rows) - 1))
    if exactly(rows[other]) != exactly(rows[index]):
        assert digests(summarize(*(rows[index] if at == other else item for at, item in enumerate(rows)))) != before


@pytest.mark.parametrize("field", [item.name for item in read_object(TaxonomyItemRow).fields] + ["undocumented"])
def test_only_names_and_labels_are_left_out_of_the_other_digest(field: str) -> None:
    different = "2" if field in COUNTERS else "something else"
    plain, other = summarize(row()), summarize(row(**{field: different}))
    (before,), (after,) = plain.months.values(), other.months.values()

    assert after.digest != before.digest
    assert (after.digest_unnamed == before.digest_unnamed) is (field in LABELS)


def test_the_labels_are_those_of_accounts_and_of_the_taxonomy() -> None:
    assert LABELS == ["salesforce_account_name", "taxonomy_item_label", "taxonomy_label", "taxonomy_level_label"]


def test_each_month_has_its_figures() -> None:
    lines = [row(1), row(1, operations="5"), row(2, operations=7), row(2, reference_date="2024-02", operations=None)]
    found = summarize(*lines, row(3, reference_date=None))

    size = len(json.dumps(lines[3])) + 1
    assert (found.rows, list(found.months)) == (5, ["", "2024-01", "2024-02"])
    assert found.months["2024-01"].accounts == 2
    assert found.months["2024-01"].counters == {
        "operations": 22, "operations_external": 18, "operations_internal": 12
    }  # fmt: skip
    assert found.months["2024-02"].counters == {"operations_external": 6, "operations_internal": 4}
    assert (found.months["2024-02"].rows, found.months["2024-02"].bytes) == (1, size)
    assert found.of_month("2024-02").bytes == size
    parts = [found.of_month(month) for month in reversed(found.months)]
    assert Summary.of_months(parts) == found


def test_a_byte_order_mark_and_blank_lines_are_no_rows() -> None:
    found = summarize(b"\xef\xbb\xbf" + json.dumps(row()).encode(), b"", b" \r", json.dumps(row(1)).encode() + b"\r")
    assert found.rows == 2
    assert digests(found) == digests(summarize(row(1), row()))


def test_one_account_with_and_without_its_checksum_is_one() -> None:
    found = summarize(row(), row(salesforce_account_id="001000000000000"), row(salesforce_account_id=None))
    assert found.months["2024-01"].accounts == 1


@pytest.mark.parametrize("count", ["", "-1", "1.5", "1_000", "\u0661", 1.5, -1, True, [], "9" * 5000, 10**40])
def test_a_count_that_is_none_is_refused(count: Any) -> None:
    with pytest.raises(MalformedRows, match=r"row 2 has no integer in operations$"):
        summarize(row(), row(operations=count))


def test_rows_of_an_undocumented_type_are_counted() -> None:
    found = summarize(b'{"a":[]}', b'{"operations":"x"}', is_documented=False)
    assert found == Summary(rows=2, bytes=28, months={})


def test_a_summary_is_read_as_written_and_anything_else_is_refused() -> None:
    found = summarize(row(), row(reference_date="2024-02"))
    written = found.as_json()

    assert Summary.from_json(json.loads(json.dumps(written))) == found
    assert Summary.from_json(written | {"version": 2}) is None
    assert Summary.from_json({"rows": 1}) is None
    assert Summary.from_json(None) is None
    assert isinstance(found.months["2024-01"], MonthSummary)
