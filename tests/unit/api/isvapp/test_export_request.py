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


@pytest.mark.parametrize(
    ("change", "message"),
    [
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
            "salesforce_account_ids: '0014x000FVCAPX' is no Salesforce id",
        ),
        ({"salesforce_account_ids": ["0014x000FVCAPXFA"]}, "it needs 15 or 18 letters and digits"),
        ({"salesforce_account_ids": ["0014x000FVCAP-F"]}, "is no Salesforce id"),
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
