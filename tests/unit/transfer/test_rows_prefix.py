# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Rows are counted as alike only if they are, with stringzilla and without."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_isvapp.transfer import rows as rows_module

BEGINNING = b'{"type":"X"'

# Whole rows, and all that is not quite one.
LINES = st.sampled_from(
    [
        BEGINNING + b"}\n",
        BEGINNING + b',"a":1}\n',
        BEGINNING + b',"a":{"b":2}}\n',
        b'{"type":"Y"}\n',
        b'{"type":"X\n',
        b"}\n",
        b"\n",
        b"{}\n",
        BEGINNING,
        BEGINNING + b"\n",
        BEGINNING + b"} \n",
        b" " + BEGINNING + b"}\n",
    ]
)


def with_bytes(text: bytes, begin: int, end: int) -> int | None:
    engine, rows_module._engine = rows_module._engine, lambda: bytes.count  # type: ignore[assignment]
    try:
        return rows_module.count_rows_with_prefix(text, BEGINNING, begin, end)
    finally:
        rows_module._engine = engine


def expected(text: bytes) -> int | None:
    lines = text.split(b"\n")
    alike = lines.pop() == b"" and all(line.startswith(BEGINNING) and line.endswith(b"}") for line in lines)
    return len(lines) if lines and alike else None


@settings(max_examples=400, deadline=None)
@given(lines=st.lists(LINES, max_size=8), before=st.binary(max_size=5), after=st.binary(max_size=5))
def test_both_ways_see_the_same(lines: list[bytes], before: bytes, after: bytes) -> None:
    pytest.importorskip("stringzilla")
    text = b"".join(lines)
    span = (before + text + after, len(before), len(before) + len(text))
    assert with_bytes(*span) == expected(text)
    assert rows_module.count_rows_with_prefix(span[0], BEGINNING, *span[1:]) == expected(text)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.sampled_from([BEGINNING + b"}\n", BEGINNING + b',"a":1}\n']), min_size=1, max_size=50),
    flaw=st.integers(min_value=0, max_value=10_000),
    byte=st.integers(min_value=0, max_value=255),
)
def test_a_changed_byte_is_judged_as_by_eye(rows: list[bytes], flaw: int, byte: int) -> None:
    pytest.importorskip("stringzilla")
    text = bytearray(b"".join(rows))
    text[flaw % len(text)] = byte
    changed = bytes(text)
    assert rows_module.count_rows_with_prefix(changed, BEGINNING, 0, len(changed)) == expected(changed)
    assert with_bytes(changed, 0, len(changed)) == expected(changed)


@settings(max_examples=200, deadline=None)
@given(
    beginning=st.binary(max_size=200).map(lambda name: b'{"' + name.replace(b"\n", b"") + b'":'),
    lengths=st.lists(st.integers(min_value=0, max_value=700), min_size=1, max_size=400),
)
def test_rows_of_every_length_are_counted(beginning: bytes, lengths: list[int]) -> None:
    """The search takes many bytes at a time, other numbers on other processors: ends and joints lie everywhere."""
    pytest.importorskip("stringzilla")
    text = b"".join(beginning + b"1" * length + b"}\n" for length in lengths)
    assert rows_module.count_rows_with_prefix(text, beginning, 0, len(text)) == len(lengths)
    assert rows_module.count_rows_with_prefix(text + b"\n", beginning, 0, len(text) + 1) is None


@pytest.mark.parametrize("installed", [True, False])
def test_stringzilla_is_used_where_it_is_installed(installed: bool) -> None:
    pytest.importorskip("stringzilla")
    hidden = "" if installed else "sys.modules['stringzilla'] = None;"
    code = (
        f"import sys; {hidden} from airflow_provider_isvapp.transfer import rows as rows_module;"
        " print(rows_module._engine() is bytes.count, rows_module.count_rows_with_prefix(b'{1}\\n{2}\\n', b'{', 0, 8))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.split() == [str(not installed), "2"]
