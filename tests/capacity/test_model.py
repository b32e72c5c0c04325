# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The laws that a simulated sync must obey."""

from __future__ import annotations

import ast
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from airflow_provider_isvapp.triggers.export_wait import interval_after
from benchmarks import capacity_model
from benchmarks.capacity_model import EARLIEST_EVENT, Outcome, simulate
from benchmarks.capacity_plan import Auth, Plan, Tasks
from tests.support import ROOT

BARE: dict[str, Any] = {"accounts": 0, "apps": 0}


def run(**options: Any) -> Outcome:
    return simulate(Plan(**options))


@pytest.mark.parametrize("latency", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("tasks", list(Tasks))
@pytest.mark.parametrize("triggerers", [1, 3])
def test_no_second_sees_more_requests_than_the_limit(latency: float, tasks: Tasks, triggerers: int) -> None:
    outcome = run(exports=40, latency=latency, tasks=tasks, triggerers=triggerers, export_seconds=(5.0, 60.0))

    arrivals = sorted(outcome.arrivals)
    assert len(arrivals) == outcome.requests.total()
    assert min(later - earlier for earlier, later in zip(arrivals, arrivals[2:], strict=False)) >= 1.0 - 1e-9


@pytest.mark.parametrize("exports", [1, 10, 60])
@pytest.mark.parametrize("tasks", list(Tasks))
def test_a_sync_is_never_faster_than_its_requests(exports: int, tasks: Tasks) -> None:
    outcome = run(exports=exports, tasks=tasks, start_seconds=0.0, hop_seconds=0.0, export_seconds=(0.0, 0.0))

    # The first two may leave at once.
    assert outcome.seconds >= (outcome.requests.total() - 2) / 2


def test_with_nothing_else_in_the_way_the_limit_is_used_fully() -> None:
    latency = 0.1
    outcome = run(exports=100, start_seconds=0.0, hop_seconds=0.0, export_seconds=(0.0, 0.0), latency=latency)

    used = outcome.requests.total() / outcome.seconds / (2 / (1 + latency))
    assert 0.95 < used < 1.0 + 1e-9
    assert outcome.utilisation["requests"] == pytest.approx(used, rel=0.01)


@pytest.mark.parametrize("tasks", list(Tasks))
def test_more_exports_take_longer(tasks: Tasks) -> None:
    outcomes = [run(exports=exports, tasks=tasks, export_seconds=(60.0, 60.0)) for exports in (0, 1, 5, 20, 60, 150)]

    for fewer, more in pairwise(outcomes):
        assert fewer.seconds < more.seconds
        assert fewer.requests.total() < more.requests.total()


@pytest.mark.parametrize(
    "better", [{"workers": 4}, {"cores": 4.0}, {"requests_per_second": 4.0}, {"latency": 0.01}, {"auth": Auth.API_KEY}]
)
def test_more_of_anything_is_never_slower(better: dict[str, Any]) -> None:
    plan = Plan(exports=60, workers=1, slots=4, cores=1.0, export_seconds=(60.0, 60.0))

    # Two per cent for what chance does to the order of things.
    assert simulate(replace(plan, **better)).seconds <= simulate(plan).seconds * 1.02


def looks_until(ready: float, plan: Plan) -> tuple[int, float]:
    """How many looks the package takes at an export that is ready after so many seconds, and when the last one is."""
    looks, waited = 0, 0.0
    while waited < ready:
        waited += interval_after(waited, poll_interval=plan.poll_interval)
        looks += 1
    return looks, waited


def test_one_export_takes_the_sum_of_its_steps() -> None:
    plan = Plan(
        **BARE, exports=1, export_seconds=(100.0, 100.0), start_seconds=2.0, hop_seconds=1.0, latency=0.0,
        megabytes=30.0, task_bandwidth=10.0,
    )  # fmt: skip
    outcome = simulate(plan)

    # The wait begins when the triggerer has it: a hop after the creation.
    looks, waited = looks_until(100.0 - 1.0, plan)
    # To the first task, to the triggerer, to the second task, and to the end of the run.
    hops, starts, download = 4 * 1.0, 2 * 2.0, 3.0
    # Two requests go out at once; the third in a row, the download after token and show, waits for a second.
    assert outcome.seconds == pytest.approx(hops + starts + waited + 1.0 + download)
    assert outcome.requests["list_exports"] == looks


def test_cold_workers_and_a_first_task_come_before_the_exports() -> None:
    plan = Plan(**BARE, exports=1, export_seconds=(60.0, 60.0), start_seconds=2.0, hop_seconds=1.0, latency=0.0)

    later = simulate(replace(plan, cold_seconds=20.0, first_tasks=1)).seconds - simulate(plan).seconds

    assert later == pytest.approx(20.0 + 1.0 + 2.0)


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        # A token for each process: the task, the task after the deferral, the triggerer.
        (Tasks.ONE, {"token": 3, "create_export": 1, "show_export": 1, "download": 1}),
        (Tasks.THREE, {"token": 4, "create_export": 1, "show_export": 2, "download": 1}),
    ],
)
def test_what_one_export_asks_for(tasks: Tasks, expected: dict[str, int]) -> None:
    requests = run(exports=1, **BARE, tasks=tasks).requests

    lists = requests.pop("list_exports")
    assert requests == expected
    assert lists > 3


