# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A measured run beside what the model says of it.

The file is the report of ``make cluster-test``. Its ``plan`` says what the run was made of: workers, slots, the
emulator's settings. Nothing is fitted to what came of it; what a step costs is said on the command line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.capacity_model import Endpoint, simulate
from benchmarks.capacity_plan import Plan
from benchmarks.capacity_report import table


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A real run.

    :param plan: options of the model that the run was made with.
    :param kills: how many processes were killed on the way, of which the model knows nothing.
    """

    exports: int
    seconds: float
    requests: Mapping[str, int]
    plan: Mapping[str, Any]
    kills: int


def read_measured(path: Path) -> Measured:
    """Read a report.

    :raises ValueError: says what is missing or wrong.
    """
    try:
        record = json.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise ValueError(f"{path} is not JSON") from None
    match record:
        case {"exports": int(exports), "wall_seconds": int() | float() as seconds, "requests": dict(requests)}:
            pass
        case _:
            raise ValueError(f"{path} is not a report of make cluster-test: no exports, wall_seconds and requests")
    plan = dict(record.get("plan", {}))
    if unknown := set(plan) - set(Plan.__dataclass_fields__):
        raise ValueError(f"{path}: the model has no option {', '.join(sorted(unknown))}")
    if "export_seconds" in plan:
        plan["export_seconds"] = tuple(plan["export_seconds"])
    return Measured(
        exports=exports, seconds=float(seconds), requests=requests, plan=plan, kills=len(record.get("kills", []))
    )


def comparison(measured: Measured, options: Mapping[str, Any]) -> str:
    """Put the prediction beside the measurement.

    :param options: of the model; they go before those of the report.
    """
    outcome = simulate(Plan(exports=measured.exports, **{**measured.plan, **options}))
    known = {name: count for name, count in measured.requests.items() if name in set(Endpoint)}
    rows = [_row("wall time, s", outcome.seconds, measured.seconds, digits=1)]
    rows.append(_row("requests", outcome.requests.total(), sum(known.values())))
    for endpoint in sorted(set(outcome.requests) | set(known)):
        rows.append(_row(endpoint, outcome.requests[endpoint], known.get(endpoint, 0)))
    text = table([f"{measured.exports} exports", "predicted", "measured", "error"], rows)
    if measured.kills:
        text += f"\n\nIn the measured run {measured.kills} hosts were killed. The model knows nothing of that."
    return text


def _row(name: str, predicted: float, measured: float, *, digits: int = 0) -> list[str]:
    error = f"{predicted / measured - 1:+.0%}" if measured else ("+0%" if not predicted else "-")
    return [str(name), f"{predicted:.{digits}f}", f"{measured:.{digits}f}", error]
