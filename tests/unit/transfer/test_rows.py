# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Rows are counted and checked for any serializer, any position and any boundaries of chunks."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_isvapp.errors import DamagedDownload
from airflow_provider_isvapp.transfer.rows import RowInspector
from tests.support.file_server import ndjson


def inspect(*chunks: bytes, **options: Any) -> RowInspector:
    inspector = RowInspector(**options)
    for chunk in chunks:
        inspector.feed(chunk)
    inspector.finish()
    return inspector


def cut(text: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[begin:end] for begin, end in itertools.pairwise(edges)]


TEXT = ndjson(20, months=("2024-01", "2024-02", "2024-03"))
CUTS = st.lists(st.integers(min_value=0, max_value=10_000), max_size=12)


@settings(max_examples=80, deadline=None)
@given(cuts=CUTS, newline=st.booleans())
def test_rows_and_months_do_not_depend_on_the_chunks(cuts: list[int], newline: bool) -> None:
    text = TEXT if newline else TEXT.removesuffix(b"\n")
    inspector = inspect(*cut(text, cuts))
    assert inspector.rows == 20
    assert inspector.months == {"2024-01": 7, "2024-02": 7, "2024-03": 6}


# Texts that a search for the month's name must not match, and those that it must match.
NAMES = st.sampled_from(["reference_date", "type", "Reference_date", "reference_dat", 'x"reference_date', "", "ü", "x"])
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from(['"reference_date"', '"reference_date":"2024-01"', "}\n{", "\\", "\\u0072", "reference_date"]),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=4,
)
MONTHS = st.sampled_from(["2024-01", "2024-02", "2024-12"])


@st.composite
def serializers(draw: st.DrawFn) -> Callable[[str], str]:
    """Return how a name is spelled in a row: some letters as escapes."""
    rand = random.Random(draw(st.integers(0, 9)))
    escaped = draw(st.sampled_from([0.0, 0.0, 0.2, 1.0]))

    def spell(name: str) -> str:
        plain = json.dumps(name, ensure_ascii=draw(st.booleans()))
        if "\\" in plain or rand.random() > escaped:
            return plain
        return '"' + "".join(f"\\u{ord(c):04X}" if rand.random() < 0.3 else c for c in plain[1:-1]) + '"'

    return spell


@st.composite
def rows(draw: st.DrawFn) -> bytes:
    spell = draw(serializers())
    members: list[tuple[str, Any]] = draw(st.lists(st.tuples(NAMES.filter(lambda n: n != "reference_date"), VALUES)))
    members += [
        ("reference_date", month) for month in draw(st.lists(MONTHS, min_size=1, max_size=1) | st.lists(MONTHS))
    ]
    blank = draw(st.sampled_from(["", " ", "\t", "  "]))
    ascii_only = draw(st.booleans())
    spelled = [
        f"{spell(name)}{blank}:{blank}{json.dumps(value, ensure_ascii=ascii_only, separators=(',' + blank, ':'))}"
        for name, value in draw(st.permutations(members))
    ]
    return (blank + "{" + f"{blank},{blank}".join(spelled) + "}" + draw(st.sampled_from(["", " ", "\r"]))).encode()


def read_months(row: bytes) -> list[str]:
    """The result of Python's own JSON parser."""
    members: list[tuple[str, Any]] = json.loads(row, object_pairs_hook=list)
    return [value for name, value in members if name == "reference_date"]


@settings(max_examples=300, deadline=None)
@given(lines=st.lists(rows(), max_size=8), cuts=CUTS, by_month=st.booleans(), newline=st.booleans())
def test_rows_of_any_serializer_are_counted_like_another_reader(
    lines: list[bytes], cuts: list[int], by_month: bool, newline: bool
) -> None:
    months = [read_months(line) for line in lines]
    bad = [index for index, found in enumerate(months, start=1) if len(found) > 1 or (by_month and not found)]
    text = b"\n".join(lines) + b"\n" * (newline and bool(lines))
    inspector, batches = RowInspector(by_month=by_month), []
    with pytest.raises(DamagedDownload, match=rf"^line {bad[0]} has ") if bad else nullcontext():
        for chunk in cut(text, cuts):
            batches += inspector.feed(chunk)
        batches += inspector.finish()
    if bad:
        return
    assert inspector.rows == len(lines)
    assert inspector.months == dict(sorted(Counter(itertools.chain(*months)).items()))
    if by_month:
        divided: dict[str, bytes] = {}
        for batch in batches:
            for month, rows_of_month in batch.by_month().items():
                divided[month] = divided.get(month, b"") + rows_of_month.lines
        wanted: dict[str, bytes] = {}
        for line, (month,) in zip(lines, months, strict=True):
            wanted[month] = wanted.get(month, b"") + line + b"\n"
        assert divided == wanted


