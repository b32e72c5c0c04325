# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""``make test``: the parts of the suite, each in its environment, and one summary at the end.

A part that ran no test has failed, and so has one whose environment could not be made: nothing is skipped silently.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from environments import ENVIRONMENTS, ROOT, VENVS, ensure

COMMAND_SECONDS = 1800
# What Airflow's version matters most for.
BETWEEN_TESTS = tuple(
    f"airflow/{folder}"
    for folder in ("hooks", "operators", "sensors", "links", "triggers", "plugins", "provider", "dags")
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some commands that belong together.

    :param tests: folders below ``tests/`` for one pytest run, if any.
    :param commands: further commands, as modules or programs of the environment.
    """

    name: str
    environment: str
    tests: tuple[str, ...] = ()
    commands: tuple[tuple[str, ...], ...] = ()


PARTS = {
    part.name: part
    for part in (
        Part(
            name="lint",
            environment="airflow-3.3",
            commands=(("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)),
        ),
        Part(
            name="docs",
            environment="docs",
            # Everything anew each time: a page that is not read again does not repeat its warnings.
            commands=(
                (
                    "sphinx-build",
                    "-E",
                    "-W",
                    "--keep-going",
                    "-q",
                    "-c",
                    "docs",
                    "-d",
                    "build/doctrees",
                    ".",
                    "build/docs",
                ),
            ),
        ),
        Part(name="core", environment="core", tests=("unit",)),
        Part(name="airflow-3.3", environment="airflow-3.3", tests=("airflow",)),
        Part(name="airflow-2.11", environment="airflow-2.11", tests=("airflow",)),
        Part(name="airflow-3.0", environment="airflow-3.0", tests=BETWEEN_TESTS),
        Part(name="airflow-3.1", environment="airflow-3.1", tests=BETWEEN_TESTS),
        Part(name="airflow-3.2", environment="airflow-3.2", tests=BETWEEN_TESTS),
        Part(name="crash-3.3", environment="airflow-3.3", tests=("system/crash",)),
        Part(name="crash-2.11", environment="airflow-2.11", tests=("system/crash",)),
        Part(name="browser", environment="airflow-3.3", tests=("system/browser",)),
        Part(name="secrets", environment="airflow-3.3", tests=("system/secrets",)),
        Part(name="packaging", environment="airflow-3.3", tests=("system/packaging",)),
        Part(name="compose", environment="airflow-3.3", tests=("system/compose",)),
        Part(name="kubernetes", environment="airflow-3.3", tests=("system/kubernetes",)),
        Part(name="cluster", environment="cluster", tests=("system/cluster",)),
    )
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a part: how many tests, how long, and why it failed, if it did."""

    part: Part
    seconds: float
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    reason: str = ""


def run(part: Part, pytest_options: Sequence[str]) -> Outcome:
    """Make the part's environment and run its commands, all of them even when one fails."""
    print(f"\n━━━ {part.name} ".ljust(100, "━"), flush=True)
    started = time.monotonic()
    try:
        python = ensure(ENVIRONMENTS[part.environment])
    except subprocess.CalledProcessError:
        return Outcome(part=part, seconds=time.monotonic() - started, reason="its environment could not be made")
    reasons = []
    for command in part.commands:
        print("$", *command, flush=True)
        if _call([python.parent / command[0], *command[1:]]) != 0:
            reasons.append(" ".join(command[:2]))
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    if part.tests:
        report = VENVS / f"report-{part.name}.xml"
        report.unlink(missing_ok=True)
        folders = [f"tests/{folder}" for folder in part.tests]
        status = _call([python, "-m", "pytest", "-q", f"--junit-xml={report}", *pytest_options, *folders])
        if report.exists():
            counts = _counts(report)
        if status != 0:
            # Pytest's status 5: no test was collected.
            reasons.append("no test was run" if status == 5 else f"pytest ended with status {status}")
    return Outcome(part=part, seconds=time.monotonic() - started, reason=", ".join(reasons), **counts)


def _call(command: Sequence[str | Path]) -> int | str:
    """Run a command and return its exit status, or what stands for it when it had to be ended."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # pytest-timeout ends most hangs; Airflow's own alarms switch its timer off.
    try:
        return subprocess.run(command, cwd=ROOT, env=environ, check=False, timeout=COMMAND_SECONDS).returncode
    except subprocess.TimeoutExpired:
        return f"killed after {COMMAND_SECONDS} s"


def _counts(report: Path) -> dict[str, int]:
    suites = ElementTree.parse(report).getroot().iter("testsuite")
    totals = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for suite in suites:
        for key in totals:
            totals[key] += int(suite.get(key, 0))
    failed = totals["failures"] + totals["errors"]
    return {
        "passed": totals["tests"] - failed - totals["skipped"],
        "failed": failed,
        "skipped": totals["skipped"],
    }


def summarise(outcomes: Sequence[Outcome]) -> int:
    """Print one line for each part and the totals; return the exit status."""
    print("\n━━━ summary ".ljust(100, "━"))
    for outcome in outcomes:
        verdict = "FAILED" if outcome.reason else "ok"
        tests = (
            f"{outcome.passed} passed, {outcome.failed} failed, {outcome.skipped} skipped" if outcome.part.tests else ""
        )
        print(f"{verdict:7}{outcome.part.name:14}{outcome.seconds:6.0f} s  {tests:38}{outcome.reason}".rstrip())
    passed, failed, skipped = (
        sum(getattr(outcome, key) for outcome in outcomes) for key in ("passed", "failed", "skipped")
    )
    print(f"\n{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 1 if any(outcome.reason for outcome in outcomes) else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)}; default: all")
    parser.add_argument("--pytest", default="", help="further options for pytest, as one string")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"no part named {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    chosen = [PARTS[name] for name in arguments.parts or PARTS]
    return summarise([run(part, arguments.pytest.split()) for part in chosen])


if __name__ == "__main__":
    sys.exit(main())
