# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Lists as Parquet: a warehouse reads the same counts, sums and nested values as from the ndjson."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.api.schema.fields import Dialect, Object, column_type, read_object
from airflow_provider_isvapp.api.schema.isvapp import salesforce_account
from airflow_provider_isvapp.api.schema.productiv import AppDetails
from airflow_provider_isvapp.emulator.data import account_rows, rows_to_json
from airflow_provider_isvapp.emulator.productiv import app_rows
from airflow_provider_isvapp.errors import DamagedDownload
from airflow_provider_isvapp.transfer import parquet
from airflow_provider_isvapp.transfer.destination import local_destination
from airflow_provider_isvapp.transfer.lists import write_list
from airflow_provider_isvapp.transfer.options import WriteOptions
from airflow_provider_isvapp.transfer.results import Outcome, WriteResult

pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")

ACCOUNT = salesforce_account(health_scores=True, subscriber_orgs=True)
APPS = [json.loads(row) for row in rows_to_json(app_rows(1, 300, include_inactive=True, verbose=True))]
ACCOUNTS = [
    json.loads(row)
    for row in rows_to_json(account_rows(1, 2_000, include_health_scores=True, include_subscriber_orgs=True))
]


def write(folder: Path, rows: list[dict[str, Any]], row_type: type[Object], **options: Any) -> WriteResult:
    return write_list(
        [json.dumps(row).encode() for row in rows],
        local_destination(str(folder / "list.parquet")),
        dataset="list",
        row_type=row_type,
        options=WriteOptions(output_format="parquet", **options),
    )


