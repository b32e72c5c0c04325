# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Metrics of real task runs, as a statsd server receives them over UDP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow import __version__ as airflow_version

from airflow_provider_isvapp import metrics
from airflow_provider_isvapp.emulator import Emulator, Fault
from airflow_provider_isvapp.metrics import METRICS, Kind
from tests.airflow.metrics.conftest import MeteredAirflow
from tests.support.statsd_server import Line, StatsdServer, total, values

pytestmark = pytest.mark.timeout(300)
# Only Airflow 3.3 keeps a value over the tries of a task.
REMEMBERS = not airflow_version.startswith("2.")

Run = Callable[..., list[Line]]


@pytest.fixture(scope="session")
def run(airflow: MeteredAirflow, emulator: Emulator, statsd: StatsdServer) -> Run:
    """Run a DAG with faults, check that it counted each request that arrived, and return what was received."""

    def one(dag_id: str, *faults: Fault, state: str = "success") -> list[Line]:
        lines_before, requests_before = len(statsd.received()), len(emulator.requests)
        for fault in faults:
            emulator.inject(fault)
        assert airflow.run(dag_id) == state, airflow.log[-5000:]
        lines = statsd.received()[lines_before:]
        arrived = Counter(f"isvapp.requests.{r.endpoint}.{r.status}" for r in emulator.requests[requests_before:])
        counted = {line.name: total(lines, line.name) for line in lines if line.name.startswith("isvapp.requests.")}
        assert counted == arrived
        assert total(lines, "isvapp.requests") == arrived.total()
        return lines

    return one


def counts(lines: list[Line]) -> dict[str, float]:
    """What was counted, without what depends on how often something was looked at."""
    names = {metric.name for metric in METRICS if metric.kind is Kind.COUNTER} - {"isvapp.requests"}
    return {name: total(lines, name) for name in names if total(lines, name)}


def download_of(export: bytes) -> dict[str, Any]:
    return {
        "isvapp.downloads.rows": export.count(b"\n"),
        "isvapp.downloads.bytes": len(export),
        "isvapp.downloads.compressed_bytes": pytest.approx(len(export) / 8, rel=0.9),
    }


def newest(emulator: Emulator) -> bytes:
    return emulator.export_bytes(list(emulator.exports)[-1])


@pytest.mark.parametrize("waits", ["deferred", "poking"])
@pytest.mark.parametrize("tasks", ["one_task", "three_tasks"])
def test_an_export_counts_once_however_many_tasks_wait_for_it(
    run: Run, emulator: Emulator, tasks: str, waits: str
) -> None:
    lines = run(f"{tasks}_{waits}")

    assert counts(lines) == {
        "isvapp.exports.created": 1,
        "isvapp.exports.completed": 1,
        **download_of(newest(emulator)),
    }
    (wait,) = values(lines, "isvapp.exports.wait")
    assert 1_000 <= wait <= 30_000
    (duration,) = values(lines, "isvapp.downloads.duration")
    (rate,) = values(lines, "isvapp.downloads.rate")
    assert rate == pytest.approx(len(newest(emulator)) / duration * 1000, rel=0.01)
    # One wait for each request, however short.
    assert len(values(lines, "isvapp.limiter.wait")) == total(lines, "isvapp.requests")


def test_the_kinds_are_those_of_the_table(run: Run) -> None:
    letters = {Kind.COUNTER: "c", Kind.TIMER: "ms", Kind.GAUGE: "g"}
    expected = {metric.name: letters[metric.kind] for metric in METRICS}

    received = {line.name: line.kind for line in run("one_task_poking")}

    assert {name: kind for name, kind in received.items() if name in expected} == {
        name: expected[name] for name in received if name in expected
    }
    assert all(kind == "c" for name, kind in received.items() if name not in expected)


def test_accounts_and_apps_count_their_rows(run: Run, emulator: Emulator) -> None:
    lines = run("accounts_and_apps")

    rows = emulator.config.account_count + emulator.config.apps * 4 // 5  # every fifth is inactive
    assert counts(lines).keys() == {"isvapp.downloads.rows", "isvapp.downloads.bytes"}
    assert total(lines, "isvapp.downloads.rows") == rows
    assert len(values(lines, "isvapp.downloads.duration")) == 2
    # One request says nothing of how fast bytes move.
    assert values(lines, "isvapp.downloads.rate") == []
    assert total(lines, "isvapp.requests.salesforce_accounts.200") == 1
    assert total(lines, "isvapp.requests.productiv_apps.200") == 1
    # Productiv has no limit that would be shared.
    assert len(values(lines, "isvapp.limiter.wait")) == total(lines, "isvapp.requests") - 2


@pytest.mark.parametrize(
    ("kind", "metric", "waits"), [("export_errors", "errored", "deferred"), ("export_expires", "expired", "poking")]
)
def test_a_lost_export_counts_once(run: Run, kind: str, metric: str, waits: str) -> None:
    fault = Fault(endpoint="create_export", kind=kind, message="no" if kind == "export_errors" else None)

    three_tasks = run(f"three_tasks_{waits}", fault, state="failed")
    one_task = run(f"one_task_{waits}", fault)

    assert counts(three_tasks) == {"isvapp.exports.created": 1, f"isvapp.exports.{metric}": 1}
    assert (
        counts(one_task).items()
        >= {
            "isvapp.exports.created": 2,
            f"isvapp.exports.{metric}": 1,
            "isvapp.exports.completed": 1,
        }.items()
    )


