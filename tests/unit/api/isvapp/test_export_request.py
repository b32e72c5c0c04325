# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_isvapp.api.isvapp.models import ExportRequest
from airflow_provider_isvapp.errors import InvalidArgument

GOOD: dict[str, Any] = {"timeframe": "2024-02", "taxonomy_ids": ["t1", "t2"]}


def test_the_payload_is_the_documented_one():
    request = ExportRequest.checked(**GOOD, salesforce_account_ids=["0014x000FVCAPXF", "0014x000FVCAPXFAY5"])

    assert request.payload() == {
        "type": "TAXONOMY_ITEM",
        "aggregation": "MONTHLY",
        "timeframe": "2024-02",
        "taxonomy_ids": ["t1", "t2"],
        "salesforce_account_ids": ["0014x000FVCAPXF", "0014x000FVCAPXFAY5"],
    }


@pytest.mark.parametrize("timeframe", ["2024-12", "LATEST_COMPLETED_MONTH", "LATEST_12_COMPLETED_MONTHS"])
@pytest.mark.parametrize("selection", ["taxonomy_ids", "taxonomy_level_ids", "taxonomy_item_ids"])
def test_every_documented_form_is_accepted(timeframe, selection):
    request = ExportRequest.checked(timeframe=timeframe, **{selection: ("x",)})

    assert request.payload()[selection] == ["x"]
    assert request.payload()["timeframe"] == timeframe
    assert "salesforce_account_ids" not in request.payload()


@pytest.mark.parametrize("ids", ['["t1", "t2"]', ' ["t1",\n"t2"] ', ("t1", "t2")])
def test_a_list_may_be_json_as_a_template_makes_it(ids):
    assert ExportRequest.checked(timeframe="2024-02", taxonomy_ids=ids).payload()["taxonomy_ids"] == ["t1", "t2"]


def test_further_fields_are_sent_as_they_are():
    request = ExportRequest.checked(**GOOD, extra_request={"include_inactive": True, "filter": {"region": ["EU"]}})

    assert request.is_documented
    assert request.payload() == ExportRequest.checked(**GOOD).payload() | {
        "include_inactive": True,
        "filter": {"region": ["EU"]},
    }


@pytest.mark.parametrize("change", [{"export_type": "USERS"}, {"aggregation": "WEEKLY"}])
def test_with_further_fields_a_type_may_be_new(change):
    request = ExportRequest.checked(**GOOD, **change, extra_request={})

    assert not request.is_documented
    names = {"export_type": "type"}
    assert request.payload() == ExportRequest.checked(**GOOD).payload() | {
        names.get(name, name): value for name, value in change.items()
    }


