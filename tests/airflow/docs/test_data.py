# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The rows on the page "The data" have the fields that a task writes."""

from __future__ import annotations

import json
from pathlib import Path

from airflow_provider_isvapp.api.schema.fields import read_object
from airflow_provider_isvapp.api.schema.productiv import AppSummary
from airflow_provider_isvapp.emulator import Emulator
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
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
