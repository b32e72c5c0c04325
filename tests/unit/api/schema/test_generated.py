# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What is generated from the model is what the model says now."""

from __future__ import annotations

import ast
import importlib.util
import json
from typing import Any

import pytest

from airflow_provider_isvapp.api.schema import isvapp, productiv
from airflow_provider_isvapp.api.schema.fields import read_object
from airflow_provider_isvapp.emulator.data import account_rows, rows_to_json
from airflow_provider_isvapp.emulator.productiv import app_rows
from tests.support import ROOT

SPEC = importlib.util.spec_from_file_location("generate_schemas", ROOT / "scripts" / "generate_schemas.py")
assert SPEC is not None
assert SPEC.loader is not None
generate_schemas: Any = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(generate_schemas)


def test_the_files_are_fresh() -> None:
    generated = generate_schemas.generated()

    assert [str(path) for path, content in generated.items() if (ROOT / path).read_text() != content] == []
    stored = {path.relative_to(ROOT) for path in (ROOT / generate_schemas.SCHEMAS).rglob("*.json")}
    assert stored == set(generated) - {generate_schemas.DICTIONARY}


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


def test_what_writes_rows_names_no_field_of_theirs() -> None:
    rows = (isvapp.TaxonomyItemRow, isvapp.SalesforceAccount, productiv.AppDetails)
    # The month, which divides exports, differs from the other fields by its name; "type" and "name" are words.
    documented = {field.name for row in rows for field in read_object(row).fields} - {"reference_date", "type", "name"}
    package = ROOT / "airflow_provider_isvapp"

    stated = {
        (str(path.relative_to(package)), node.value)
        for room in ("transfer", "lineage", "operators", "hooks")
        for path in (package / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in documented
    }

    assert stated == set()
