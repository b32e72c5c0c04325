# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Pages, docstrings, comments and messages use the words of the glossary in CONTRIBUTING.md."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.airflow.docs.pages import OF_THE_PROJECT, PAGES
from tests.support import ROOT

# Forbidden words, each with its replacement.
WORDS = {
    r"(?<!IP )(?<!email )address(es|ed)?": "URL, or host",
    r"answer(s|ed|ing)?": "response, respond",
    r"nobody|somebody|whoever|everybody": "name the user, process or task",
    r"noughts?|likewise|therein|shall": "zero, also, in it, must",
    r"(requests|tokens|tasks|statements|rows|bytes) an? (second|minute|hour|day|month)": "per second",
    r"looks? at (the|an?) exports?|a look": "poll",
    r"go(es)? on|going on|went on": "continue",
    r"told of|(is|are) told": "notified of, or name what is passed",
    r"sees? to it": "ensure",
    r"anew|afresh": "again",
    r"of (its|their|our) own(?=[.,;:)]|$)": "separate, or its own ...",
    r"on (its|their) way|under way": "in transit, in flight, in progress",
    r"g[ia]ve(s|n)? up": "cancel, abort, fail",
}
CODE = {
    folder: sorted((ROOT / folder).rglob("*.py"))
    for folder in ("airflow_provider_isvapp", "tests", "scripts", "benchmarks", "dags", "docker")
}
# Files of other languages, of which only the comments are prose.
COMMENTED = [
    ROOT / "Makefile",
    ROOT / "docker-compose.yaml",
    *(ROOT / "kubernetes").glob("*.yaml"),
    *(ROOT / "airflow_provider_isvapp").rglob("*.js"),
]


def prose_of_page(page: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a page without its code blocks, which have other tests."""
    text = re.sub(r"```.*?```", lambda block: "\n" * block[0].count("\n"), page.read_text(), flags=re.S)
    yield from enumerate(text.splitlines(), 1)


def prose_of_code(path: Path, *, messages: bool) -> Iterator[tuple[int, str]]:
    """Yield the lines of comments and docstrings.

    :param messages: the other texts of several words, too. Those of tests quote vendors and libraries.
    """
    source = path.read_text()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            start = node.body[0].lineno if text else 0
        elif messages and isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            text, start = node.value, node.lineno
        else:
            continue
        yield from enumerate((text or "").splitlines(), start)


def wrong_words(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[str]:
    for number, line in lines:
        # Without code, the targets of links, and names.
        plain = re.sub(r"`[^`\n]*`|\]\([^)]*\)|:param \w+:", "", line)
        for word, instead in WORDS.items():
            for found in re.finditer(rf"\b({word})\b", plain, re.I):
                yield f"{path.relative_to(ROOT)}:{number}: write {instead!r} for {found[0]!r}"


@pytest.mark.parametrize("page", [page for page in PAGES if page not in OF_THE_PROJECT], ids=lambda page: page.stem)
def test_the_pages_keep_the_glossary(page: Path) -> None:
    assert list(wrong_words(page, prose_of_page(page))) == []


@pytest.mark.parametrize("path", COMMENTED, ids=lambda path: path.name)
def test_the_comments_of_other_languages_keep_the_glossary(path: Path) -> None:
    comments = re.finditer(r"(?:^|\s)(?://|#)\s.*", path.read_text())
    lines = ((path.read_text()[: comment.start()].count("\n") + 1, comment[0]) for comment in comments)
    assert list(wrong_words(path, lines)) == []


@pytest.mark.parametrize("folder", CODE)
def test_the_code_keeps_the_glossary(folder: str) -> None:
    messages = folder != "tests"
    found = {wrong for path in CODE[folder] for wrong in wrong_words(path, prose_of_code(path, messages=messages))}
    assert CODE[folder]
    assert sorted(found) == []
