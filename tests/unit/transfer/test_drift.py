# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Each way in which a row can differ from its documentation has its own report, wherever the row is."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_isvapp.api.schema.fields import Object, read_object
from airflow_provider_isvapp.api.schema.isvapp import TaxonomyItemRow, salesforce_account
from airflow_provider_isvapp.api.schema.productiv import AppDetails, AppSummary
from airflow_provider_isvapp.emulator.data import to_json
from airflow_provider_isvapp.emulator.productiv import app
from airflow_provider_isvapp.errors import DamagedDownload
from airflow_provider_isvapp.transfer.drift import RowChecker
from tests.support.file_server import export_row
from tests.unit.api.schema.values import values_of

ACCOUNT = salesforce_account(health_scores=True, subscriber_orgs=True)
ROW = {
    "isvapp_id": "i",
    "salesforce_id": "0014x000FVCAPXF",
    "name": "Acme",
    "health_scores": [{"score": 42, "is_primary": True, "label": "Adoption"}],
    "subscriber_orgs": [{"name": "Production", "salesforce_id": "00D4x000FVCAPXFAY5"}],
}


def details() -> dict[str, Any]:
    row: dict[str, Any] = json.loads(to_json(app(1, 0, verbose=True)))
    return row


def checker(struct: type[Object] = ACCOUNT, *, allow_wrong_types: bool = True, unique: bool = True) -> RowChecker:
    return RowChecker(struct, allow_wrong_types=allow_wrong_types, unique=unique)


def drift_of(row: dict[str, Any], struct: type[Object] = ACCOUNT) -> list[tuple[str, str]]:
    check = checker(struct)
    check.check(json.dumps(row).encode(), 7)
    assert all((found.rows, found.first_row) == (1, 7) for found in check.report)
    return [(found.path, str(found.kind)) for found in check.report]


def changed(row: Any, path: list[Any], value: Any) -> Any:
    copy = json.loads(json.dumps(row))
    inner = copy
    for step in path[:-1]:
        inner = inner[step]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return copy


@pytest.mark.parametrize(
    "struct", [TaxonomyItemRow, ACCOUNT, AppSummary, AppDetails], ids=lambda struct: struct.__name__
)
@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data())
def test_documented_rows_have_no_drift(struct: type[Object], data: st.DataObject) -> None:
    check = checker(struct, allow_wrong_types=False, unique=False)
    row = data.draw(values_of(read_object(struct)))
    check.check(json.dumps(row).encode(), 1)
    assert not check.report
    # The slow comparison, which finds drift, agrees with the fast one, which only shows that there is none.
    check.check(json.dumps(row | {"New": 1}).encode(), 2)
    assert [found.path for found in check.report] == ["$.New"]


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (["New"], 1, ("$.New", "unknown_field")),
        (["A new one"], 1, ('$["A new one"]', "unknown_field")),
        (["health_scores", 0, "New"], None, ("$.health_scores[].New", "unknown_field")),
        (["name"], ..., ("$.name", "absent")),
        (["health_scores"], ..., ("$.health_scores", "absent")),
        (["subscriber_orgs", 0, "name"], ..., ("$.subscriber_orgs[].name", "absent")),
        (["name"], None, ("$.name", "null")),
        (["name"], 5, ("$.name", "wrong_type")),
        (["health_scores"], {}, ("$.health_scores", "wrong_type")),
        (["health_scores", 0, "score"], "42", ("$.health_scores[].score", "wrong_type")),
        (["health_scores", 0, "is_primary"], 1, ("$.health_scores[].is_primary", "wrong_type")),
        (["health_scores", 0], "x", ("$.health_scores[]", "wrong_type")),
        (["salesforce_id"], "0014x000FVCAPXF1", ("$.salesforce_id", "wrong_type")),
    ],
)
def test_drift_of_an_account(path: list[Any], value: Any, expected: tuple[str, str]) -> None:
    assert drift_of(changed(ROW, path, value)) == [expected]


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (["AppStatus"], "Deprecated", ("$.AppStatus", "unknown_value")),
        (["DataSources"], ["Browser"], ("$.DataSources[]", "unknown_value")),
        (
            ["Compliance", "Swiss-U.S. Privacy Shield"],
            "MAYBE",
            ('$.Compliance["Swiss-U.S. Privacy Shield"]', "unknown_value"),
        ),
        (["Activity", "Browser"], details()["Instances"][0]["Activity"], ("$.Activity.Browser", "unknown_field")),
        (["CustomFields", 0, "FieldType"], "rating", ("$.CustomFields[].FieldType", "unknown_value")),
        (["CustomFields", 0, "FieldValue"], 5, ("$.CustomFields[].FieldValue", "wrong_type")),
        (["DiscoveryDate"], "2024-02-30", ("$.DiscoveryDate", "wrong_type")),
        (["DiscoveryDate"], "20240201", ("$.DiscoveryDate", "wrong_type")),
        (["AppContacts", "NumContacts"], 1.5, ("$.AppContacts.NumContacts", "wrong_type")),
        (["AppContacts", "NumContacts"], 2**63, ("$.AppContacts.NumContacts", "wrong_type")),
        (
            ["Instances", 0, "Contract", "Summary", "TermMonths"],
            None,
            ("$.Instances[].Contract.Summary.TermMonths", "null"),
        ),
    ],
)
def test_drift_of_an_app(path: list[Any], value: Any, expected: tuple[str, str]) -> None:
    assert drift_of(changed(details(), path, value), AppDetails) == [expected]


