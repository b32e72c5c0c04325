# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""How Sphinx builds the pages: ``make docs``.

The pages are plain Markdown that reads as well without Sphinx. The README is the first page, and the links of its
chapter "Documentation" are the table of contents. The source folder is the checkout, so that a page may link to any
file in it. Every broken link, anchor or docstring is a warning, and warnings are errors.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import textwrap
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from airflow_provider_isvapp import __version__

# The docstrings are read by importing the package, and Airflow writes a configuration file when it is imported.
os.environ["AIRFLOW_HOME"] = str(Path(__file__).parent.parent / "build" / "airflow")

project = "airflow-provider-isvapp"
author = "The airflow-provider-isvapp contributors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "README"
include_patterns = ["*.md", "docs/**"]
# Folders named here are not even walked through.
exclude_patterns = [".*", "airflow_provider_isvapp", "benchmarks", "build", "dags", "docker", "scripts", "tests"]

myst_heading_anchors = 4
nitpicky = True
# Names of this package have to be documented; those of Airflow and of the standard library are only shown.
nitpick_ignore_regex = [(r"py:.*", r"(?!airflow_provider_isvapp\.).*")]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100

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


def show_all_parameters(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """Show all that a constructor of ours takes, where classes hand it on to each other as kwargs."""
    if what != "class" or "**kwargs" not in (signature or ""):
        return None
    shown: dict[str, str] = {}
    for base in obj.__mro__:
        if not base.__module__.startswith("airflow_provider_isvapp.") or "__init__" not in vars(base):
            continue
        source = textwrap.dedent(inspect.getsource(vars(base)["__init__"]))
        taken = next(node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.arguments))
        values = inspect.signature(vars(base)["__init__"]).parameters
        for argument, default in zip(taken.kwonlyargs, taken.kw_defaults, strict=True):
            text = ast.unparse(argument)
            if default is not None:
                value = values[argument.arg].default
                # A name says more than a long template, and a configuration option more than its value here.
                short = isinstance(value, str) and len(value) < 40
                text += f" = {str(value)!r}" if short else f" = {ast.unparse(default)}"
            shown.setdefault(argument.arg, text)
    # Required ones first, as in the docstrings.
    return f"(*, {', '.join(sorted(shown.values(), key=lambda text: ' = ' in text))}, **kwargs)", returns


def setup(app: Sphinx) -> None:
    """Connect the two steps above."""
    app.connect("source-read", add_contents)
    app.connect("autodoc-process-signature", show_all_parameters)
