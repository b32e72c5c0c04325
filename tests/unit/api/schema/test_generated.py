# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The generated files are up to date, and copies of the field lists are complete."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.api.schema import isvapp, productiv
from airflow_provider_isvapp.api.schema.fields import read_object
from airflow_provider_isvapp.emulator import EmulatorConfig
from airflow_provider_isvapp.emulator.data import ExportRequest, account_rows, ndjson, rows_to_json
from airflow_provider_isvapp.emulator.productiv import app_rows
from tests.support import ROOT
from tests.support.file_server import export_row


def load(path: str) -> Any:
    """Import a script, which is in no package."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look up their module
    spec.loader.exec_module(module)
    return module


generate_schemas = load("scripts/generate_schemas.py")


def test_the_files_are_fresh() -> None:
    generated = generate_schemas.generated()

    stored = {path.relative_to(ROOT) for path in (ROOT / generate_schemas.SCHEMAS).rglob("*.json")}
    assert stored == set(generated) - {generate_schemas.DICTIONARY}, "run make schemas; delete what it does not write"
    stale = [str(path) for path, content in generated.items() if (ROOT / path).read_text() != content]
    assert stale == [], "run make schemas"


def test_the_schemas_are_valid_and_accept_what_the_vendors_send_and_may_add() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="only the main line's environment has a validator")
    validators = {}
    for path in (ROOT / generate_schemas.SCHEMAS).rglob("*.json"):
        schema = json.loads(path.read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        validators[path.stem] = jsonschema.Draft202012Validator(schema)

    apps = [json.loads(row) for row in rows_to_json(app_rows(1, 60, include_inactive=True, verbose=True))]
    accounts = rows_to_json(account_rows(1, 60, include_health_scores=True, include_subscriber_orgs=True))
    for row in apps:
        validators["AppDetails"].validate(row | {"New": 1})
        assert not validators["AppDetails"].is_valid(row | {"ApplicationId": 5})
    for row in map(json.loads, accounts):
        validators["SalesforceAccount"].validate(row)
        assert not validators["SalesforceAccount"].is_valid(row | {"salesforce_id": "short"})


def test_modules_that_write_rows_name_no_field() -> None:
    rows = (isvapp.TaxonomyItemRow, isvapp.SalesforceAccount, productiv.AppDetails)
    # reference_date, which partitions exports, is no copy of the list; "type" and "name" are ordinary words.
    documented = {field.name for row in rows for field in read_object(row).fields} - {"reference_date", "type", "name"}
    package = ROOT / "airflow_provider_isvapp"

    stated = {
        (str(path.relative_to(package)), node.value)
        for pattern in ("transfer/**/*.py", "lineage.py", "operators/*.py", "hooks/*.py")
        for path in package.glob(pattern)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in documented
    }

    assert stated == set()


def emulator_row() -> bytes:
    request = ExportRequest(
        type="TAXONOMY_ITEM", aggregation="MONTHLY", months=("2026-02",), selection="taxonomy_ids", ids=("a",)
    )
    return next(ndjson(EmulatorConfig(rows=1), request))


ROWS: dict[str, Callable[[], Iterable[str]]] = {
    "airflow_provider_isvapp/emulator/data.py": lambda: json.loads(emulator_row()),
    "tests/support/file_server.py": lambda: json.loads(export_row(1)),
    "benchmarks/download_server.py": lambda: load("benchmarks/download_server.py").FIELDS,
}


@pytest.mark.parametrize("file", ROWS)
def test_a_usage_row_written_by_hand_has_the_fields_of_the_model(file: str) -> None:
    documented = [field.name for field in read_object(isvapp.TaxonomyItemRow).fields]

    assert list(ROWS[file]()) == documented, f"give the row in {file} the fields of TaxonomyItemRow, in this order"
