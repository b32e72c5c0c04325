# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The model has every documented field, with its type, its values, and where it is absent or null."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.api.schema import isvapp, productiv
from airflow_provider_isvapp.api.schema.fields import (
    Field,
    ListOf,
    MapOf,
    Object,
    ObjectOf,
    Scalar,
    Type,
    documented_paths,
    objects_in,
    read_object,
    response_object,
)
from tests.unit.api.schema.values import values_of

VENDORS = {"isvapp": isvapp, "productiv": productiv}
OBJECTS = {
    f"{vendor}.{found.name}": found
    for vendor, module in VENDORS.items()
    for struct in module.OBJECTS
    for found in objects_in(read_object(struct))
}
STRUCTS = [struct for module in VENDORS.values() for struct in module.OBJECTS]


def documented_lines() -> list[dict[str, str]]:
    with (Path(__file__).parent / "fields.tsv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def spelling(kind: Type) -> str:
    """Return the name of a type in the list of fields."""
    if isinstance(kind, ListOf):
        return f"array<{spelling(kind.items).removeprefix('object ')}>"
    if isinstance(kind, MapOf):
        return f"object {kind.name}" if kind.name else f"map<string, {spelling(kind.values).removeprefix('object ')}>"
    if isinstance(kind, ObjectOf):
        return f"object {kind.name}"
    return "string holding an integer" if kind.kind == "count text" else kind.json


def scalar_of(kind: Type) -> Scalar:
    """Return the type of a value, or of the elements of an array; an empty one for objects."""
    inner = kind.items if isinstance(kind, ListOf) else kind
    return inner if isinstance(inner, Scalar) else Scalar(json="", kind="")


# Types with another name in the list, or without one.
VALUES = {("isvapp.Export", "type"): "TAXONOMY_ITEM"}
SALESFORCE_IDS = {("isvapp.SubscriberOrg", "salesforce_id")}
PERSONAL = {("isvapp.SalesforceAccount", "name")}
KEYS = {("isvapp.Account", "id"), ("isvapp.Export", "id"), ("productiv.Instance", "InstanceId")}


def spellings(object_name: str, field: Field) -> set[str]:
    """Return the types that the list may give a field of this type."""
    word = spelling(field.type)
    if field.facts.place in ("query", "header"):
        return {field.facts.place}
    if field.facts.place == "form":
        return {f"form {word}"}
    return {
        word,
        # Productiv documents only numbers; counts are whole.
        *(["number"] if word == "integer" and object_name.startswith("productiv.") else []),
        *(["object"] if word in ("object ContractAmount", "object FiscalDate", "object FiscalDateRange") else []),
        *(["by FieldType"] if object_name == "productiv.CustomField" and field.name == "FieldValue" else []),
        *(["array<AppSummary | AppDetails>"] if word == "array<AppSummary>" else []),
    }


def field_of(line: dict[str, str]) -> Field:
    name = line["object"]
    cure = f"add {name}.{line['field']} to airflow_provider_isvapp/api/schema/, and run make schemas"
    assert name in OBJECTS or name == "productiv.CustomField.FieldValue", cure
    if name == "productiv.CustomField.FieldValue":
        custom = OBJECTS["productiv.CustomField"]
        assert isinstance(custom, ObjectOf)
        return Field(name=line["field"], type=dict(custom.variants)[line["field"]], nullable=False, required=True)
    found = OBJECTS[name]
    if isinstance(found, MapOf):
        assert line["field"] in found.keys, cure
        return Field(name=line["field"], type=found.values, nullable=False, required=False)
    assert line["field"] in {item.name for item in found.fields}, cure
    return found.field(line["field"])


@pytest.mark.parametrize("line", documented_lines(), ids=lambda line: f"{line['object']}.{line['field']}")
def test_every_documented_field_is_in_the_model(line: dict[str, str]) -> None:
    field = field_of(line)
    place = (line["object"], line["field"])
    values, note = VALUES.get(place, line["values, unit or format"]), line["note"]
    scalar = scalar_of(field.type)
    differs = f"fields.tsv and api/schema differ in {'.'.join(place)}: correct one, and run make schemas"

    assert line["type"] in spellings(line["object"], field), differs
    if scalar.values or (" | " in values and scalar.kind != "boolean"):
        known = set(scalar.values) or set(field.facts.unit.replace(" or ", ", ").split(", "))
        assert known == {"" if value == "(empty)" else value for value in values.split(" | ")}, differs
    assert (scalar.kind == "date") is (values == "YYYY-MM-DD"), differs
    assert (scalar.kind == "month") is (values == "YYYY-MM"), differs
    assert (scalar.kind == "time") is values.startswith("ISO 8601"), differs
    assert (scalar.kind == "salesforce id") is ("15 or 18" in values or place in SALESFORCE_IDS), differs
    for unit in ("count", "bytes", "ms"):
        assert (field.facts.unit == unit) is (values == unit), differs
    assert field.facts.personal is ("personal" in note or place in PERSONAL), differs
    assert field.facts.key is (note in ("key", "key of the field") or place in KEYS), differs
    assert field.nullable is ("null" in note), differs
    if "absent" in note or note.endswith("v3 only") or note == "Engagement only":
        assert not field.required, differs


def test_the_model_has_no_field_that_is_not_documented() -> None:
    documented = {(line["object"], line["field"]) for line in documented_lines()}
    # Each has one line in the list.
    parts = {"productiv.ContractAmount", "productiv.FiscalDate", "productiv.FiscalDateRange"}
    again = {"productiv.VerboseAppsResponse": "productiv.AppsResponse"}

    undocumented = [
        f"{name}.{field}"
        for name, found in OBJECTS.items()
        for field in ([item.name for item in found.fields] if isinstance(found, ObjectOf) else found.keys)
        if name not in parts and (again.get(name, name), field) not in documented
    ]

    assert undocumented == [], "add a line to tests/unit/api/schema/fields.tsv for each"


@pytest.mark.parametrize("name", OBJECTS)
def test_the_model_states_where_a_field_is_absent_or_null(name: str) -> None:
    found = OBJECTS[name]
    for field in found.fields if isinstance(found, ObjectOf) else ():
        assert bool(field.facts.absent) is not field.required, f"state facts(absent=…) for {field.name}, or require it"
        assert bool(field.facts.null) is field.nullable, f"state facts(null=…) for {field.name}, or do not allow null"


PAGES: list[tuple[type[Object], Any]] = [
    (
        isvapp.TokenResponse,
        {"access_token": "…", "token_type": "Bearer", "expires_in": 3600, "scope": "identity"},
    ),
    (
        isvapp.ExportRequest,
        {"type": "TAXONOMY_ITEM", "aggregation": "MONTHLY", "timeframe": "2024-02", "taxonomy_ids": ["c9d7ddb"]},
    ),
    (
        isvapp.Export,
        {
            "id": "dd8eea7b-bd22-4422-8ea9-8315fcf04622",
            "type": "TAXONOMY_ITEM",
            "status": "PENDING",
            "url": "https://api.isvapp.com/api/v1/exports/dd8eea",
        },
    ),
    (
        isvapp.Export,
        {
            "completed_at": "2023-10-01T08:42:22.100005Z",
            "created_at": "2023-10-01T08:38:31.711005Z",
            "download_size_compressed_bytes": 1010000,
            "download_size_uncompressed_bytes": 12600000,
            "download_url": "https://api.isvapp.com/api/v1/exports/dd8eea",
            "error_message": None,
            "errored_at": None,
            "expires_at": "2023-10-01T09:42:22.100005Z",
            "id": "dd8eea",
            "is_expired": False,
            "status": "COMPLETED",
            "type": "TAXONOMY_ITEM",
        },
    ),
    (
        isvapp.TaxonomyItemRow,
        {
            "type": "TAXONOMY_ITEM",
            "aggregation": "MONTHLY",
            "reference_date": "2024-03",
            "salesforce_account_id": "0014x000FVCAPXFAY5",
            "salesforce_account_name": "…",
            "taxonomy_id": "dd8eea7b",
            "taxonomy_item_id": "8315fcf",
            "taxonomy_item_label": "Player Management",
            "taxonomy_item_parent_item_id": None,
            "taxonomy_label": "Main Product Taxonomy",
            "taxonomy_level_id": "5fcf827",
            "taxonomy_level_label": "Product Area",
            "unique_users": "455",
            "unique_users_external": "400",
            "unique_users_internal": "55",
            "operations": "16700",
            "operations_external": "16000",
            "operations_internal": "700",
        },
    ),
    (
        productiv.AppsResponse,
        {
            "AsOfDate": "2022-07-01",
            "Apps": [
                {
                    "ApplicationId": "productiv",
                    "ApplicationName": "Productiv",
                    "AppStatus": "Approved",
                    "Capabilities": ["SaaS Management", "Data & Analytics"],
                    "Description": "…",
                    "DiscoveryDate": "2021-01-01",
                    "LastActivityDate": "2022-01-01",
                    "FirstActivityDate": "2020-01-01",
                    "Labels": [],
                    "CustomFields": [
                        {
                            "FieldName": "field name",
                            "FieldValue": ["value1", "value 2"],
                            "FieldType": "multiselect",
                            "FieldKey": "dlk2fghaeoi342",
                        }
                    ],
                    "Category": "IT Management",
                    "DataSources": ["Managed SSO", "Contract"],
                    "AppContacts": {
                        "NumContacts": 3,
                        "Finance_Contacts": [
                            {"Name": "finance owner", "Email": "finance@domain.com"},
                            {"Name": "finance owner 2", "Email": "finance2@domain.com"},
                        ],
                        "Legal_Contacts": [{"Name": "legal owner", "Email": "legal@domain.com"}],
                    },
                    "IsDiscovered": False,
                    "VendorName": "Productiv",
                },
                {
                    "ApplicationId": "app",
                    "ApplicationName": "App",
                    "AppStatus": "Not approved",
                    "Labels": ["label 1", "label 2"],
                    "CustomFields": [
                        {
                            "FieldName": "field name",
                            "FieldValue": "some text",
                            "FieldType": "text",
                            "FieldKey": "lgp5s4z4m0pd",
                        }
                    ],
                    "Category": "Analytics",
                    "DataSources": ["Unmanaged SSO"],
                    "AppContacts": {"NumContacts": 0},
                    "IsDiscovered": True,
                    "VendorName": "Vendor",
                },
            ],
            "ResponseTimeMs": 2000,
        },
    ),
]


@pytest.mark.parametrize(
    ("struct", "example"), PAGES, ids=[f"{struct.__name__}-{place}" for place, (struct, _) in enumerate(PAGES)]
)
def test_the_examples_of_the_pages_pass(struct: type[Object], example: Any) -> None:
    assert json.loads(msgspec.json.encode(msgspec.json.decode(json.dumps(example), type=struct))) == example


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data())
def test_a_value_that_the_model_allows_survives_a_round_trip(struct: type[Object], data: st.DataObject) -> None:
    value = data.draw(values_of(read_object(struct)))

    assert json.loads(msgspec.json.encode(msgspec.json.decode(json.dumps(value), type=struct))) == value