def test_a_retry_continues_with_its_export_and_counts_it_once(run: Run) -> None:
    # The download's own look at the record, after the wait: the connection allows one attempt.
    lines = run("one_task_deferred", Fault(endpoint="show_export", kind="status", status=503))

    created, reattached = (1, 1) if REMEMBERS else (2, 0)
    assert total(lines, "isvapp.exports.created") == created
    assert total(lines, "isvapp.exports.reattached") == reattached
    assert total(lines, "isvapp.exports.completed") == created
    assert len(values(lines, "isvapp.exports.wait")) == created
    assert total(lines, "isvapp.requests.show_export.503") == 1


def test_a_429_counts(run: Run) -> None:
    lines = run("three_tasks_poking", Fault(endpoint="show_export", kind="status", status=429, retry_after=0))

    assert total(lines, "isvapp.rate_limited") == 1
    assert total(lines, "isvapp.requests.show_export.429") == 1


@pytest.mark.parametrize(
    ("fault", "metric"),
    [
        ({"kind": "flip", "at": 0.5}, "retried"),
        ({"kind": "cut", "at": 0.5}, "resumed"),
        ({"kind": "cut", "at": 0}, "restarted"),
    ],
)
def test_a_troubled_download_counts(run: Run, emulator: Emulator, fault: dict[str, Any], metric: str) -> None:
    lines = run("one_task_poking", Fault(endpoint="download", **fault))

    assert (
        counts(lines).items()
        >= {
            f"isvapp.downloads.{metric}": 1,
            "isvapp.downloads.rows": newest(emulator).count(b"\n"),
            "isvapp.exports.completed": 1,
        }.items()
    )
    assert sum(total(lines, f"isvapp.downloads.{then}") for then in ("retried", "resumed", "restarted")) == 1


def test_every_metric_was_received_and_no_other(statsd: StatsdServer, run: Run) -> None:
    """The last of this file: it looks at all that the others have caused."""
    known = {metric.name for metric in METRICS}

    received = {line.name for line in statsd.received() if line.value}

    # Nothing is wrong with these exports.
    absent = {"isvapp.drifted_fields", "isvapp.restated_months", "isvapp.late_months", "isvapp.checks.failed"}
    if not REMEMBERS:
        absent.add("isvapp.exports.reattached")
    assert {name for name in received if not name.startswith("isvapp.requests.")} == known - absent


CALL = """
import logging
logging.basicConfig()
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
with IsvappHook() as hook:
    print(len(hook.list_exports()))
"""


def call(emulator: Emulator, statsd: StatsdServer, tmp_path: Path, settings: dict[str, str]) -> tuple[str, list[Line]]:
    """Call a hook in an Airflow with such settings; return what it logs and what is received."""
    before = len(statsd.received())
    ended = MeteredAirflow(tmp_path, emulator, statsd.settings | settings).python(CALL)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == str(len(emulator.exports))
    return ended.stdout + ended.stderr, statsd.received()[before:]


@pytest.mark.usefixtures("airflow_database")
class TestSettings:
    def test_metrics_have_tags_if_the_backend_supports_them(
        self, emulator: Emulator, statsd: StatsdServer, tmp_path: Path
    ) -> None:
        _, lines = call(emulator, statsd, tmp_path, {"AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True"})

        names = {line.name for line in lines}
        assert "isvapp.requests,endpoint=list_exports,status=200" in names
        assert "isvapp.requests.list_exports.200" in names

    @pytest.mark.skipif(not REMEMBERS, reason="Airflow 2.11 has no option legacy_names_on")
    def test_long_names_can_be_switched_off(self, emulator: Emulator, statsd: StatsdServer, tmp_path: Path) -> None:
        _, lines = call(emulator, statsd, tmp_path, {"AIRFLOW__METRICS__LEGACY_NAMES_ON": "False"})

        assert {line.name for line in lines} == {"isvapp.requests", "isvapp.limiter.wait"}

    @pytest.mark.parametrize(
        "settings",
        [
            {"AIRFLOW__METRICS__STATSD_HOST": "nowhere.invalid"},
            {"AIRFLOW__METRICS__STATSD_PORT": "1"},
            {"AIRFLOW__METRICS__STATSD_ON": "False"},
        ],
        ids=["unknown host", "nobody listens", "off"],
    )
    def test_without_a_statsd_all_else_works(
        self, emulator: Emulator, statsd: StatsdServer, tmp_path: Path, settings: dict[str, str]
    ) -> None:
        _, lines = call(emulator, statsd, tmp_path, settings)

        assert lines == []


class Broken:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no such luck")


def test_a_client_that_raises_is_logged_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(metrics, "Stats", Broken())
    monkeypatch.setattr(metrics.log, "propagate", True)

    for _ in range(3):
        metrics.record(metrics.ExportCreated())  # type: ignore[attr-defined]

    assert [record.getMessage() for record in caplog.records] == [
        "Metrics are not sent (RuntimeError: no such luck). Check Airflow's section [metrics]."
    ]
