# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Every regular expression of the package takes linear time for any text.

Their input comes from vendors and users, and some of it is read on an event loop.
"""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "airflow_provider_isvapp"
FUNCTIONS = {"compile", "match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"}
# Made of a path that the author of a DAG gives, and applied to names of objects, which storages bound; and of names of
# fields, whose own test tries such texts; and of the patterns of documented fields, which are constants of the model.
NOT_CONSTANT = {"transfer/destination.py", "transfer/drift.py", "transfer/exclude_fields.py"}
LENGTH = 100_000
PIECES = (
    *("a", "A", "0", " ", "\n", ".", "/", "\\", "%", "&", '"', "{", "é"),
    *("a.", "0-", "://", "http://", "http:", "/exports/", "/exports/a/download/", "bytes 0", '"a":"b",', "%25", "&#1"),
)
BEGINNINGS = ("", "{", "/exports/", "bytes ", "http://", '"\ufdd0')


def uses() -> Iterator[tuple[str, ast.Call]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "re"
                and node.func.attr in FUNCTIONS
            ):
                yield path.relative_to(PACKAGE).as_posix(), node


@cache
def patterns() -> dict[str, str | bytes]:
    constants = {
        f"{path}:{node.lineno}": node.args[0].value for path, node in uses() if isinstance(node.args[0], ast.Constant)
    }
    return {place: value for place, value in constants.items() if isinstance(value, str | bytes)}


def test_the_patterns_are_constants_that_can_be_tested() -> None:
    assert {path for path, node in uses() if not isinstance(node.args[0], ast.Constant)} == NOT_CONSTANT
    assert "api/redaction.py" in {place.partition(":")[0] for place in patterns()}


@pytest.mark.parametrize("place", patterns())
def test_four_times_the_text_takes_no_more_than_about_four_times_as_long(place: str) -> None:
    assert not slow_texts(patterns()[place])


@pytest.mark.parametrize("pattern", [r"[A-Za-z][A-Za-z0-9+.-]*://\S+", r"(a+)+$", rb"\s+$"])
def test_a_pattern_that_takes_longer_is_found(pattern: str | bytes) -> None:
    assert slow_texts(pattern, length=4_000 if pattern != r"(a+)+$" else 24)


def slow_texts(source: str | bytes, *, length: int = LENGTH) -> list[str]:
    pattern = re.compile(source)
    texts = [
        (beginning + piece * (size // len(piece) + 1))[:size] + "\0"
        for piece in PIECES
        for beginning in BEGINNINGS
        for size in (length // 4, length)
    ]
    inputs = [text.encode() if isinstance(source, bytes) else text for text in texts]
    slow = []
    for text, quarter, whole in zip(texts[1::2], inputs[::2], inputs[1::2], strict=True):
        for use in (pattern.search, pattern.fullmatch):
            # On a busy machine, a measurement can be too long, so it is repeated.
            if all(seconds(use, whole) > 8 * seconds(use, quarter) + 0.003 for _ in range(3)):
                slow.append(f"{use.__name__} {text[:30]!r}…")
                break
        if slow:
            break
    return slow


def seconds(use: Callable[..., object], text: str | bytes) -> float:
    start = time.thread_time()
    use(text)
    return time.thread_time() - start