def test_an_api_key_saves_the_tokens() -> None:
    plan = Plan(exports=10)
    requests = simulate(replace(plan, auth=Auth.API_KEY)).requests

    assert "token" not in requests
    assert requests["salesforce_accounts"] == 1
    assert simulate(plan).requests["token"] >= 2 * plan.exports + 1


def test_a_task_that_waits_itself_looks_as_often_as_the_package_says() -> None:
    plan = Plan(exports=1, **BARE, tasks=Tasks.WAITING, export_seconds=(200.0, 200.0), latency=0.0)

    looks, _ = looks_until(200.0, plan)

    # One more show comes with the download.
    assert simulate(plan).requests["show_export"] == looks + 1


def test_a_poll_answers_all_waits_of_a_triggerer() -> None:
    plan = Plan(exports=30, **BARE, export_seconds=(120.0, 120.0))
    one, three = simulate(plan).requests["list_exports"], simulate(replace(plan, triggerers=3)).requests["list_exports"]

    assert one < 2 * plan.exports
    assert 1.5 * one < three


def test_equal_seeds_give_equal_syncs() -> None:
    plan = Plan(exports=20)

    assert simulate(plan) == simulate(plan)
    assert simulate(plan).seconds != simulate(replace(plan, seed=2)).seconds


def test_three_tasks_for_very_many_exports_let_files_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    # With the vendor's hour it takes some 1,600 exports.
    monkeypatch.setattr(capacity_model, "FILE_LIFE", 300.0)
    plan = Plan(exports=200, tasks=Tasks.THREE, export_seconds=(30.0, 60.0))

    assert simulate(plan).expired > 50
    assert simulate(replace(plan, tasks=Tasks.ONE)).expired == 0


def test_slots_that_wait_in_their_worker_are_full_and_deferred_ones_are_not() -> None:
    plan = Plan(exports=40, workers=1, slots=4, export_seconds=(120.0, 120.0))

    waiting, deferred = simulate(replace(plan, tasks=Tasks.WAITING)), simulate(plan)

    assert waiting.utilisation["slots"] > 0.95
    assert waiting.seconds > 10 * 120
    assert deferred.seconds < waiting.seconds / 2


def test_an_empty_sync_takes_no_time() -> None:
    assert run(exports=0, **BARE).seconds == 0.0


def test_the_earliest_event_is_that_of_the_trigger() -> None:
    trigger = ast.parse((ROOT / "airflow_provider_isvapp" / "triggers" / "isvapp.py").read_text())
    (constant,) = [
        statement.value.value
        for statement in trigger.body
        if isinstance(statement, ast.Assign)
        and ast.unparse(statement.targets[0]) == "EARLIEST_EVENT"
        and isinstance(statement.value, ast.Constant)
    ]
    assert constant == EARLIEST_EVENT
