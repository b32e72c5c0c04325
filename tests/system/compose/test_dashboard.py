# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The Grafana dashboard can be imported, and queries metrics that the code and the mapping provide."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from airflow_provider_isvapp.metrics import METRICS
from tests.support import ROOT
from tests.system.compose.statsd_mapping import MAPPINGS, Exposition, every_line

DASHBOARD = ROOT / "docker/grafana/dashboards/isvapp.json"
PAGE = ROOT / "docs/metrics.md"
# Of a query: names of series, which all begin alike, and the labels that it uses.
SERIES = re.compile(r"\bairflow_isvapp_\w+")
GROUPED = re.compile(r"by \(([\w, ]+)\)")
SELECTED = re.compile(r"\{(\w+)[=!]")


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return loaded


@pytest.fixture(scope="module")
def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


@pytest.fixture(scope="module")
def exposed() -> Exposition:
    exposition = Exposition()
    exposition.take(every_line())
    return exposition


def queries(panels: list[dict[str, Any]]) -> list[str]:
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_it_has_what_an_import_needs(dashboard: dict[str, Any]) -> None:
    # An id belongs to the Grafana that gave it; the uid makes a second import an update.
    assert dashboard["id"] is None
    assert re.fullmatch(r"[\w-]{1,40}", dashboard["uid"])
    assert dashboard["title"]
    assert dashboard["schemaVersion"] >= 36
    assert set(dashboard["time"]) == {"from", "to"}
    (source,) = dashboard["templating"]["list"]
    assert (source["type"], source["query"]) == ("datasource", "prometheus")


def test_panels_do_not_overlap_and_use_the_chosen_data_source(dashboard: dict[str, Any]) -> None:
    (source,) = dashboard["templating"]["list"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24, panel["title"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["title"]
        assert panel["type"] in ("stat", "timeseries")
        assert panel["fieldConfig"]["defaults"]["unit"]
        for item in (panel, *panel["targets"]):
            assert item["datasource"] == {"type": "prometheus", "uid": f"${{{source['name']}}}"}, panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_every_query_uses_series_that_there_are(panels: list[dict[str, Any]], exposed: Exposition) -> None:
    for query in queries(panels):
        names = set(SERIES.findall(query))
        assert names, query
        assert names <= exposed.series, query


def test_every_label_is_one_of_the_series(panels: list[dict[str, Any]], exposed: Exposition) -> None:
    labels = dict(exposed.labelled)
    used = 0
    for query in queries(panels):
        groups = [name.strip() for match in GROUPED.findall(query) for name in match.split(",")]
        for name in SERIES.findall(query):
            assert {*groups, *SELECTED.findall(query)} <= labels[name], query
        used += len(groups)
    assert used >= 3
    for panel in panels:
        for target in panel["targets"]:
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert shown <= {name.strip() for match in GROUPED.findall(target["expr"]) for name in match.split(",")}


def test_the_page_names_series_that_there_are(exposed: Exposition) -> None:
    named = set(SERIES.findall(PAGE.read_text()))

    assert len(named) >= 8
    histograms = {name.removesuffix("_bucket") for name in exposed.series if name.endswith("_bucket")}
    assert named <= exposed.series | histograms


def test_every_metric_is_shown(panels: list[dict[str, Any]], exposed: Exposition) -> None:
    shown = {name for query in queries(panels) for name in SERIES.findall(query)}
    for metric in METRICS:
        stem = f"airflow_{metric.name.replace('.', '_')}"
        assert any(name == stem or name.startswith(f"{stem}_seconds") for name in shown), metric.name


def test_every_mapping_is_of_a_metric_and_all_timers_are_mapped(exposed: Exposition) -> None:
    mapped = {mapping["match"] for mapping in yaml.safe_load(MAPPINGS.read_text())["mappings"]}
    known = {f"airflow.{re.sub('<[a-z]+>', '*', name)}" for metric in METRICS for name in metric.names}

    assert mapped <= known
    assert {f"airflow.{metric.name}" for metric in METRICS if metric.kind == "timer"} <= mapped
