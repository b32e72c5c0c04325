# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The checks of a cluster run find each problem."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.emulator import Emulator, EmulatorConfig
from airflow_provider_isvapp.transfer.staging.base import Provenance
from tests.support.object_stores import moto
from tests.system.cluster.arrivals import Arrival, Vendors, by_endpoint, most_in_a_second
from tests.system.cluster.bucket import ACCOUNTS, APPS, Bucket, compare, usage_key
from tests.system.cluster.report import Report
from tests.system.cluster.run import Kill, QueueWatch, Task, triggerer_has, worker_has
from tests.system.cluster.translation import LocalService
from tests.system.cluster.usage import UsageMeter
from tests.system.cluster.verdict import file_limiters, problems_of

MONTH = "2024-03"


@pytest.mark.parametrize(
    ("moments", "most"),
    [
        ([], 0),
        ([5.0], 1),
        ([0.0, 0.5, 1.0, 1.5], 2),
        ([0.0, 0.5, 0.999, 1.5], 3),
        ([3.0, 0.1, 0.2, 0.3, 9.0], 3),
    ],
)
def test_the_busiest_second(moments: list[float], most: int) -> None:
    assert most_in_a_second(moments) == most


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(EmulatorConfig(export_seconds=0.0, rows=20, apps=3, requests_per_second=None)) as emulator:
        yield emulator


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with moto() as url:
        connection = {
            "login": "any",
            "password": "any",
            "extra": {"endpoint_url": url, "region_name": "us-east-1"},
        }
        bucket = Bucket({"AIRFLOW_CONN_AWS_DEFAULT": json.dumps(connection), "ISVAPP_LAKE": "s3://aws_default@lake"})
        bucket._client.create_bucket(Bucket="lake")
        yield bucket


def put(bucket: Bucket, key: str, content: bytes, export_id: str | None = None) -> None:
    provenance = {"isvapp-provenance": Provenance(export_id=export_id, format="ndjson").to_text()} if export_id else {}
    bucket._client.put_object(Bucket="lake", Key=key, Body=content, Metadata=provenance)


def lines(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def test_every_object_is_compared(emulator: Emulator, bucket: Bucket) -> None:
    import requests

    for month in (MONTH, "2024-04"):
        order = {"type": "TAXONOMY_ITEM", "aggregation": "MONTHLY", "timeframe": month, "taxonomy_ids": ["taxonomy-0"]}
        headers = {"Authorization": f"Bearer {emulator.api_key}"}
        requests.post(f"{emulator.url}/api/v1/exports", json=order, headers=headers, timeout=10).raise_for_status()
    vendors = Vendors(emulator.url)
    exports = vendors.exports()
    first, second = exports
    accounts, apps = vendors.accounts(), vendors.apps(emulator.productiv_client_id, emulator.productiv_client_secret)

    def problems() -> list[str]:
        return compare(bucket, vendors, exports, accounts=accounts, apps=apps)

    one, other = (usage_key(exports[export_id]["request"]) for export_id in exports)
    assert one == f"isvapp/feature_usage/taxonomy-0/month={MONTH}/usage.ndjson"
    assert len(problems()) == 4  # everything is missing
    put(bucket, one, emulator.export_bytes(first), first)
    put(bucket, other, emulator.export_bytes(second), second)
    put(bucket, ACCOUNTS, lines(accounts))
    put(bucket, APPS, lines(apps))
    assert problems() == []

    put(bucket, one, emulator.export_bytes(first)[:-1], first)
    assert problems() == [f"{one} is not what the vendor holds for export {first}"]
    put(bucket, one, emulator.export_bytes(second), second)
    assert problems() == [f"{one} holds export {second}, which was ordered for another object"]
    put(bucket, one, emulator.export_bytes(first))
    assert problems() == [f"{one} does not say which export it holds"]
    put(bucket, one, emulator.export_bytes(first), first)
    put(bucket, APPS, lines(apps[1:]))
    put(bucket, f"{one}.part", b"")
    bucket._client.create_multipart_upload(Bucket="lake", Key=other)
    assert problems() == [
        f"{one}.part should not be there",
        f"an upload to {other} was left unfinished",
        f"{APPS} differs from the vendor's response",
    ]
    counts = by_endpoint(vendors.arrivals())
    assert counts["create_export"] == 2
    assert [arrival.is_isvapp for arrival in vendors.arrivals()].count(False) == counts["productiv_token"] + 1


def report(**changes: Any) -> Report:
    fields: dict[str, Any] = {field.name: None for field in dataclasses.fields(Report)}
    good = {"exports": 10, "slots": 4, "objects": 12, "exports_created": 10, "retries": 0, "refused": 0}
    return Report(**(fields | good | {"most_arrivals": 2} | changes))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, None),
        ({"objects": 11}, "there are 11 objects"),
        ({"most_arrivals": 3}, "3 requests came"),
        ({"refused": 1}, "1 requests got status 429"),
        ({"retries": 1}, "tried again 1 times"),
        ({"exports_created": 11}, "11 exports were created"),
        ({"exports_created": 9}, "9 exports were created"),
    ],
)
def test_a_run_is_judged(changes: dict[str, int], problem: str | None) -> None:
    problems = problems_of(report(**changes), [], [])
    assert [problem in it for it in problems] == [True] if problem else problems == []


