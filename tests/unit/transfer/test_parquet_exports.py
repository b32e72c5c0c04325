# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Exports as Parquet: columns built from blocks equal those built row by row."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_isvapp.api.schema.isvapp import TaxonomyItemRow
from airflow_provider_isvapp.errors import MalformedRows
from airflow_provider_isvapp.transfer import parquet
from airflow_provider_isvapp.transfer.drift import RowChecker
from airflow_provider_isvapp.transfer.rows import RowBatch, RowInspector
from airflow_provider_isvapp.transfer.staging.base import Provenance
from tests.support.file_server import ndjson

pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")

ROWS: list[dict[str, Any]] = [json.loads(line) for line in ndjson(4, months=("2024-01", "2024-02")).splitlines()]
for place, found in enumerate(ROWS):
    # The CSV reader does not know the escape in this name, so only a few rows have it.
    found["salesforce_account_name"] = ["Example", 'É, "[1]"', "null", found["salesforce_account_name"]][place]
    found["taxonomy_item_parent_item_id"] = [None, "null", "", "item"][place]
FIELDS = st.sampled_from([*ROWS[0], "colour", "null", "reference_date", "operations"])
# Values that a CSV reader, a pattern or a cast could misread, and values of other types.
TEXTS = [
    *(
        "",
        " ",
        "null",
        '"',
        '""',
        "\\",
        '\\"',
        "\\n",
        "a,b",
        "[1,2]",
        "],[",
        "}\n{",
        "\t",
        "\r",
        "\x00",
        "\x1f",
        "é",
        "🚀",
    ),
    *("7", "007", " 7", "7 ", "7\n", "-7", "+7", "1e2", "1.0", "0x1F", "1_0", "\u0661", "9" * 18, "9" * 19, "9" * 400),
    *("2024-03", "2024-13", "2024-03-01", "2024-3", "0001-01", "9999-12", "00141" + "x" * 10, "00141" + "x" * 13),
    *("TAXONOMY_ITEM", "MONTHLY", "taxonomy_item_parent_item_id", "\u2028", "NaN", "true", "#N/A"),
]
VALUES = st.one_of(
    # Other tests cover whole numbers beyond a column: here, a later malformed row of the chunk would be named first.
    st.sampled_from([text for text in TEXTS if not text.startswith("9" * 19)]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.sampled_from([None, 7, -7, 1.0, 1.5, 1e300, 2**63, 10**30, True, [], ["a"], {}, {"a": {"b": None}}]),
)
# Damage to the bytes of a row; most rows have none.
DAMAGE: list[Callable[[bytes], bytes]] = [
    *(6 * [lambda row: row]),
    lambda row: row + row,
    lambda row: row + b" " + row,
    lambda row: row.replace(b",", b",\n", 1),
    lambda row: row[:-1],
    lambda row: row.replace(b"}", b",}"),
    lambda row: row.replace(b'":', b'": nan, "x":', 1),
    lambda row: row.replace(b'"MONTHLY"', b"NaN"),
    lambda row: row.replace(b"MONTHLY", b"MONTHLY\x00"),
    lambda row: row.replace(b"Example", b"\xff"),
    lambda row: row.replace(b"a", b"\xc3", 1),
    lambda row: row.replace(b"label", b"label\\ud83d", 1),
    lambda row: row.replace(b':"', b':"\\ud83d', 5),
    lambda row: row.replace(b':"', b':"\\ud83d\\ude80', 5),
    lambda row: row.replace(b"}", b',"operations":"8"}'),
    lambda row: row.replace(b"}", b',"operations":8}'),
    lambda row: row.replace(b"}", b',"reference_date":"2024-02"}'),
    lambda row: row.replace(b"operations", b"oper\\u0061tions"),
    lambda row: row.replace(b'"2024-0', b'"2\\u0030\\u00324-0'),
    lambda row: b"\xef\xbb\xbf" + row,
    lambda row: b" \t" + row + b" \r",
    lambda row: row + b"\n\r\n",
    lambda row: row + b"x",
    lambda row: b"[" + row + b"]",
    lambda row: b"",
]


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    row: dict[str, Any] = dict(draw(st.sampled_from(ROWS)))
    for name in draw(st.lists(FIELDS, max_size=1)):
        if draw(st.integers(0, 5)) == 0:
            row.pop(name, None)
        else:
            row[name] = draw(VALUES)
    text = json.dumps(
        row,
        ensure_ascii=draw(st.booleans()),
        sort_keys=draw(st.booleans()),
        separators=draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,", " : ")])),
    )
    return draw(st.sampled_from(DAMAGE))(text.encode())


def write(pieces: list[bytes], *, by_columns: bool) -> tuple[Any, ...]:
    """Return the findings in the rows and the written rows.

    :param by_columns: whether blocks are converted at once, as in an export; otherwise each row is read separately.
    """
    import pyarrow.parquet as pq

    checker = RowChecker(TaxonomyItemRow, allow_wrong_types=False)
    inspector = RowInspector(checker=checker, as_arrays=by_columns)
    encoder = parquet.ParquetEncoder(TaxonomyItemRow)
    data = b""
    try:
        for piece in pieces:
            batches = inspector.feed(piece)
            if not by_columns and piece.removeprefix(b"\xef\xbb\xbf").strip():
                batches = [RowBatch(piece.removeprefix(b"\xef\xbb\xbf"))]
            data += encoder.encode_rows(batches)
            if not by_columns:
                encoder._convert()
        data += encoder.encode_rows(inspector.finish())
        data += encoder.finish(Provenance(format="parquet"))
    except MalformedRows as later:
        try:
            encoder.finish(Provenance(format="parquet"))
        except MalformedRows as error:
            return ("refused", str(error))
        return ("refused", str(later))
    table = pq.ParquetFile(io.BytesIO(data)).read()
    rows = [json.dumps(row, default=str) for row in table.to_pylist()]
    return table.schema, rows, inspector.rows, inspector.months, checker.report.as_json()


@pytest.mark.parametrize(
    "field", ["operations", "salesforce_account_id", "reference_date", "taxonomy_item_parent_item_id", "type"]
)
def test_a_text_in_a_column_is_taken_as_in_a_row(field: str) -> None:
    for text in TEXTS:
        rows = [json.dumps(row).encode() + b"\n" for row in (ROWS[0], ROWS[1] | {field: text}, ROWS[2])]
        assert write([b"".join(rows)], by_columns=True) == write(rows, by_columns=False), text


@settings(max_examples=150, deadline=None)
@given(st.lists(lines(), max_size=8), st.integers(1, 9_000), st.sampled_from([b"\n", b"\r\n"]), st.integers(1, 4_000))
@example([json.dumps(ROWS[0] | {"operations": text}).encode() for text in ("9" * 19, "x")], 9_000, b"\n", 4_000)
@example([json.dumps(ROWS[0] | {"operations": text}).encode() for text in ("x", "7")] + [b"{"], 300, b"\n", 4_000)
@example([json.dumps(ROWS[0] | {"taxonomy_label": text}).encode() for text in TEXTS], 500, b"\n", 1)
def test_columns_and_verdicts_are_those_of_each_row(rows: list[bytes], piece: int, line_end: bytes, block: int) -> None:
    text = b"".join(row + line_end for row in rows)
    pieces = [text[place : place + piece] for place in range(0, len(text), piece)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "_BLOCK_BYTES", block)
        assert write(pieces, by_columns=True) == write(io.BytesIO(text).readlines(), by_columns=False)
