# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The requirements of a run, besides its objects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.system.cluster.arrivals import Arrival
from tests.system.cluster.report import Report
from tests.system.cluster.run import Kill
from tests.system.cluster.translation import LocalService

KILLED_WORKER, TRIGGERER = "airflow-worker-1", "airflow-triggerer"
ALLOWED = 2


def problems_of(report: Report, arrivals: Sequence[Arrival], kills: Sequence[Kill]) -> list[str]:
    """Return the problems of a finished run."""
    problems = []
    if report.objects != report.exports + 2:
        problems.append(f"there are {report.objects} objects for {report.exports} exports, accounts and apps")
    if report.most_arrivals > ALLOWED:
        problems.append(f"{report.most_arrivals} requests came to ISVapp within a second")
    if report.refused:
        problems.append(f"{report.refused} requests got status 429")
    # A killed worker costs a try of each of its tasks, and the export of one whose id Airflow had not stored yet.
    spare = sum(report.slots for kill in kills if kill.host == KILLED_WORKER)
    if report.retries > spare:
        problems.append(f"tasks were tried again {report.retries} times; the killed worker had {spare} at most")
    if not report.exports <= report.exports_created <= report.exports + spare:
        problems.append(f"{report.exports_created} exports were created for {report.exports}; {spare} more may be")
    for kill in kills:
        if kill.at is None:
            problems.append(f"{kill.host} was not killed: it never had {kill.at_work} tasks at once when it was time")
        elif kill.host == KILLED_WORKER and not kill.meanwhile(arrivals):
            problems.append(f"no task sent a request while {kill.host} was away")
    return problems


def file_limiters(services: Iterable[LocalService]) -> list[str]:
    """Return a problem for each host that kept a limiter in a local file."""
    folders = {service.name: Path(service.environment["TMPDIR"]) for service in services}
    return [
        f"{name} used a limiter in a file"
        for name, folder in folders.items()
        if any(folder.glob("airflow-provider-isvapp-*"))
    ]
