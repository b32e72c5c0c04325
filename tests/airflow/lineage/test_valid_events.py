# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The validation of events detects mistakes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
from openlineage.client.serde import Serde

from airflow_provider_isvapp.lineage import ObjectName, PublishedObject, Source, operator_lineage
from tests.airflow.lineage.valid_events import check_event

OBJECT = PublishedObject(
    name=ObjectName(namespace="s3://bucket", name="key", uri="s3://bucket/key"),
    rows=3,
    size=120,
    fields=(("type", "string"),),
)


@pytest.fixture
def event() -> dict[str, Any]:
    """An event as the client sends it."""
    source = Source(namespace="https://api.isvapp.com", name="exports/feature_usage", fields=OBJECT.fields)
    lineage = operator_lineage(source, [OBJECT], export_id="export-1")
    sent = RunEvent(
        eventType=RunState.COMPLETE,
        eventTime="2026-11-21T20:51:18+00:00",
        run=Run(runId="01a1ffe0-a1ad-7f8b-aac1-e8995fcbaf2e", facets=lineage.run_facets),
        job=Job(namespace="tests", name="dag.task"),
        inputs=lineage.inputs,
        outputs=lineage.outputs,
        producer="https://example.com/producer",
    )
    return dict(json.loads(Serde.to_json(sent)))


def test_generated_events_are_valid(event: dict[str, Any]) -> None:
    check_event(event)


BREAKS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "event has no run": lambda event: event.pop("run"),
    "event.eventType is 'DONE'": lambda event: event.update(eventType="DONE"),
    "badly formed hexadecimal": lambda event: event["run"].update(runId="1"),
    "outputs.0. has no namespace": lambda event: event["outputs"][0].pop("namespace"),
    "outputs.0. has .'rows'": lambda event: event["outputs"][0].update(rows=3),
    "outputStatistics.rowCount is '3'": lambda event: event["outputs"][0]["outputFacets"]["outputStatistics"].update(
        rowCount="3"
    ),
    "schema has no _schemaURL": lambda event: event["inputs"][0]["facets"]["schema"].pop("_schemaURL"),
    "externalQuery has no source": lambda event: event["run"]["facets"]["externalQuery"].pop("source"),
}


@pytest.mark.parametrize("complaint", BREAKS)
def test_an_invalid_event_is_detected(event: dict[str, Any], complaint: str) -> None:
    broken = copy.deepcopy(event)
    BREAKS[complaint](broken)

    with pytest.raises((AssertionError, ValueError), match=complaint):
        check_event(broken)
