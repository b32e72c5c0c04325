# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The tables of errors match the code: every class, and whether it is retried."""

from __future__ import annotations

import pytest

from airflow_provider_isvapp import errors
from airflow_provider_isvapp.errors import ProviderError
from tests.support import ROOT


def rows() -> list[tuple[str, str]]:
    """Return the first two cells of each row about an error."""
    page = (ROOT / "docs" / "operations.md").read_text()
    chapter = page.partition("\n## Errors\n")[2].partition("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in chapter.splitlines() if "|" in line]
    return [(name.strip("`"), retried) for name, retried, *_ in cells if name.startswith("`")]


def classes() -> dict[str, type[ProviderError]]:
    """Return the tree of errors by name."""
    found = {name: value for name, value in vars(errors).items() if isinstance(value, type)}
    return {name: value for name, value in found.items() if issubclass(value, ProviderError)}


def test_every_error_has_one_row() -> None:
    assert sorted(name for name, _ in rows()) == sorted(classes())


@pytest.mark.parametrize(("name", "retried"), rows())
def test_it_says_whether_a_retry_follows(name: str, retried: str) -> None:
    assert retried == ("no" if classes()[name].permanent else "yes")