@pytest.mark.parametrize("number", ["1e400", "9" * 5000])
def test_a_number_without_a_representation_has_the_wrong_type(number: str) -> None:
    check = checker()
    check.check(json.dumps(changed(ROW, ["health_scores", 0, "score"], "@")).replace('"@"', number).encode(), 1)
    assert [(found.path, found.kind) for found in check.report] == [("$.health_scores[].score", "wrong_type")]


def test_a_whole_number_with_a_point_is_a_count() -> None:
    assert drift_of(changed(details(), ["AppContacts", "NumContacts"], 3.0), AppDetails) == []


def test_each_field_is_reported_once_with_its_rows() -> None:
    check = checker()
    for number in range(1, 3001):
        row = ROW | {"salesforce_id": f"{number:015d}"} | ({"New": [{}, {}]} if number % 1000 == 0 else {})
        check.check(json.dumps(row).encode(), number)

    assert check.report.as_json() == [{"path": "$.New", "kind": "unknown_field", "rows": 3, "first_row": 1000}]
    assert str(check.report) == "$.New is not documented (3 rows, the first is row 1000)"


def test_the_report_does_not_grow_with_names_of_fields() -> None:
    check = checker()
    check.check(json.dumps(ROW | {f"{number:05d}{'x' * 1000}": 1 for number in range(1000)}).encode(), 1)

    assert len(check.report) == 50
    assert len(json.dumps(check.report.as_json())) < 10_000


@pytest.mark.parametrize("key", [..., None, "", 5, ["0014x000FVCAPXF"]])
def test_a_row_without_its_key_is_refused(key: Any) -> None:
    with pytest.raises(DamagedDownload, match="row 4 has no salesforce_id, which identifies it"):
        checker().check(json.dumps(changed(ROW, ["salesforce_id"], key)).encode(), 4)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("0014x000FVCAPXF", "0014x000FVCAPXF"),
        ("0014x000FVCAPXF", "0014x000FVCAPXFAY5"),
    ],
)
@pytest.mark.parametrize("more", [{}, {"New": 1}])
def test_a_second_row_of_one_account_is_refused(first: str, second: str, more: dict[str, Any]) -> None:
    check = checker()
    check.check(json.dumps(ROW | {"salesforce_id": first}).encode(), 1)
    check.check(json.dumps(ROW | {"salesforce_id": "0014x000FVCAPXf"}).encode(), 2)  # another account: case counts
    with pytest.raises(DamagedDownload, match="rows 1 and 3 have the same salesforce_id"):
        check.check(json.dumps(ROW | {"salesforce_id": second} | more).encode(), 3)


def test_a_value_of_another_type_is_refused_where_a_column_could_not_hold_it() -> None:
    with pytest.raises(DamagedDownload, match=r"row 3: \$\.health_scores\[\]\.score is not of the documented type"):
        checker(allow_wrong_types=False).check(
            json.dumps(changed(ROW, ["health_scores", 0, "score"], "42")).encode(), 3
        )


@pytest.mark.parametrize("field", ["unique_users", "operations_internal", "reference_date", "salesforce_account_id"])
@pytest.mark.parametrize("bad", ["", "x", "1 ", " 1", "1\n", "1\n2", "\n", "-1", "1.0", "\u0661"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_column_of_values_is_judged_as_each_of_them_is(field: str, bad: str, place: int) -> None:
    lines = [export_row(number) for number in range(3)]
    checker = RowChecker(TaxonomyItemRow, allow_wrong_types=False)
    assert [row.reference_date for row in checker.read_documented(lines)] == ["2024-03"] * 3
    lines[place] = json.dumps(json.loads(lines[place]) | {field: bad}).encode()
    with pytest.raises(msgspec.ValidationError):
        checker.decode(lines[place])
    with pytest.raises(msgspec.ValidationError):
        checker.read_documented(lines)
