# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The page's table is the code's, and so are the names of the endpoints."""

from __future__ import annotations

import re

from airflow_provider_isvapp.emulator.http import Endpoint
from airflow_provider_isvapp.metrics import METRICS, NO_RESPONSE
from tests.support import ROOT

PAGE = (ROOT / "docs/metrics.md").read_text()


def test_the_table_lists_every_metric_with_its_kind_and_no_other() -> None:
    rows = re.findall(r"^\| (`isvapp\..*?`) \| (\w+) \| \S.* \|$", PAGE, re.MULTILINE)

    assert [(tuple(re.findall(r"`([^`]+)`", names)), kind) for names, kind in rows] == [
        (metric.names, metric.kind) for metric in METRICS
    ]


def test_the_endpoints_are_listed() -> None:
    (paragraph,) = re.findall(r"^\*\*Endpoints\*\*.*?\n\n", PAGE, re.MULTILINE | re.DOTALL)

    assert set(re.findall(r"`(\w+)`", paragraph)) == {*Endpoint} - {Endpoint.UNKNOWN} | {NO_RESPONSE}
