# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_isvapp.api.schema.fields import read_object
from airflow_provider_isvapp.api.schema.isvapp import TaxonomyItemRow
from airflow_provider_isvapp.emulator import EmulatorConfig, ManualClock
from airflow_provider_isvapp.emulator.data import ExportRequest, ndjson
from tests.unit.emulator.caller import Caller

Start = Callable[..., Caller]
FIELDS = [field.name for field in read_object(TaxonomyItemRow).fields]


def content(caller: Caller, **changes: Any) -> bytes:
    return caller.emulator.export_bytes(caller.export(**changes))


def rows(caller: Caller, **changes: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content(caller, **changes).split(b"\n")[:-1]]


def test_rows_have_the_documented_fields(caller: Caller) -> None:
    made = rows(caller)
    assert len(made) == 200
    assert content(caller).endswith(b"}\n")
    for row in made:
        assert list(row) == FIELDS
        assert (row["type"], row["aggregation"], row["reference_date"]) == ("TAXONOMY_ITEM", "MONTHLY", "2024-02")
        for counter in ("unique_users", "operations"):
            total, external, internal = (row[f"{counter}{part}"] for part in ("", "_external", "_internal"))
            assert int(total) == int(external) + int(internal)
    assert len({(row["salesforce_account_id"], row["taxonomy_item_id"]) for row in made}) == len(made)


def test_accounts_are_those_of_the_accounts_endpoint(caller: Caller) -> None:
    listed = {row["salesforce_id"]: row["name"] for row in caller.get("/api/v1/salesforce_accounts").json()["data"]}
    assert {row["salesforce_account_id"]: row["salesforce_account_name"] for row in rows(caller)} == listed


def test_twelve_months_are_the_twelve_single_months(caller: Caller) -> None:
    months = [f"2023-{month:02d}" for month in range(4, 13)] + ["2024-01", "2024-02", "2024-03"]
    whole = content(caller, timeframe="LATEST_12_COMPLETED_MONTHS")
    assert whole == b"".join(content(caller, timeframe=month) for month in months)
    assert len(set(whole.splitlines())) == 12 * 200


def test_the_same_in_every_run_and_other_data_for_another_seed(start: Start) -> None:
    first = content(start())
    assert content(start()) == first
    assert content(start(seed=2)) != first
    assert content(start(), taxonomy_ids=["taxonomy-2"]) != first


def test_rows_have_the_requested_ids(caller: Caller) -> None:
    for selection, field in (
        ("taxonomy_ids", "taxonomy_id"),
        ("taxonomy_level_ids", "taxonomy_level_id"),
        ("taxonomy_item_ids", "taxonomy_item_id"),
    ):
        made = rows(caller, **{"taxonomy_ids": ..., selection: ["one", "two"]})
        assert {row[field] for row in made} == {"one", "two"}


def test_an_account_filter_leaves_out_the_lines_of_other_accounts(caller: Caller) -> None:
    every = content(caller).splitlines(keepends=True)
    wanted = list(dict.fromkeys(json.loads(line)["salesforce_account_id"] for line in every))[3:5]
    some = content(caller, salesforce_account_ids=[wanted[0], wanted[1][:15], "001000000000000"])
    assert some == b"".join(line for line in every if json.loads(line)["salesforce_account_id"] in wanted)
    assert some.count(b"\n") == 8


def test_rows_contain_text_that_breaks_a_careless_reader(start: Start) -> None:
    text = content(start(rows=20_000))
    assert "Müller".encode() in text
    assert b"M\\u00fcller" in text
    assert "\u2028".encode() in text  # str.splitlines() ends a line here
    assert b'\\"Quoted\\"' in text
    assert b"} Brace {" in text
    assert any(int(json.loads(line)["operations"]) > 2**53 for line in text.split(b"\n")[:-1])


@pytest.mark.parametrize(("accounts", "most"), [(None, 40), (1, 999), (7, 143), (5000, 1)])
def test_the_number_of_rows_per_month_is_exact_for_any_number_of_accounts(
    start: Start, accounts: int | None, most: int
) -> None:
    made = rows(start(rows=999 if accounts else 4000, salesforce_accounts=accounts))
    assert len(made) == (999 if accounts else 4000)
    assert max(Counter(row["salesforce_account_id"] for row in made).values()) == most


def test_a_large_export_compresses_about_twelve_to_one(start: Start, clock: ManualClock) -> None:
    caller = start(rows=50_000)
    export_id = caller.export()
    clock.advance(60)
    record = caller.record(export_id)
    while record["status"] == "PENDING":  # its file is still being written
        record = caller.record(export_id)
    ratio = record["download_size_uncompressed_bytes"] / record["download_size_compressed_bytes"]
    assert 11 < ratio < 14


def test_the_first_rows_need_no_more_accounts_than_theirs() -> None:
    config = EmulatorConfig(rows=40_000_000_000)  # making a billion accounts takes hours
    request = ExportRequest(type="t", aggregation="a", months=("2024-01",), selection="taxonomy_ids", ids=("x",))
    assert next(ndjson(config, request)).endswith(b"}\n")


@pytest.mark.parametrize(
    "options",
    [
        {"rows": -1},
        {"rows": 1001, "salesforce_accounts": 1},
        {"salesforce_accounts": 0},
        {"first_month": "2024-13"},
        {"month_complete_day": 31},
        {"requests_per_second": 0},
        {"gzip_members": 0},
    ],
)
def test_an_invalid_configuration_is_rejected(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(reversed(options))):
        EmulatorConfig(**options)


@pytest.mark.parametrize("row_keys", ["documented", "sorted"])
@pytest.mark.parametrize("row_blanks", [False, True])
@pytest.mark.parametrize("row_order", ["month", "account"])
def test_every_serializer_writes_the_same_rows(start: Start, row_keys: str, row_blanks: bool, row_order: str) -> None:
    a_year = {"timeframe": "LATEST_12_COMPLETED_MONTHS"}
    plain = content(start(rows=50), **a_year)
    made = content(start(rows=50, row_keys=row_keys, row_blanks=row_blanks, row_order=row_order), **a_year)
    expected = [json.loads(line) for line in plain.splitlines()]
    found = [json.loads(line) for line in made.split(b"\n")[:-1]]
    if row_order == "account":
        expected.sort(key=lambda row: row["reference_date"])
        assert [row["reference_date"] for row in found[:2]] == ["2023-04", "2023-05"]
        found.sort(key=lambda row: row["reference_date"])
    assert found == expected
    assert list(found[0]) == (sorted(FIELDS) if row_keys == "sorted" else FIELDS)
    assert (b'": "' in made, b'", "' in made) == (row_blanks, row_blanks)


@pytest.mark.parametrize("final_newline", [False, True])
def test_line_endings(start: Start, final_newline: bool) -> None:
    plain = content(start(rows=50))
    made = content(start(rows=50, line_end="crlf", final_newline=final_newline))
    assert made == plain.replace(b"\n", b"\r\n").removesuffix(b"" if final_newline else b"\r\n")
