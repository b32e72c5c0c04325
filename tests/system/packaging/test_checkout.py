# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The checkout's own machinery: lock files that fit pyproject.toml, and a suite that leaves no folder out."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import ROOT


def pins(lock: Path) -> dict[str, set[str]]:
    """Return the pinned versions by package: more than one where they depend on the interpreter."""
    found: dict[str, set[str]] = {}
    for line in lock.read_text().splitlines():
        if line and not line.startswith((" ", "#")):
            requirement = Requirement(line)
            (version,) = [specifier.version for specifier in requirement.specifier]
            found.setdefault(canonicalize_name(requirement.name), set()).add(version)
    return found


def test_every_lock_file_fits_what_its_environment_asks_for(scripts: ModuleType) -> None:
    environments = importlib.import_module("environments")
    for environment in environments.ENVIRONMENTS.values():
        locked = pins(environment.lock)
        for text in environments._requirements(environment):
            requirement = Requirement(text)
            versions = locked.get(canonicalize_name(requirement.name), set())
            assert versions, f"{environment.name}: {text} is not in its lock file; run 'make lock'"
            for version in versions:
                assert requirement.specifier.contains(version), f"{environment.name}: {text}, locked {version}"


def test_lock_files_name_no_index_and_no_path() -> None:
    locks = list((ROOT / "requirements").glob("*.txt"))
    assert len(locks) >= 5
    for lock in locks:
        requirements = [line for line in lock.read_text().splitlines() if not line.lstrip().startswith("#")]
        assert all("==" in line and "/" not in line for line in requirements), lock.name


def test_the_environment_without_airflow_has_none(scripts: ModuleType) -> None:
    assert not [name for name in pins(ROOT / "requirements/core.txt") if "airflow" in name]


def test_every_test_folder_belongs_to_a_part(scripts: ModuleType) -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    tested = {Path(folder) for part in scripts.PARTS.values() for folder in part.tests}
    assert not {folder for folder in folders if tested.isdisjoint((folder, *folder.parents))}
