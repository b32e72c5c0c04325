# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What is published: the wheel and the source distribution, built as for a release."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

import pytest

from airflow_provider_isvapp import __version__
from tests.support import ROOT

PACKAGE = "airflow_provider_isvapp"
DIST_INFO = f"{PACKAGE}-{__version__}.dist-info"


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [ROOT / ".venvs/bootstrap/bin/uv", "build", "--quiet", "--out-dir", folder, ROOT]
    subprocess.run(build, check=True)
    return folder


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    return distributions / f"{PACKAGE}-{__version__}-py3-none-any.whl"


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return BytesParser().parsebytes(archive.read(f"{DIST_INFO}/METADATA"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content, to be put before the checkout on a path."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run_installed(installed: Path, *command: str | Path) -> str:
    ended = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": str(installed)},
        cwd=installed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.startswith(f"{DIST_INFO}/")}
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", PACKAGE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert names == {name for name in tracked.stdout.splitlines() if (ROOT / name).exists()}
    assert f"{PACKAGE}/py.typed" in names


def test_the_source_distribution_has_what_it_is_built_from(distributions: Path) -> None:
    with tarfile.open(distributions / f"{PACKAGE}-{__version__}.tar.gz") as archive:
        top = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert top - {"PKG-INFO", ".gitignore"} == {PACKAGE, "README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml"}


def test_the_index_will_accept_both(distributions: Path) -> None:
    twine = [sys.executable, "-m", "twine", "check", "--strict", *map(str, distributions.glob(f"{PACKAGE}*"))]
    ended = subprocess.run(twine, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    assert ended.stdout.count("PASSED") == 2


def test_the_metadata_says_for_whom_it_is(metadata: Message) -> None:
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    classifiers = set(metadata.get_all("Classifier", []))
    assert {"Framework :: Apache Airflow", "Framework :: Apache Airflow :: Provider", "Typing :: Typed"} <= classifiers
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13, 14)} <= classifiers


def test_the_core_requires_little(metadata: Message) -> None:
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert len(required) <= 6
    assert {"apache-airflow>=2.11.0", "requests>=2.32"} <= set(required)


def test_entry_points_lead_into_the_wheel(installed: Path) -> None:
    script = f"""
import importlib.metadata, json
(distribution,) = importlib.metadata.distributions(path=[{str(installed)!r}])
loaded = {{point.name: point.load() for point in distribution.entry_points}}
import {PACKAGE}
print(json.dumps({{
    "from": {PACKAGE}.__file__,
    "groups": {{point.name: point.group for point in distribution.entry_points}},
    "provider": loaded["provider_info"]()["package-name"],
    "callable": all(map(callable, loaded.values())),
}}))
"""
    found = json.loads(run_installed(installed, sys.executable, "-c", script))
    assert Path(found["from"]).is_relative_to(installed)
    assert found["groups"]["provider_info"] == "apache_airflow_provider"
    assert found["groups"]["isvapp-emulator"] == "console_scripts"
    assert found["provider"] == "airflow-provider-isvapp"
    assert found["callable"]


def test_airflow_finds_the_provider(installed: Path) -> None:
    airflow = Path(sys.executable).parent / "airflow"
    listed = json.loads(run_installed(installed, airflow, "providers", "list", "--output", "json"))
    (ours,) = [provider for provider in listed if provider["package_name"] == "airflow-provider-isvapp"]
    assert ours["version"] == __version__


def test_the_changelog_has_this_version() -> None:
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    assert __version__ in headings[0]
