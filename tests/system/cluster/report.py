# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The figures of a run, as JSON for programs and as tables for people."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.system.cluster.arrivals import Arrival
from tests.system.cluster.run import Kill
from tests.system.cluster.usage import Usage


@dataclass(frozen=True, kw_only=True)
class Report:
    """All measurements; times in seconds.

    :param response_seconds: the mean time from the arrival of a request to its response.
    :param slots: tasks that a worker runs at once.
    :param start_seconds: until the cluster was up.
    :param wall_seconds: from the start of the DAG run to its end.
    :param requests: the requests of tasks and triggerer by endpoint.
    :param most_arrivals: ISVapp requests in the busiest 1,000 ms.
    :param refused: ISVapp requests that got status 429.
    :param retries: the number of retries of tasks.
    :param longest_queued: the longest time that a task was queued in one go.
    """

    exports: int
    rows_per_month: int
    export_seconds: float
    requests_per_second: float
    response_seconds: float
    workers: int
    slots: int
    object_store: str
    versions: dict[str, str]
    start_seconds: float
    wall_seconds: float
    requests: dict[str, int]
    most_arrivals: int
    refused: int
    exports_created: int
    objects: int
    bytes: int
    retries: int
    longest_queued: float
    kills: list[dict[str, Any]]
    processes: dict[str, dict[str, float]]

    def as_json(self) -> dict[str, Any]:
        """Return the JSON of the report, with the number of processors."""
        return asdict(self) | {"cores": len(os.sched_getaffinity(0))}

    def lines(self) -> list[str]:
        """Return the report as tables."""
        isvapp = sum(count for endpoint, count in self.requests.items() if not endpoint.startswith("productiv"))
        rate = isvapp / self.wall_seconds
        lines = [
            f"{self.exports} exports, {self.exports_created} created",
            f"{self.objects} objects, {self.bytes:,} bytes in a {self.object_store}",
            f"{self.wall_seconds:.0f} s for the run, after {self.start_seconds:.0f} s to start the cluster",
            f"{isvapp} requests to ISVapp, {rate:.2f} per second; at most {self.most_arrivals} in any 1,000 ms, "
            f"{self.refused} refused with 429",
            "",
            f"{'endpoint':22}{'requests':>10}",
            *(f"{endpoint:22}{count:>10}" for endpoint, count in self.requests.items()),
            "",
            f"{'processes of':24}{'CPU s':>8}{'peak MiB':>10}{'largest MiB':>13}{'at most':>9}",
        ]
        for name, usage in self.processes.items():
            lines.append(
                f"{name:24}{usage['cpu_seconds']:8.1f}{usage['peak_mib']:10.0f}{usage['peak_process_mib']:13.0f}"
                f"{usage['peak_processes']:9.0f}"
            )
        for kill in self.kills:
            lines += [
                "",
                f"SIGKILL for {kill['host']} after {kill['at']:.0f} s, away for {kill['away']:.0f} s: "
                f"tasks sent {kill['requests_meanwhile']} requests meanwhile; its {kill['tasks']} tasks resumed after "
                f"{kill['first_went_on']:.0f} to {kill['last_went_on']:.0f} s",
            ]
        lines.append(f"\n{self.retries} retries; the longest that a task was queued: {self.longest_queued:.0f} s")
        return lines


def kill_figures(kill: Kill, arrivals: Sequence[Arrival], *, began: float) -> dict[str, Any]:
    """Sum up a kill."""
    assert kill.at is not None
    return {
        "host": kill.host,
        "at": round(kill.at - began, 1),
        "away": kill.away,
        "tasks": len(kill.had),
        "requests_meanwhile": kill.meanwhile(arrivals),
        "first_went_on": round(min(kill.went_on.values(), default=0.0), 1),
        "last_went_on": round(max(kill.went_on.values(), default=0.0), 1),
    }


def usage_figures(usages: Mapping[str, Usage]) -> dict[str, dict[str, float]]:
    """Round a measurement."""
    return {name: {key: round(value, 1) for key, value in asdict(usage).items()} for name, usage in usages.items()}
