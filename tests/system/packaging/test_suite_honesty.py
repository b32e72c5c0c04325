# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""``make test`` also fails if something did not run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT

ENVIRONMENT = ".venvs/airflow-3.3/.ready"


@pytest.fixture(scope="module", autouse=True)
def up_to_date() -> None:
    """Refuse to begin if the lanes would first rebuild the environment in which this test runs."""
    if run("make", "--question", "--directory", ROOT, ENVIRONMENT).returncode != 0:
        pytest.fail(f"the environment is older than what it is made of: run make {ENVIRONMENT}")


def run_lanes(*lanes: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run lanes of the Makefile as ``make test`` does."""
    return run(ROOT / "scripts/run_lanes.sh", *lanes, **variables)


def run(*command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command, but not as a part of the make that runs this test."""
    outer = {"CI", "ARGS", "MAKE", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS"}
    return subprocess.run(
        command,
        env={name: value for name, value in os.environ.items() if name not in outer} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def summary(ended: subprocess.CompletedProcess[str]) -> list[str]:
    return ended.stdout.partition("summary")[2].splitlines()[1:]


def test_a_lane_without_a_test_has_failed() -> None:
    ended = run_lanes("test-packaging", ARGS="-k matches_nothing_at_all")

    assert ended.returncode == 1
    assert summary(ended)[0].startswith("FAILED test-packaging")
    assert summary(ended)[-1] == "0 passed, 0 failed, 0 skipped"


def test_after_a_lane_that_fails_the_others_still_run() -> None:
    ended = run_lanes("no-such-lane", "test-packaging", ARGS="-k has_this_version")

    assert ended.returncode == 1
    assert [line.split()[:2] for line in summary(ended)[:2]] == [["FAILED", "no-such-lane"], ["ok", "test-packaging"]]
    assert summary(ended)[-1] == "1 passed, 0 failed, 0 skipped"


def test_lanes_beside_others_count_too() -> None:
    ended = run_lanes("test-packaging", "--beside", "no-such-lane", "test-compose", ARGS="-k has_this_version")

    assert ended.returncode == 1
    assert [line.split()[:2] for line in summary(ended)[:3]] == [
        ["ok", "test-packaging"],
        ["FAILED", "no-such-lane"],
        ["FAILED", "test-compose"],
    ]
    assert summary(ended)[-1] == "1 passed, 0 failed, 0 skipped"


def test_in_ci_a_lane_that_hangs_is_ended() -> None:
    ended = run_lanes("test-packaging", CI="true", LANE_SECONDS="0.2", ARGS="-k has_this_version")

    assert ended.returncode == 1
    assert summary(ended)[0].startswith("FAILED test-packaging")


def test_lanes_that_pass_pass() -> None:
    ended = run_lanes("test-packaging", ARGS="-k has_this_version")

    assert (ended.returncode, summary(ended)[-1]) == (0, "1 passed, 0 failed, 0 skipped")