GOOD = [b'{"reference_date":"2024-01","a":%d}' % number for number in range(30)]
PLACES = pytest.mark.parametrize("place", [0, 15, 30], ids=["first", "middle", "last"])
# Bytes that RFC 8259 does not allow in a row, and those that are not text.
NO_ROWS = {
    "empty array": b"[]",
    "number": b"7",
    "null": b"null",
    "string": b'"a"',
    "cut": b'{"a":1',
    "cut in a string": b'{"a":"x',
    "cut before the brace": b'{"reference_date":"2024-01","a":"x}',
    "one brace more": b'{"a":1}}',
    "comma before the brace": b'{"a":1,}',
    "comma first": b'{,"a":1}',
    "two commas": b'{"a":1,,"b":2}',
    "no comma": b'{"a":1 "b":2}',
    "no colon": b'{"a" 1}',
    "two colons": b'{"a"::1}',
    "no value": b'{"a":}',
    "no name": b"{:1}",
    "name without quotes": b"{a:1}",
    "number as a name": b"{1:1}",
    "single quotes": b"{'a':1}",
    "comment": b'{"a":1}//',
    "comment inside": b'{"a":/**/1}',
    "two rows": b'{"a":1}{"b":2}',
    "two rows of a month": b'{"reference_date":"2024-01"}{"reference_date":"2024-01"}',
    "two rows of a month, with a blank": b'{"reference_date":"2024-01"} {"reference_date":"2024-01"}',
    "two rows and a comma": b'{"a":1},{"b":2}',
    "text behind": b'{"a":1} x',
    "NUL behind": b'{"a":1}\x00',
    "NUL": b'{"a":"\x00"}',
    "NUL for a row": b"\x00",
    "form feed for a row": b"\x0c",
    "form feed behind": b'{"a":1}\x0c',
    "no-break space behind": b'{"a":1}\xc2\xa0',
    "tab in a string": b'{"a":"\t"}',
    "carriage return in a string": b'{"a":"\r"}',
    "control in a string": b'{"a":"\x1f"}',
    "invalid escape": b'{"a":"\\x41"}',
    "escaped quote only": b'{"a":"\\"}',
    "short unicode escape": b'{"a":"\\u12"}',
    "invalid unicode escape": b'{"a":"\\u12G4"}',
    "capital U": b'{"a":"\\U0041"}',
    "lone surrogate": b'{"a":"\\ud800"}',
    "lone low surrogate": b'{"a":"\\udc00"}',
    "surrogates in the wrong order": b'{"a":"\\udc00\\ud800"}',
    "surrogate and a letter": b'{"a":"\\ud800\\u0041"}',
    "surrogate and an escape": b'{"a":"\\ud800\\n"}',
    "lone surrogate in a name": b'{"\\ud800":1}',
    "invalid UTF-8": b'{"a":"\xff"}',
    "cut UTF-8": b'{"a":"\xc3"}',
    "overlong UTF-8": b'{"a":"\xc0\x80"}',
    "surrogate in UTF-8": b'{"a":"\xed\xa0\x80"}',
    "beyond Unicode": b'{"a":"\xf4\x90\x80\x80"}',
    "invalid UTF-8 in a name": b'{"\xff":1}',
    "invalid UTF-8 behind": b'{"a":1}\xff',
    "latin-1": "{'a':'ü'}".replace("'", '"').encode("latin-1"),
    "UTF-16": '{"a":1}'.encode("utf-16-le").replace(b"\n", b""),
    "byte order mark": b'\xef\xbb\xbf{"a":1}' * 2,
    "NaN": b'{"a":NaN}',
    "nan": b'{"a":nan}',
    "Infinity": b'{"a":-Infinity}',
    "True": b'{"a":True}',
    "cut literal": b'{"a":tru}',
    "nulll": b'{"a":nulll}',
    "leading zero": b'{"a":01}',
    "minus only": b'{"a":-}',
    "minus and zero": b'{"a":-01}',
    "plus": b'{"a":+1}',
    "point first": b'{"a":.5}',
    "point last": b'{"a":1.}',
    "exponent without digits": b'{"a":1e}',
    "exponent with sign only": b'{"a":1e+}',
    "hexadecimal": b'{"a":0x10}',
    "fullwidth digit": '{"a":\uff11}'.encode(),
    "underscore": b'{"a":1_000}',
    "open array": b'{"a":[1}',
    "array closed by a brace": b'{"a":[1},"b":2}',
    "comma in an array": b'{"a":[1,]}',
    "nested 100,000 deep": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "open 100,000 deep": b'{"a":' * 100_000,
    "month that is a number": b'{"reference_date":7}',
    "month that is a list": b'{"reference_date":["2024-01"]}',
    "two months": b'{"reference_date":"2024-01","reference_date":"2024-02"}',
    "two months, one escaped": b'{"reference_date":"2024-01","re\\u0066erence_date":"2024-01"}',
    "two months, both escaped": b'{"\\u0072eference_date":"2024-01","reference\\u005fdate":"2024-01"}',
    "<html>": b"<html>",
}
ROWS = {
    "empty": (b"{}", None),
    "no month": (b'{"a":1}', None),
    "month null": (b'{"reference_date":null}', None),
    "month escaped": (b'{"reference\\u005fdate":"2024-02"}', "2024-02"),
    "month's value escaped": (b'{"reference_date":"2024-0\\u0032"}', "2024-02"),
    "month last": (b'{"a":{"reference_date":"2024-01"},"reference_date":"2024-02"}', "2024-02"),
    "month nested only": (b'{"a":{"reference_date":"2024-01"}}', None),
    "month in an array": (b'{"a":[{"reference_date":"2024-01"}]}', None),
    "month's name as a value": (b'{"a":"reference_date"}', None),
    "month's name in a name": (b'{"x\\"reference_date":"2024-01"}', None),
    "month in a text": (b'{"a":"{\\"reference_date\\":\\"2024-01\\"}","reference_date":"2024-02"}', "2024-02"),
    "blanks": (b' \t{ "reference_date"\t:  "2024-02" } \t', "2024-02"),
    "carriage return": (b'{"reference_date":"2024-02"}\r', "2024-02"),
    "joint in a text": (b'{"a":"}\\n{","reference_date":"2024-02"}', "2024-02"),
    "line separators": ('{"a":"\u2028\u2029\x85\x7f","reference_date":"2024-02"}'.encode(), "2024-02"),
    "beyond the basic plane": ('{"a":"🚀\U0010ffff","reference_date":"2024-02"}'.encode(), "2024-02"),
    "surrogate pair": (b'{"a":"\\ud83d\\ude80","reference_date":"2024-02"}', "2024-02"),
    "escaped NUL": (b'{"a":"\\u0000","reference_date":"2024-02"}', "2024-02"),
    "all escapes": (b'{"a":"\\"\\\\\\/\\b\\f\\n\\r\\t","reference_date":"2024-02"}', "2024-02"),
    "numbers": (b'{"a":[0,-0,1e5,1E-5,1.5e+300,-1.0],"reference_date":"2024-02"}', "2024-02"),
    "long number": (b'{"a":%b,"reference_date":"2024-02"}' % (b"9" * 5_000), "2024-02"),
    "long number and the month's name": (b'{"a":%b,"b":"reference_date"}' % (b"9" * 5_000), None),
    "number beyond a double": (b'{"a":1e999,"reference_date":"2024-02"}', "2024-02"),
    "literals": (b'{"a":[true,false,null],"reference_date":"2024-02"}', "2024-02"),
    "other name twice": (b'{"a":1,"a":2,"reference_date":"2024-02"}', "2024-02"),
    "nested 100 deep": (b'{"a":' + b"[" * 100 + b"]" * 100 + b',"reference_date":"2024-02"}', "2024-02"),
}


