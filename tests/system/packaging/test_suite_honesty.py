# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""``make test`` fails when something did not run, not only when a test failed."""

from __future__ import annotations

from types import ModuleType

import pytest


def test_a_part_without_a_test_has_failed(scripts: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    part = scripts.Part(name="empty", environment="airflow-3.3", tests=("system/packaging",))

    outcome = scripts.run(part, ["-k", "matches_nothing_at_all"])

    assert outcome.reason == "no test was run"
    assert scripts.summarise([outcome]) == 1
    assert "FAILED empty" in capfd.readouterr().out


def test_a_part_whose_environment_cannot_be_made_has_failed(
    scripts: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(environment: object) -> None:
        raise scripts.subprocess.CalledProcessError(1, ["uv"])

    monkeypatch.setattr(scripts, "ensure", broken)

    outcome = scripts.run(scripts.PARTS["core"], [])

    assert outcome.reason == "its environment could not be made"
    assert scripts.summarise([outcome]) == 1


def test_a_failing_command_fails_its_part_and_the_others_still_run(
    scripts: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    commands = (("python", "-c", "raise SystemExit(3)"), ("python", "-c", "print('still run')"))
    part = scripts.Part(name="commands", environment="airflow-3.3", commands=commands)

    outcome = scripts.run(part, [])

    assert outcome.reason == "python -c"
    assert "still run" in capfd.readouterr().out


def test_a_command_that_hangs_is_ended(scripts: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "COMMAND_SECONDS", 0.5)
    part = scripts.Part(
        name="hanging", environment="airflow-3.3", commands=(("python", "-c", "import time; time.sleep(60)"),)
    )

    assert scripts.run(part, []).reason == "python -c"


def test_counts_come_from_the_report(scripts: ModuleType) -> None:
    outcome = scripts.run(
        scripts.Part(name="counted", environment="airflow-3.3", tests=("system/packaging",)),
        ["-k", "name_no_index or names_nothing"],
    )

    assert (outcome.passed, outcome.failed, outcome.skipped, outcome.reason) == (1, 0, 0, "")
