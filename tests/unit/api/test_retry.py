# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_isvapp.api.retry import LONGEST_PAUSE, parse_retry_after

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("0", 0.0),
        (" 30 ", 30.0),
        ("99999999999999999999", LONGEST_PAUSE),
        ("9" * 5000, LONGEST_PAUSE),
        ("Sat, 21 Nov 99999999999999999999 12:00:45 GMT", None),
        ("Sat, 21 Nov 2026 12:00:45 +99999999999999", None),
        ("Sat, 21 Nov 2026 12:00:45 GMT", 45.0),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0.0),
        ("Sun, 22 Nov 2026 12:00:00 GMT", LONGEST_PAUSE),
        ("Sat, 21 Nov 2026 13:00:45 +0100", 45.0),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, now=NOW.timestamp()) == seconds


@given(st.one_of(st.text(), st.from_regex(r"(\w{3}, )?\d+[ -]\w{3}[ -]\d+ \d+:\d+(:\d+)?( [+-]?\w+)?", fullmatch=True)))
def test_any_text_is_a_pause_within_bounds_or_none(text: str) -> None:
    pause = parse_retry_after(text, now=NOW.timestamp())

    assert pause is None or 0 <= pause <= LONGEST_PAUSE
