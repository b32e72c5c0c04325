# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The checkout's own machinery: a lock that every machine can use, and a suite that leaves no test out."""

from __future__ import annotations

import os
import subprocess
import tomllib

from tests.support import ROOT


def test_the_lock_names_no_other_index_and_no_path() -> None:
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    sources = {next(iter(package["source"].items())) for package in packages}
    files = [file for package in packages for file in [*package.get("wheels", []), package.get("sdist")] if file]

    assert sources == {("registry", "https://pypi.org/simple"), ("editable", ".")}
    assert all(file["url"].startswith("https://files.pythonhosted.org/") for file in files)


def test_every_test_belongs_to_a_lane_of_make_test_all() -> None:
    (lanes,) = (line[1:] for line in dry_run("test-all") if line[0] == "scripts/run_lanes.sh")
    lanes.remove("--beside")
    paths = {word for line in dry_run(*lanes) if "pytest" in line for word in line if word.startswith("tests/")}

    tests = {path.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py")}
    assert not {str(test) for test in tests if paths.isdisjoint(map(str, [test, *test.parents]))}


def dry_run(*targets: str) -> list[list[str]]:
    """Return the arguments of each command that make would run, without those that create environments."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "ARGS"}
    command = ["make", "--dry-run", "--no-print-directory", *targets]
    printed = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True).stdout
    return [line.split() for line in printed.splitlines() if line.startswith((".venvs/", "scripts/"))]
