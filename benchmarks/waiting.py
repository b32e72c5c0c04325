# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The cost of many deferred waits in a triggerer, with one poll for all and with one for each: ``make bench-waiting``.

The emulator runs in this process. For each way a new process starts all waits in one event loop, as a triggerer does:

- ``shared``: this provider's triggers, within two requests per second.
- ``each``: every wait polls its own export from a thread, within the same two requests per second.
- ``each, no limit``: the same without a limit. The emulator accepts that; the vendor would respond with 429.

Exports finish one after the other. The delay is the time from the vendor's completion to the trigger's event. A
measurement ends when its time is up. Exits with status 1 if the shared poll misses its goals.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WAYS = ("shared", "each", "each, no limit")
BEAT = 0.01


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One measurement.

    :param spread: seconds over which the exports finish.
    :param first: seconds from the start of the waits until the first export finishes.
    :param seconds: when to stop, even if exports are still pending.
    """

    way: str
    waits: int
    poll_interval: float
    spread: float
    first: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The measuring process's own figures."""

    events: dict[str, float]
    cpu_seconds: float
    wall_seconds: float
    longest_stall: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--waits", type=int, default=1000)
    parser.add_argument("--poll-interval", type=float, default=10.0)
    parser.add_argument("--spread", type=float, default=30.0, help="seconds over which the exports finish")
    parser.add_argument("--ways", default="/".join(WAYS), help="separated by slashes")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        return measure(json.loads(arguments.measure))
    print(
        f"{arguments.waits} waits, poll interval {arguments.poll_interval:g} s, exports finish over "
        f"{arguments.spread:g} s\n"
    )
    print(
        f"{'way':16}{'finished':>9}{'requests':>9}{'a round':>9}{'CPU s/min':>11}{'stall ms':>10}"
        f"{'delay s: median':>17}{'worst':>8}"
    )
    good = True
    for way in arguments.ways.split("/"):
        plan = Plan(
            way=way,
            waits=arguments.waits,
            poll_interval=arguments.poll_interval,
            spread=arguments.spread,
            first=15.0,
            seconds=15.0 + arguments.spread + 2 * arguments.poll_interval,
        )
        good = compare(plan) and good
    return 0 if good else 1


def compare(plan: Plan) -> bool:
    """Run one measurement against a new emulator, print its line, and return whether a shared poll meets its goals."""
    from airflow_provider_isvapp.emulator import Emulator, EmulatorConfig

    # Creating 1,000 exports takes a few seconds, during which the first ones must not finish.
    lead = plan.waits / 100 + plan.first
    with Emulator(EmulatorConfig(requests_per_second=None, export_seconds=lead + plan.spread, rows=50)) as emulator:
        begun = time.monotonic()
        created = create_exports(emulator, plan)
        starts_at = begun + lead - plan.first + plan.spread
        before = sum(emulator.request_counts().values())
        measured = measured_in_a_new_process(emulator, plan, created, starts_at)
        counts = emulator.request_counts()
        completed = {
            export_id: datetime.fromisoformat(record["created_at"]).timestamp() + lead + plan.spread
            for export_id, record in emulator.exports.items()
        }
    requests = sum(counts.values()) - before
    per_round = requests / counts["list_exports"] if "list_exports" in counts else float(plan.waits)
    delays = sorted(at - completed[export_id] for export_id, at in measured.events.items())
    median, worst = (statistics.median(delays), delays[-1]) if delays else (float("nan"), float("nan"))
    cpu = measured.cpu_seconds * 60 / measured.wall_seconds
    print(
        f"{plan.way:16}{len(delays):9}{requests:9}{per_round:9.1f}{cpu:11.2f}{measured.longest_stall * 1000:10.0f}"
        f"{median:17.1f}{worst:8.1f}",
        flush=True,
    )
    if plan.way != "shared":
        return True
    return (
        len(delays) == plan.waits and per_round == 1 and measured.longest_stall < 0.1 and median <= plan.poll_interval
    )


def create_exports(emulator: Any, plan: Plan) -> list[str]:
    """Create the exports at an even pace, so that they finish at that pace."""
    from airflow_provider_isvapp.api.isvapp.client import IsvappClient
    from airflow_provider_isvapp.api.isvapp.models import ExportRequest
    from airflow_provider_isvapp.api.settings import IsvappSettings
    from airflow_provider_isvapp.ratelimit import open_limiter

    settings = IsvappSettings.from_connection(login=None, password=emulator.api_key, host=emulator.url)
    request = ExportRequest.checked(timeframe="LATEST_COMPLETED_MONTH", taxonomy_ids=["taxonomy"])
    begun = time.monotonic()
    created = []
    with IsvappClient(settings, limiter=open_limiter("memory://", key="setup", requests_per_second=1000)) as client:
        for number in range(plan.waits):
            created.append(client.create_export(request).id)
            time.sleep(max(begun + (number + 1) * plan.spread / plan.waits - time.monotonic(), 0))
    return created


