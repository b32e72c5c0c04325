# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The tables of the pages quote logs and errors of the code exactly."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from airflow_provider_isvapp import errors
from tests.airflow.docs.pages import PAGES
from tests.support import ROOT

HEADS = ("You see", "The log says")
PACKAGE = ROOT / "airflow_provider_isvapp"


def quotations(page: Path) -> list[str]:
    """Return the quotations with a gap in tables of messages: "…" is what the code fills in."""
    tables = [
        table for table in re.findall(r"(?:^\|.*\n)+", page.read_text(), re.M) if any(head in table for head in HEADS)
    ]
    return [quote for table in tables for quote in re.findall(r"`([^`]+)`", table) if "…" in quote]


def text(node: ast.expr) -> str:
    """Return a text in the code, with "…" for what is filled in."""
    match node:
        case ast.Constant(value=str(value)):
            return re.sub(r"%(s|d|\.\df)", "…", value)
        case ast.JoinedStr(values=parts):
            return "".join(text(part) for part in parts)
    return "…"


@cache
def nodes() -> tuple[ast.AST, ...]:
    modules = [path for path in PACKAGE.rglob("*.py") if "emulator" not in path.parts]
    return tuple(node for path in modules for node in ast.walk(ast.parse(path.read_text())))


@cache
def messages() -> tuple[str, ...]:
    return tuple(text(node) for node in nodes() if isinstance(node, ast.Constant | ast.JoinedStr))


def is_in_the_code(quotation: str) -> bool:
    """Whether one message in the code has all the words of a quotation, in their order."""
    words = [part.strip() for part in quotation.split("…") if part.strip()]
    pattern = re.compile(".*".join(map(re.escape, words)), re.S)
    return any(pattern.search(message) for message in messages())


@pytest.mark.parametrize("page", [page for page in PAGES if quotations(page)], ids=lambda page: page.stem)
def test_the_code_says_what_a_page_quotes(page: Path) -> None:
    # A status, a scheme and a pause are filled in by the code.
    filled_in = re.compile(r"(?<=\()\d{3}(?=\))|\b(ISVapp(?= refused| gave| did)|s3(?=://\.)|300(?= s:)|POST)\b")
    unknown = [quote for quote in quotations(page) if not is_in_the_code(filled_in.sub("…", quote))]
    assert unknown == []


def test_quotations_are_found_and_a_wrong_one_is_noticed() -> None:
    assert sum(len(quotations(page)) for page in PAGES) > 40
    assert not is_in_the_code("Export … has left the building")


def errors_of_ours() -> list[str]:
    """Return the message of each error that the code makes, with ten characters for each placeholder."""
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type)} | {"AirflowSensorTimeout"}
    calls = [node for node in nodes() if isinstance(node, ast.Call) and node.args]
    made = [text(call.args[0]) for call in calls if getattr(call.func, "id", None) in kinds]
    return [message.replace("…", "…" * 10) for message in made]


def test_an_error_begins_with_a_short_sentence_that_stands_alone() -> None:
    """Airflow's UI cuts a long line of the log at its edge."""
    found = errors_of_ours()
    assert len(found) > 100
    sentences = [re.split(r"(?<=[.!?]) (?=[A-Z…])", message)[0] for message in found]
    assert [sentence for sentence in sentences if len(sentence) > 150] == []
