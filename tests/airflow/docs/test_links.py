# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Links and anchors of the Markdown files are valid; Sphinx checks those of the built pages."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.airflow.docs.pages import PAGES
from tests.support import ROOT


def anchors(page: Path) -> set[str]:
    """Return the anchors that code hosting sites make of headings: small letters, hyphens, nothing else."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    titles = [re.sub(r"[`*]|\[(.*?)\]\(.*?\)", r"\1", title) for title in re.findall(r"^#+ (.+)$", text, re.M)]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        url = urlsplit(target)
        if url.scheme:
            continue
        leads_to = page.parent / url.path if url.path else page
        assert leads_to.exists(), f"{page.name} links to {target}"
        if url.fragment:
            assert url.fragment in anchors(leads_to), f"{page.name} links to {target}"


def test_every_page_is_in_the_table_of_contents() -> None:
    _, _, chapter = (ROOT / "README.md").read_text().partition("\n## Documentation\n")
    listed = re.findall(r"\]\(([^)]+\.md)\)", chapter.partition("\n## ")[0])
    assert len(listed) == len(set(listed))
    assert {str(page.relative_to(ROOT)) for page in PAGES[1:]} | {"CHANGELOG.md"} == set(listed)


def test_every_picture_is_shown() -> None:
    shown = {Path(name).name for page in PAGES for name in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text())}
    assert {path.name for path in (ROOT / "docs" / "images").iterdir()} <= shown