def measured_in_a_new_process(emulator: Any, plan: Plan, created: list[str], starts_at: float) -> Measured:
    connection = {
        "conn_type": "isvapp",
        "host": emulator.url,
        "password": emulator.api_key,
        "extra": {
            "requests_per_second": 1000 if "no limit" in plan.way else 2,
            "rate_limit_storage": "memory://",
        },
    }
    with tempfile.TemporaryDirectory(prefix="isvapp-bench-") as home:
        result = Path(home) / "result.json"
        work = {"plan": asdict(plan), "exports": created, "result": str(result), "starts_at": starts_at}
        subprocess.run(
            [sys.executable, __file__, "--measure", json.dumps(work)],
            env={
                **os.environ,
                "AIRFLOW_HOME": home,
                "PYTHONPATH": str(ROOT),
                "AIRFLOW_CONN_ISVAPP_DEFAULT": json.dumps(connection),
            },
            check=True,
            # The triggers' log lines are formatted as in a triggerer, and then dropped.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return Measured(**json.loads(result.read_text()))


def measure(work: dict[str, Any]) -> int:
    """Wait for all exports in one event loop, and record the measurements."""
    # A triggerer loads all of this, at most once. It also makes the heap, which the garbage collector walks, as large
    # as a triggerer's.
    import airflow.jobs.triggerer_job_runner  # noqa: F401

    import airflow_provider_isvapp.ratelimit.storage
    import airflow_provider_isvapp.triggers.isvapp  # noqa: F401

    plan = Plan(**work["plan"])
    start = shared_poll if plan.way == "shared" else own_poll
    measured = asyncio.run(wait_for_all(plan, work["exports"], start, work["starts_at"]))
    Path(work["result"]).write_text(json.dumps(asdict(measured)))
    return 0


async def wait_for_all(plan: Plan, export_ids: list[str], start: Any, starts_at: float) -> Measured:
    events: dict[str, float] = {}
    stalls = [0.0]

    async def one(export_id: str) -> None:
        async for _ in start(export_id, plan):
            events[export_id] = time.time()

    async def heart() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(BEAT)
            stalls.append(time.monotonic() - before - BEAT)

    await asyncio.sleep(max(starts_at - time.monotonic(), 0))
    usage, begun = cpu_seconds(), time.monotonic()
    beating = asyncio.ensure_future(heart())
    waits = []
    for export_id in export_ids:
        waits.append(asyncio.ensure_future(one(export_id)))
        await asyncio.sleep(0)  # as the triggerer does between the triggers that it starts
    await asyncio.wait(waits, timeout=plan.seconds)
    spent, wall = cpu_seconds() - usage, time.monotonic() - begun
    for task in (beating, *waits):
        task.cancel()
    return Measured(events=events, cpu_seconds=spent, wall_seconds=wall, longest_stall=max(stalls))


async def shared_poll(export_id: str, plan: Plan) -> AsyncIterator[None]:
    """Wait with this provider's trigger."""
    from airflow_provider_isvapp.triggers.isvapp import IsvappExportTrigger

    trigger = IsvappExportTrigger(
        export_id=export_id,
        isvapp_conn_id="isvapp_default",
        deadline=time.time() + 3600,
        poll_interval=plan.poll_interval,
        known_since=time.time(),
    )
    async for _ in trigger.run():
        yield


async def own_poll(export_id: str, plan: Plan) -> AsyncIterator[None]:
    """Wait as a trigger with a separate poll does."""
    from datetime import UTC

    from airflow_provider_isvapp.api.isvapp.export_state import is_ready_or_raise
    from airflow_provider_isvapp.hooks.isvapp import IsvappHook

    def look() -> bool:
        with IsvappHook() as hook:
            return is_ready_or_raise(hook.get_conn().get_export(export_id), now=datetime.now(UTC))

    while not await asyncio.to_thread(look):  # noqa: ASYNC110 (this is what is measured)
        await asyncio.sleep(plan.poll_interval)
    yield


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    # Daemon threads and pools that still wait for the limiter must not hold up the end.
    status = main()
    sys.stdout.flush()
    os._exit(status)