def test_kills_are_judged() -> None:
    kill = Kill(host="airflow-worker-1", after=0, at_work=2, away=1, has=worker_has)
    assert problems_of(report(), [], [kill]) == [
        "airflow-worker-1 was not killed: it never had 2 tasks at once when it was time"
    ]
    kill.at, kill.started_again_at = 10.0, 40.0
    assert problems_of(report(), [], [kill]) == ["no task sent a request while airflow-worker-1 was away"]
    arrivals = [Arrival(at=20.0, endpoint="download", status=200, seconds=0.1)]
    assert problems_of(report(retries=4, exports_created=14), arrivals, [kill]) == []
    assert len(problems_of(report(retries=5, exports_created=15), arrivals, [kill])) == 2


def test_a_limiter_in_a_file_is_found(tmp_path: Path) -> None:
    fields = {field.name: None for field in dataclasses.fields(LocalService)}
    service = LocalService(**(fields | {"name": "worker", "environment": {"TMPDIR": str(tmp_path)}}))
    assert file_limiters([service]) == []
    (tmp_path / "airflow-provider-isvapp-0").mkdir()
    assert file_limiters([service]) == ["worker used a limiter in a file"]


def test_who_has_which_tasks() -> None:
    running, waiting = Task(state="running", host="w1", tries=1), Task(state="deferred", host="w1", tries=1)
    assert worker_has("w1", running)
    assert not worker_has("w2", running)
    assert not worker_has("w1", waiting)
    assert triggerer_has("t", waiting)
    assert not triggerer_has("t", running)


def test_a_killed_task_has_continued_when_it_runs_again_or_is_done() -> None:
    key = ("export", 4)
    before = Task(state="running", host="w1", tries=1)
    kill = Kill(host="w1", after=0, at_work=1, away=1, has=worker_has, at=100.0, had={key: before})
    for moment, state, tries in ((130, "running", 1), (160, "up_for_retry", 1), (170, "queued", 2)):
        kill.notice({key: Task(state=state, host="w1", tries=tries)}, moment)
        assert kill.went_on == {}
    kill.notice({key: Task(state="running", host="w2", tries=2)}, 175.0)
    kill.notice({key: Task(state="success", host="w2", tries=2)}, 190.0)
    assert kill.went_on == {key: 75.0}


def test_the_others_go_on_while_a_host_is_away() -> None:
    kill = Kill(host="w1", after=0, at_work=1, away=1, has=worker_has, at=100.0, started_again_at=130.0)
    came = [(99.9, "download"), (100.5, "list_exports"), (101.0, "productiv_apps"), (129.0, "token"), (130.0, "token")]
    arrivals = [Arrival(at=at, endpoint=endpoint, status=200, seconds=0.1) for at, endpoint in came]
    assert kill.meanwhile(arrivals) == 1
    assert kill.meanwhile(arrivals[:3]) == 0


def test_a_task_that_is_queued_twice_is_not_queued_for_long() -> None:
    watch = QueueWatch()
    for moment, state in enumerate(["queued", "queued", "running", "queued", "queued", "queued"]):
        watch.notice({("export", 0): Task(state=state, host="", tries=1)}, float(moment))
    assert watch.longest == 2.0


def test_usage_counts_children_that_have_ended() -> None:
    import subprocess
    import sys

    burn = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])\nprint(flush=True)\ninput()"
    process = subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        with UsageMeter(lambda: {process.pid: "host"}) as meter:
            assert process.stdout is not None
            process.stdout.readline()
            meter.ending("host")
            usage = meter.usages()["host"]
    finally:
        process.communicate(b"\n")
    assert 0.5 <= usage.cpu_seconds < 3.0
    assert usage.peak_mib > 1