def select(folder: Path, query: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = duckdb.sql(query.format(rows=f"'{folder / 'list.parquet'}'")).fetchall()
    return found


@pytest.mark.parametrize("row_type", [ACCOUNT, AppDetails], ids=["accounts", "apps"])
def test_the_columns_have_the_types_of_the_dictionary(tmp_path: Path, row_type: type[Object]) -> None:
    write(tmp_path, APPS if row_type is AppDetails else ACCOUNTS, row_type)

    found = {name: kind for name, kind, *_ in select(tmp_path, "DESCRIBE SELECT * FROM {rows}")}

    expected = {item.name: column_type(item.type, Dialect.DUCKDB) for item in read_object(row_type).fields}
    assert {name: kind.replace('"', "") for name, kind in found.items()} == {
        name: kind.replace('"', "") for name, kind in (expected | {"other_fields": "VARCHAR"}).items()
    }


def test_accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_BLOCK_BYTES", 10_000)
    monkeypatch.setattr(parquet, "_ROW_GROUP_BYTES", 100_000)
    assert write(tmp_path, ACCOUNTS, ACCOUNT).rows == 2_000
    assert write(tmp_path, ACCOUNTS, ACCOUNT).outcome is Outcome.UNCHANGED

    assert select(tmp_path, "SELECT salesforce_id, name, len(subscriber_orgs) FROM {rows}") == [
        (row["salesforce_id"], row["name"], len(row["subscriber_orgs"])) for row in ACCOUNTS
    ]
    ((total, primary),) = select(
        tmp_path,
        "SELECT sum(score.score), count(*) FILTER (score.is_primary) "
        "FROM (SELECT unnest(health_scores) AS score FROM {rows})",
    )
    scores = [score for row in ACCOUNTS for score in row["health_scores"]]
    assert total == pytest.approx(sum(score["score"] for score in scores))
    assert primary == sum(score["is_primary"] for score in scores)
    assert select(tmp_path, "SELECT o.salesforce_id FROM (SELECT unnest(subscriber_orgs) AS o FROM {rows})") == [
        (org["salesforce_id"],) for row in ACCOUNTS for org in row["subscriber_orgs"]
    ]


def test_apps(tmp_path: Path) -> None:
    assert write(tmp_path, APPS, AppDetails).rows == 300

    assert select(tmp_path, "SELECT ApplicationId, Capabilities, CAST(DiscoveryDate AS VARCHAR) FROM {rows}") == [
        (row["ApplicationId"], row.get("Capabilities"), row.get("DiscoveryDate")) for row in APPS
    ]
    assert select(
        tmp_path, "SELECT sum(Contract.Summary.LicensesPurchased), sum(FiscalSpend.TotalSpend.Amount) FROM {rows}"
    ) == [
        (
            sum(row["Contract"]["Summary"]["LicensesPurchased"] for row in APPS),
            pytest.approx(sum(row["FiscalSpend"]["TotalSpend"]["Amount"] for row in APPS)),
        )
    ]
    by_source = "SELECT map_keys(Activity)[1], sum(map_values(Activity)[1].Summary.ProvisionedLicenses) FROM {rows}"
    expected: Counter[str] = Counter()
    for row in APPS:
        ((source, stats),) = row["Activity"].items()
        expected[source] += stats["Summary"]["ProvisionedLicenses"]
    assert dict(select(tmp_path, f"{by_source} GROUP BY 1")) == expected
    tiers = "SELECT map_keys(Activity['Engagement'].LicenseTier) FROM {rows} WHERE Activity['Engagement'] IS NOT NULL"
    assert [sorted(keys) for (keys,) in select(tmp_path, tiers)] == [
        sorted(row["Activity"]["Engagement"]["LicenseTier"]) for row in APPS if "Engagement" in row["Activity"]
    ]
    values = "SELECT f.FieldType, f.FieldValue FROM (SELECT unnest(CustomFields) AS f FROM {rows})"
    for (kind, found), field in zip(
        select(tmp_path, values), [field for row in APPS for field in row["CustomFields"]], strict=True
    ):
        value = found.pop(kind)
        assert (value.isoformat() if kind == "date" else value) == field["FieldValue"]
        assert set(found.values()) == {None}
    contacts = "SELECT c.Email FROM (SELECT unnest(AppContacts.Legal_Contacts) AS c FROM {rows})"
    assert select(tmp_path, contacts) == [
        (person["Email"],) for row in APPS for person in row["AppContacts"].get("Legal_Contacts", [])
    ]


def test_undocumented_fields_are_in_one_column_by_path(tmp_path: Path) -> None:
    row = json.loads(json.dumps(APPS[1]))
    row |= {"New": {"a": [1, None]}, "AppStatus": "Deprecated"}
    row["Instances"][0]["Region"] = "eu"
    row["CustomFields"][0] |= {"FieldType": "rating", "FieldValue": 5}

    result = write(tmp_path, [APPS[0], row], AppDetails)

    assert {found.path for found in result.drift or ()} == {
        "$.New",
        "$.AppStatus",
        "$.Instances[].Region",
        "$.CustomFields[].FieldType",
    }
    (first,), (second,) = select(tmp_path, "SELECT other_fields FROM {rows}")
    assert first is None
    assert json.loads(second) == {
        "New": {"a": [1, None]},
        "Instances[0].Region": "eu",
        "CustomFields[0].FieldValue": 5,
    }
    assert select(tmp_path, "SELECT AppStatus, CustomFields[1].FieldType FROM {rows}")[1] == ("Deprecated", "rating")


@pytest.mark.parametrize("place", [0, 150, 299])
def test_a_value_of_another_type_is_named_and_nothing_is_written(tmp_path: Path, place: int) -> None:
    rows = json.loads(json.dumps(APPS))
    rows[place]["Contract"]["Summary"]["TermMonths"] = "twelve"

    with pytest.raises(DamagedDownload, match=rf"row {place + 1}: \$\.Contract\.Summary\.TermMonths is not of the"):
        write(tmp_path, rows, AppDetails)

    assert list(tmp_path.iterdir()) == []


def test_fields_that_are_left_out_are_no_columns(tmp_path: Path) -> None:
    write(tmp_path, APPS, AppDetails, exclude_fields=("AppContacts", "Contract.Summary.TermAmount"))

    found = {name: kind for name, kind, *_ in select(tmp_path, "DESCRIBE SELECT * FROM {rows}")}
    assert "AppContacts" not in found
    assert not any("Email" in kind for kind in found.values())
    assert "TermAmount" not in found["Contract"]
    assert "AnnualAmount" in found["Contract"]
    assert select(tmp_path, "SELECT count(other_fields) FROM {rows}") == [(0,)]
