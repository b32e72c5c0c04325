# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""How Sphinx builds the pages: ``make docs``.

The pages are plain Markdown that reads as well without Sphinx. The README is the first page, and the links of its
chapter "Documentation" are the table of contents. The source folder is the checkout, so that a page may link to any
file in it. ``make reference`` writes the docstrings into the reference. Every
broken link or anchor is a warning, and warnings are errors.
"""

from __future__ import annotations

import re

from sphinx.application import Sphinx

from airflow_provider_isvapp import __version__

project = "airflow-provider-isvapp"
author = "The airflow-provider-isvapp contributors"
version = release = __version__

extensions = ["myst_parser"]
root_doc = "README"
include_patterns = ["*.md", "docs/**"]
# Folders named here are not even walked through.
exclude_patterns = [".*", "airflow_provider_isvapp", "benchmarks", "build", "dags", "docker", "scripts", "tests"]

myst_heading_anchors = 4
html_theme = "furo"
html_title = "airflow-provider-isvapp"
html_show_copyright = False
html_copy_source = False
html_extra_path = ["site"]


def add_contents(app: Sphinx, docname: str, source: list[str]) -> None:
    """Make the README's list of pages the table of contents: each heading there becomes a part of it."""
    if docname != app.config.root_doc:
        return
    _, _, chapter = source[0].partition("\n## Documentation\n")
    chapter, _, _ = chapter.partition("\n## ")
    for part in chapter.split("\n### ")[1:]:
        caption, _, text = part.partition("\n")
        pages = "\n".join(re.findall(r"\]\(([^)]+)\.md\)", text))
        source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{pages}\n```\n"


def setup(app: Sphinx) -> None:
    """Connect the step above."""
    app.connect("source-read", add_contents)


# Pygments has no lexer for DuckDB's SQL, which the guide to a warehouse shows.
suppress_warnings = ["misc.highlighting_failure"]
