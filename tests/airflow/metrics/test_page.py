# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The page's table is the code's, and so are the names of the endpoints."""

from __future__ import annotations

import re
from typing import Any

import pytest

from airflow_provider_isvapp import events, metrics
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


class CountingStats:
    """Counts what would be sent: each call is one packet."""

    def __init__(self) -> None:
        self.packets = 0

    def incr(self, *arguments: Any, **options: Any) -> None:
        self.packets += 1

    timing = gauge = incr


def test_the_packets_that_each_event_sends_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    request = [events.PermitAcquired(seconds=0.5), events.RequestSent(endpoint="download", status=200)]
    download = events.DownloadFinished(rows=1, bytes=1, compressed_bytes=1, seconds=1.0)
    stats = CountingStats()
    monkeypatch.setattr(metrics, "Stats", stats)

    def sent(*seen: events.Event) -> str:
        before = stats.packets
        for event in seen:
            metrics.record(event)
        return str(stats.packets - before)

    said = re.search(r"A request sends (\d+) .*creation of an export (\d+) .*download of an export (\d+) ", PAGE)

    assert said is not None
    assert list(said.groups()) == [sent(*request), sent(events.ExportCreated()), sent(download)]
