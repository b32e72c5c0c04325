# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The pages use the words of the glossary in CONTRIBUTING.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.airflow.docs.pages import OF_THE_PROJECT, PAGES

# What to write instead, for what must not be written. Code and quoted messages have tests of their own.
WORDS = {
    r"address(es)?": "URL, or host",
    r"answer(s|ed|ing)?": "response, respond",
    r"nobody|somebody|whoever|everybody": "name the user, process or task",
    r"nought|likewise|therein|shall": "zero, also, in it, must",
    r"(requests|tokens|tasks|statements|rows|bytes) an? (second|minute|hour|day|month)": "per second",
    r"looks? at (the|an?) exports?|a look": "poll",
}


def prose(page: Path) -> str:
    """Return a page without code, quoted text and the targets of links, line by line."""
    text = re.sub(r"```.*?```", lambda block: "\n" * block[0].count("\n"), page.read_text(), flags=re.S)
    return re.sub(r"`[^`\n]*`|\]\([^)]*\)", "", text)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in OF_THE_PROJECT], ids=lambda page: page.stem)
def test_the_glossary_is_kept(page: Path) -> None:
    wrong = [
        f"{page.name}:{number}: write {instead!r} for {found[0]!r}"
        for number, line in enumerate(prose(page).splitlines(), 1)
        for word, instead in WORDS.items()
        for found in re.finditer(rf"\b({word})\b", line, re.I)
    ]
    assert wrong == []
