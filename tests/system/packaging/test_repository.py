# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The files that a code hosting site reads: workflows, forms, owners. They cannot run here, so they are validated."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = [path for path in sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")) if path.name != "config.yml"]
SCHEMAS = {
    "vendor.github-workflows": WORKFLOWS,
    "custom.github-workflows-require-timeout": WORKFLOWS,
    "vendor.github-issue-forms": FORMS,
    "vendor.github-issue-config": [GITHUB / "ISSUE_TEMPLATE/config.yml"],
    "vendor.dependabot": [GITHUB / "dependabot.yml"],
}
TARGET = re.compile(r"\bmake ((?:[a-z][\w.-]*(?: |$))+)")


def steps(workflow: Path) -> list[dict[str, Any]]:
    """Return the steps of all jobs."""
    return [step for job in yaml.safe_load(workflow.read_text())["jobs"].values() for step in job["steps"]]


def called_targets() -> set[str]:
    """Return the make targets that the workflows and the hooks for commits call."""
    found: set[str] = set()
    for workflow in WORKFLOWS:
        for job in yaml.safe_load(workflow.read_text())["jobs"].values():
            found |= set(job.get("strategy", {}).get("matrix", {}).get("target", ()))
        for step in steps(workflow):
            for match in TARGET.finditer(step.get("run", "")):
                found |= set(match[1].split())
    hooks = [
        hook
        for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
        for hook in repo["hooks"]
    ]
    return found | {match[1] for hook in hooks if (match := TARGET.fullmatch(hook.get("entry", "")))}  # type: ignore[assignment]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_follow_their_schemas(schema: str) -> None:
    check = [Path(sys.executable).parent / "check-jsonschema", "--builtin-schema", schema, *SCHEMAS[schema]]
    ended = subprocess.run(check, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize("target", sorted(called_targets()))
def test_every_make_target_that_is_called_exists(target: str) -> None:
    ended = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_the_workflows_run_the_lanes() -> None:
    assert {"lint", "docs", "test-unit", "test-airflow-3.3", "test-airflow-2.11", "test-packaging"} <= called_targets()


def test_scripts_that_the_workflows_run_exist() -> None:
    scripts = {
        name
        for workflow in WORKFLOWS
        for step in steps(workflow)
        for name in re.findall(r"scripts/\S+", step.get("run", ""))
    }
    assert scripts
    assert all((ROOT / name).is_file() for name in scripts), scripts


def test_actions_are_pinned_to_commits() -> None:
    for workflow in WORKFLOWS:
        for line in workflow.read_text().splitlines():
            if "uses:" in line:
                assert re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_only_a_tag_publishes_attested_files() -> None:
    release = yaml.safe_load((GITHUB / "workflows/release.yml").read_text())
    # YAML 1.1 reads the key "on" as true.
    assert release[True] == {"push": {"tags": ["v*"]}}
    assert release["permissions"] == {"contents": "read"}
    assert release["jobs"]["publish"]["needs"] == ["build", "attest"]
    writers = {name for name, job in release["jobs"].items() if "write" in job.get("permissions", {}).values()}
    assert writers == {"attest", "publish"}
    # Jobs that may sign and publish run no code of the checkout.
    assert not any("checkout" in str(step) for name in writers for step in release["jobs"][name]["steps"])


def test_the_workflow_publishes_with_the_uv_of_the_makefile() -> None:
    (version,) = re.findall(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert f"uv=={version} uv publish" in (GITHUB / "workflows/release.yml").read_text()


def test_owned_paths_exist() -> None:
    lines = [line.split() for line in (GITHUB / "CODEOWNERS").read_text().splitlines() if line and line[0] != "#"]
    assert all(path == "*" or (ROOT / path.lstrip("/")).exists() for path, *_ in lines)
