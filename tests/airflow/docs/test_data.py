# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The rows on the page "The data" have the fields that a task writes; the guides' examples leave out personal data."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_isvapp.api.schema.fields import ListOf, MapOf, Object, ObjectOf, Type, read_object
from airflow_provider_isvapp.api.schema.isvapp import SalesforceAccount, TaxonomyItemRow
from airflow_provider_isvapp.api.schema.productiv import AppDetails, AppSummary
from airflow_provider_isvapp.emulator import Emulator
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.transfer.exclude_fields import parse_field
from tests.airflow.docs.pages import blocks_of
from tests.support import ROOT


def test_each_row_has_the_fields_of_its_stream(emulator: Emulator, tmp_path: Path) -> None:
    usage, account, app = (json.loads(block.text) for block in blocks_of(ROOT / "docs" / "data.md"))

    with IsvappHook() as hook:
        export = hook.create_export(timeframe="2026-02", taxonomy_ids=["main-product-taxonomy"])
        accounts = hook.list_salesforce_accounts(include_health_scores=True, include_subscriber_orgs=True)
    written = json.loads(emulator.export_bytes(export.id).splitlines()[0])
    assert list(usage) == list(written)
    assert list(account) == list(accounts[0])
    assert list(app) == [field.name for field in read_object(AppSummary).fields]


def personal_paths(kind: Type, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of each field that the model calls personal data."""
    if isinstance(kind, ListOf):
        yield from personal_paths(kind.items, (*path, "[]"))
    elif isinstance(kind, MapOf):
        yield from personal_paths(kind.values, (*path, "*"))
    elif isinstance(kind, ObjectOf):
        for item in kind.fields:
            if item.facts.personal:
                yield (*path, item.name)
            yield from personal_paths(item.type, (*path, item.name))
        for _, variant in kind.variants:
            yield from personal_paths(variant, (*path, kind.varies or ""))


@pytest.mark.parametrize(
    ("guide", "row"),
    [
        ("productiv-apps.md", AppDetails),
        ("download-an-export.md", TaxonomyItemRow),
        ("salesforce-accounts.md", SalesforceAccount),
    ],
)
def test_the_first_example_of_a_guide_leaves_out_all_personal_data(guide: str, row: type[Object]) -> None:
    page = ROOT / "docs" / "guides" / guide
    example = re.search(r"`exclude_fields=(\(.*?\))`", page.read_text())
    assert example is not None
    excluded = [parse_field(name) for name in ast.literal_eval(example[1])]
    personal = list(personal_paths(read_object(row)))
    kept = [
        path
        for path in personal
        if not any(path[: len(name)] == name or (len(name) == 1 and name[0] in path) for name in excluded)
    ]

    assert personal
    assert kept == [], f"add them to exclude_fields in {page.name}"
