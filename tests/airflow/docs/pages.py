# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The pages and the blocks in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT

OF_THE_PROJECT = [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md")]
PAGES = [ROOT / "README.md", *OF_THE_PROJECT, *sorted((ROOT / "docs").rglob("*.md"))]
GUIDES = ROOT / "docs" / "guides"


@dataclass(frozen=True)
class Block:
    """A fenced block.

    :param before: the line above it, which introduces it.
    """

    page: Path
    number: int
    language: str
    text: str
    before: str

    def __str__(self) -> str:
        return f"{self.page.stem}-{self.number}"


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page, from top to bottom."""
    text = page.read_text()
    found = []
    for number, match in enumerate(re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S), 1):
        before = text[: match.start()].rstrip().rpartition("\n")[2]
        found.append(Block(page, number, match[1], match[2], before))
    return found


def blocks(*languages: str) -> list[Block]:
    """Return all blocks in these languages."""
    return [block for page in PAGES for block in blocks_of(page) if block.language in languages]