def test_a_field_that_needs_a_parameter_is_present_only_with_it() -> None:
    def fields(*parameters: str) -> dict[str, bool]:
        read = read_object(response_object(isvapp.SalesforceAccount, frozenset(parameters)))
        return {field.name: field.required for field in read.fields}

    plain = fields()
    assert {"isvapp_id", "salesforce_id", "name"} <= set(plain)
    assert not {"health_scores", "subscriber_orgs"} & set(plain)
    assert fields("includeHealthScores") == plain | {"health_scores": True}
    assert fields("includeHealthScores", "includeSubscriberOrgs") == plain | {
        "health_scores": True,
        "subscriber_orgs": True,
    }
    assert {
        field.name: field.required for field in read_object(response_object(productiv.AppDetails, frozenset())).fields
    } == {field.name: field.required for field in read_object(productiv.AppDetails).fields}


def test_paths_name_fields_within_lists_maps_and_variants() -> None:
    paths = set(documented_paths(productiv.AppDetails))

    assert {
        "AppContacts.Finance_Contacts[].Email",
        "Instances[].AppContacts",
        "Activity.Managed SSO.LicenseTier.*.RollingWindow30.PercentageActive",
        "CustomFields[].FieldValue.currencyCode",
    } <= paths


def test_the_record_of_an_export_has_the_fields_of_the_model() -> None:
    documented = {field.name for field in read_object(isvapp.Export).fields}

    assert {name for name in Export.__dataclass_fields__ if name != "extra"} == documented


def test_the_model_loads_in_a_moment_and_alone() -> None:
    code = """
import sys
import airflow_provider_isvapp.api.schema.isvapp, airflow_provider_isvapp.api.schema.productiv
assert not {"airflow", "pyarrow", "requests"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