def among(row: bytes, place: int) -> bytes:
    return b"".join(line + b"\n" for line in [*GOOD[:place], row, *GOOD[place:]])


@PLACES
@pytest.mark.parametrize("begins_with_month", [False, True])
@pytest.mark.parametrize("bad", NO_ROWS.values(), ids=NO_ROWS)
def test_an_invalid_row_is_named_at_every_position(bad: bytes, begins_with_month: bool, place: int) -> None:
    if begins_with_month:
        bad = bad.replace(b"{", b'{"reference_date":"2024-01",', 1)
    text = among(bad, place)
    for chunks in ([text], cut(text, [3, len(text) // 2]), cut(text, range(0, len(text), 7 + len(text) // 1_000))):
        with pytest.raises(DamagedDownload, match=rf"^line {place + 1} (is|has) ") as caught:
            inspect(*chunks)
        assert len(str(caught.value)) < 200


@PLACES
@pytest.mark.parametrize(("row", "month"), ROWS.values(), ids=ROWS)
def test_a_valid_row_counts_at_every_position(row: bytes, month: str | None, place: int) -> None:
    text = among(row, place)
    for chunks in ([text], cut(text, [3, len(text) // 2]), [text.removesuffix(b"\n")]):
        inspector = inspect(*chunks)
        assert inspector.rows == 31
        assert inspector.months == {"2024-01": 30} | ({month: 1} if month else {})


@pytest.mark.parametrize("by_month", [False, True])
def test_blank_lines_and_a_byte_order_mark_are_no_rows(by_month: bool) -> None:
    text = b"\xef\xbb\xbf\n" + b"\n \t\r\n".join(GOOD) + b"\n\r\n\n"
    for chunks in ([text], cut(text, range(len(text)))):
        inspector, batches = RowInspector(by_month=by_month), []
        for chunk in chunks:
            batches += inspector.feed(chunk)
        batches += inspector.finish()
        assert inspector.rows == 30
        assert b"".join(batch.lines for batch in batches) == (
            among(GOOD[0], 0)[len(GOOD[0]) + 1 :] if by_month else b""
        )
    with pytest.raises(DamagedDownload, match=r"^line 61 is not a row"):
        inspect(text.removesuffix(b"\r\n\n") + b"x\n")


@pytest.mark.parametrize("text", [b"", b"\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n \n"])
def test_a_file_without_rows_is_empty(text: bytes) -> None:
    for chunks in ([text], cut(text, range(len(text)))):
        assert inspect(*chunks).rows == 0


def test_an_object_over_two_lines_is_not_ndjson() -> None:
    with pytest.raises(DamagedDownload, match="line 1"):
        inspect(b'{"a":\n1}\n')


def test_an_object_over_two_lines_is_not_made_up_for_by_two_on_one() -> None:
    with pytest.raises(DamagedDownload, match="line 2"):
        inspect(b'{"a":1}\n{"a":\n1}\n{"a":1}{"a":1}\n'.replace(b"{", b'{"reference_date":"2024-01",'))


def test_the_message_does_not_show_the_row() -> None:
    with pytest.raises(DamagedDownload) as caught:
        inspect(b'{"salesforce_account_name":"Example GmbH",}\n')
    assert "Example" not in str(caught.value)


@PLACES
def test_the_longest_row_is_the_same_everywhere(place: int) -> None:
    row = b'{"reference_date":"2024-01","a":"%b"}' % (b"x" * 1_000)
    text = among(row, place)
    for chunks in ([text], cut(text, range(len(text))), [text.removesuffix(b"\n")]):
        assert inspect(*chunks, max_row_bytes=len(row)).rows == 31
        with pytest.raises(DamagedDownload, match=f"^line {place + 1} is longer than {len(row) - 1} bytes"):
            inspect(*chunks, max_row_bytes=len(row) - 1)


def test_a_body_without_newlines_is_not_collected_for_ever() -> None:
    inspector = RowInspector(max_row_bytes=1_000)
    for _ in range(10):
        inspector.feed(b"x" * 100)
    with pytest.raises(DamagedDownload, match="line 1 is longer than 1000 bytes"):
        inspector.feed(b"x" * 100)


def test_it_works_without_the_extra() -> None:
    code = (
        "import sys; sys.modules['stringzilla'] = None;"
        "from airflow_provider_isvapp.transfer import rows; inspector = rows.RowInspector();"
        """ inspector.feed(b'{"reference_date":"2024-01"}\\n' * 9);"""
        " print(rows._load_count() is bytes.count, inspector.rows)"
    )
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output == "True 9\n"
