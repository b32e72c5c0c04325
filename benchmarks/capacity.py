# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""How long a sync takes, what binds it, and what would help: ``make capacity ARGS="--exports 100,1000 --window 2h"``.

A simulation, no measurement: nothing is sent anywhere. docs/capacity.md says what the numbers mean and how they compare
with a measured run (``--compare``).
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from benchmarks import capacity_report as report
from benchmarks.capacity_compare import comparison, read_measured
from benchmarks.capacity_model import simulate
from benchmarks.capacity_plan import MOST_EXPORTS, Plan, number, whole

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "capacity.md"
BEGIN, END = "<!-- capacity: begin -->\n", "<!-- capacity: end -->\n"
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    given = parser.parse_args(arguments)
    # argparse compares an option's text with the choices, and hands the text on.
    kinds = {option.name: option.metadata["read"] for option in _options()}
    values = {name: getattr(given, name) for name in kinds if getattr(given, name) is not None}
    options = {name: kinds[name](value) if isinstance(value, str) else value for name, value in values.items()}
    try:
        if given.compare:
            print(comparison(read_measured(given.compare), options))
            return 0
        plans = [Plan(exports=count, **options) for count in given.exports]
    except ValueError as error:
        parser.error(str(error))
    text = explain(plans, window=given.window)
    print(text)
    if given.write:
        _write(text)
    return 0


def explain(plans: Sequence[Plan], *, window: float | None) -> str:
    """Everything that the command prints, for plans that differ in their size only."""
    outcomes = [simulate(plan) for plan in plans]
    largest = max(outcomes, key=lambda outcome: outcome.plan.exports)
    size = f"{largest.plan.exports:,} exports"
    parts = [report.growth(outcomes)]
    parts += [f"Requests of {size}:\n\n{report.endpoints(largest)}"]
    parts += [f"{size}, with one thing changed:\n\n{report.what_if(largest)}"]
    held = largest.waiting_for_permits / largest.slot_seconds if largest.slot_seconds else 0.0
    parts += [f"Of the time in which tasks hold a slot, {held:.0%} is spent waiting for a turn under the limit."]
    parts += [f"**{warning}**" for warning in report.warnings(largest)]
    if window is not None:
        parts += [f"**{report.verdict(largest, window)}**"]
    return "\n\n".join(parts)


def _options() -> list[Any]:
    return [option for option in fields(Plan) if option.name != "exports"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = "exports in the sync (12); several, for a table"
    parser.add_argument("--exports", type=_clear(_counts), default=[12], metavar="N[,N...]", help=sizes)
    for option in _options():
        read, default = option.metadata["read"], option.default
        text = "-".join(f"{end:g}" for end in default) if isinstance(default, tuple) else str(default)
        # No defaults here: a comparison takes what was measured with where nothing is given.
        extra: dict[str, Any] = {"type": _clear(read), "metavar": "X"}
        if isinstance(read, type) and issubclass(read, StrEnum):
            extra = {"choices": list(read), "metavar": "|".join(read)}
        parser.add_argument(_flag(option.name), help=f"{option.metadata['help']} ({text})", **extra)
    parser.add_argument("--window", type=_clear(_time), metavar="TIME", help="when it has to be done: 3600, 90m, 2h")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="put a measured run (JSON) beside its prediction")
    parser.add_argument("--write", action="store_true", help=f"put the result into {DOCUMENT.name}")
    return parser


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _clear(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Let argparse show the message of a ValueError, which it hides."""

    def checked(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            message = str(error)
        raise argparse.ArgumentTypeError(message)

    return checked


def _counts(text: str) -> list[int]:
    counts = [whole(part.strip()) for part in text.split(",")]
    for count in counts:
        if not 1 <= count <= MOST_EXPORTS:
            raise ValueError(f"{count} is not a number of exports from 1 to {MOST_EXPORTS:,}")
    return counts


def _time(text: str) -> float:
    match = re.fullmatch(r"([0-9.]+)\s*([a-z]*)", text.strip())
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"{text!r} is not a time such as 3600, 90m or 2h")
    seconds = number(match[1]) * _UNITS[match[2]]
    if seconds <= 0:
        raise ValueError(f"{text!r} is no time at all")
    return seconds


def _write(text: str) -> None:
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{DOCUMENT} has no place for the result: {BEGIN!r} and {END!r} are missing")
    DOCUMENT.write_text(f"{before}{BEGIN}{text}\n{end}{after}")


if __name__ == "__main__":
    sys.exit(main())