def test_a_new_type_needs_no_taxonomy():
    request = ExportRequest.checked(timeframe="2024-02", export_type="USERS", extra_request={"user_ids": ["u1"]})

    assert request.payload() == {
        "type": "USERS",
        "aggregation": "MONTHLY",
        "timeframe": "2024-02",
        "user_ids": ["u1"],
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"taxonomy_ids": "['t-1', 't-2']"}, "is not a JSON list. A template renders to text: give a JSON list"),
        ({"taxonomy_ids": "['t-1', 't-2']"}, "render_template_as_native_obj=True"),
        ({"taxonomy_ids": "[1]"}, "element 0 must be a non-empty string, not 1. render_template_as_native_obj turns"),
        (
            {"taxonomy_ids": [8315]},
            "must be a non-empty string, not 8315. render_template_as_native_obj turns",
        ),
        ({"taxonomy_ids": 8315}, "must be a list of ids, not int 8315. render_template_as_native_obj turns an id"),
        ({"taxonomy_ids": "t-1"}, "must be a list of ids, not str 't-1'. A template renders to text"),
        ({"taxonomy_ids": "None"}, "not str 'None'. A template that finds nothing renders to 'None'"),
        ({"salesforce_account_ids": "['0014x000FVCAPXF']"}, "salesforce_account_ids: \"['0014x000FVCAPXF']\" is not"),
        ({"timeframe": "None"}, "A template that finds nothing renders to 'None'"),
        ({"extra_request": [1]}, "extra_request: must be a mapping"),
        ({"extra_request": "{}"}, "extra_request: must be a mapping"),
        ({"extra_request": {1: 2}}, "extra_request: must be a mapping of names"),
        ({"extra_request": {"timeframe": "x"}}, "extra_request: 'timeframe' has its own argument"),
        ({"extra_request": {"taxonomy_item_ids": []}}, "extra_request: 'taxonomy_item_ids' has its own argument"),
        ({"extra_request": {"x": {1, 2}}}, "extra_request: cannot be sent as JSON (TypeError)"),
        ({"extra_request": {"x": float("nan")}}, "extra_request: cannot be sent as JSON (ValueError)"),
        ({"extra_request": {}, "export_type": " "}, "export_type: ' ' is not one of"),
        ({"extra_request": {}, "taxonomy_ids": None}, "Exactly one of"),
        ({"export_type": "USERS"}, "set extra_request as well"),
        ({"timeframe": "2024-13"}, "timeframe: '2024-13' is neither a month"),
        ({"timeframe": "2024-00"}, "timeframe: '2024-00'"),
        ({"timeframe": "2024-2"}, "timeframe: '2024-2'"),
        ({"timeframe": "2024-02-01"}, "timeframe: '2024-02-01'"),
        ({"timeframe": "2024-02\n"}, "timeframe: '2024-02\\n'"),
        ({"timeframe": "٢٠٢٤-02"}, "is neither a month"),
        ({"timeframe": "latest_completed_month"}, "nor one of LATEST_COMPLETED_MONTH, LATEST_12_COMPLETED_MONTHS"),
        ({"timeframe": None}, "timeframe: None"),
        ({"timeframe": ["2024-02"]}, "timeframe: ['2024-02']"),
        (
            {"taxonomy_ids": None},
            "Exactly one of taxonomy_ids, taxonomy_level_ids, taxonomy_item_ids is needed; none was given",
        ),
        ({"taxonomy_item_ids": ["x"]}, "taxonomy_ids and taxonomy_item_ids were given"),
        ({"taxonomy_ids": "c9d7"}, "taxonomy_ids: must be a list of ids, not str 'c9d7'"),
        ({"taxonomy_ids": b"c9d7"}, "taxonomy_ids: must be a list of ids, not bytes"),
        ({"taxonomy_ids": {"a": 1}}, "taxonomy_ids: must be a list of ids, not dict"),
        ({"taxonomy_ids": 5}, "taxonomy_ids: must be a list of ids, not int"),
        ({"taxonomy_ids": []}, "taxonomy_ids: the list is empty"),
        ({"taxonomy_ids": ["x", 5]}, "taxonomy_ids: element 1 must be a non-empty string, not 5"),
        ({"taxonomy_ids": ["x", None]}, "taxonomy_ids: element 1 must be a non-empty string"),
        ({"taxonomy_ids": [""]}, "taxonomy_ids: element 0 must be a non-empty string"),
        ({"taxonomy_ids": ["x "]}, "taxonomy_ids: element 0 has white space around it"),
        ({"taxonomy_ids": ["x", "y", "x"]}, "taxonomy_ids: 'x' is listed twice"),
        ({"salesforce_account_ids": "0014x000FVCAPXF"}, "salesforce_account_ids: must be a list of ids"),
        ({"salesforce_account_ids": []}, "salesforce_account_ids: the list is empty"),
        (
            {"salesforce_account_ids": ["0014x000FVCAPX"]},
            "salesforce_account_ids: '0014x000FVCAPX' is not a Salesforce id",
        ),
        ({"salesforce_account_ids": ["0014x000FVCAPXFA"]}, "it needs 15 or 18 letters and digits"),
        ({"salesforce_account_ids": ["0014x000FVCAP-F"]}, "is not a Salesforce id"),
        ({"export_type": "TAXONOMY"}, "export_type: 'TAXONOMY' is not one of TAXONOMY_ITEM"),
        ({"export_type": ["TAXONOMY_ITEM"]}, "export_type: ['TAXONOMY_ITEM'] is not one of"),
        ({"aggregation": "DAILY"}, "aggregation: 'DAILY' is not one of MONTHLY"),
        ({"aggregation": None}, "aggregation: None is not one of MONTHLY"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_is_sent(change, message):
    with pytest.raises(InvalidArgument) as caught:
        ExportRequest.checked(**(GOOD | change))
    assert message in str(caught.value)
    assert caught.value.permanent
