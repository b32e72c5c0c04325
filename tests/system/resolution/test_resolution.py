# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The declared dependencies fit the installed versions of each release of Airflow.

Airflow's constraints pin, for each release, the newest versions of its day. They are approximated by what was on the
index a week after the release; packages that no constraints pin may be newer.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT

UV = ROOT / ".venvs/bootstrap/bin/uv"
# The first and the last release of each line, a week after it, and a Python that it supports.
RELEASES = {
    "2.11.0": ("2025-05-27", "3.11"),
    "2.11.2": ("2026-03-21", "3.12"),
    "3.0.1": ("2025-05-19", "3.11"),
    "3.0.6": ("2025-09-05", "3.12"),
    "3.1.0": ("2025-10-02", "3.11"),
    "3.1.8": ("2026-03-18", "3.13"),
    "3.2.0": ("2026-04-14", "3.11"),
    "3.2.2": ("2026-06-05", "3.13"),
    "3.3.0": ("2026-07-13", "3.11"),
    "3.3.2": ("2026-09-24", "3.13"),
}
# No constraints of Airflow's pin these.
UNPINNED = ("isal", "stringzilla")

LOAD = """
import importlib
from airflow.providers_manager import ProvidersManager
info = ProvidersManager().providers["airflow-provider-isvapp"].data
modules = [module for kind in ("hooks", "operators", "sensors", "triggers") for entry in info[kind]
           for module in entry["python-modules"]]
assert len(modules) >= 6
for module in [*modules, "airflow_provider_isvapp.plugins.isvapp", "airflow_provider_isvapp.transfer.download"]:
    importlib.import_module(module)
"""

# Each extra has the hook that creates the storage's client, and the library that writes through it.
LOAD_STORAGES = """
import importlib
for module in ("airflow.providers.google.cloud.hooks.gcs", "airflow.providers.microsoft.azure.hooks.wasb",
               "airflow_provider_isvapp.transfer.staging.azure", "airflow_provider_isvapp.transfer.staging.gcs"):
    importlib.import_module(module)
"""


def day_of(release: str) -> list[str]:
    date, _ = RELEASES[release]
    unpinned = [word for name in UNPINNED for word in ("--exclude-newer-package", f"{name}=2026-11-01")]
    return ["--exclude-newer", date, *unpinned]


def uv(*arguments: str | Path, stdin: str = "") -> str:
    ended = subprocess.run([UV, *arguments], cwd=ROOT, input=stdin, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("release", RELEASES)
def test_all_extras_resolve_under_the_pins_of(release: str) -> None:
    _, python = RELEASES[release]
    resolved = uv(
        *("pip", "compile", "--quiet", "--all-extras", "--python-version", python, *day_of(release)),
        *("pyproject.toml", "--constraint", "-"),
        stdin=f"apache-airflow=={release}",
    )

    assert f"apache-airflow=={release}" in resolved.splitlines()


def test_all_extras_resolve_on_python_3_14_from_wheels_alone() -> None:
    resolved = uv(
        *("pip", "compile", "--quiet", "--all-extras", "--python-version", "3.14", "--only-binary", ":all:"),
        *("pyproject.toml", "--constraint", "-"),
        stdin="apache-airflow==3.3.2",
    )

    assert "apache-airflow==3.3.2" in resolved.splitlines()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--quiet", "--wheel", "--out-dir", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.timeout(600)
@pytest.mark.parametrize("release", ["2.11.0", "2.11.2", "3.0.6", "3.1.8", "3.2.2", "3.3.2"])
def test_the_wheel_is_installed_and_loaded_beside(release: str, wheel: Path, tmp_path: Path) -> None:
    install_and_run(LOAD, str(wheel), beside=release, folder=tmp_path)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("release", ["2.11.2", "3.3.2"])
def test_the_extras_for_google_and_azure_are_installed_and_imported_beside(
    release: str, wheel: Path, tmp_path: Path
) -> None:
    requirement = f"airflow-provider-isvapp[azure,gcs] @ {wheel.as_uri()}"

    install_and_run(LOAD_STORAGES, requirement, beside=release, folder=tmp_path)


def install_and_run(program: str, requirement: str, *, beside: str, folder: Path) -> None:
    """Install a requirement with a release of Airflow, and run a program with them."""
    python = folder / "venv/bin/python"
    uv("venv", "--quiet", "--python", "3.11", folder / "venv")
    uv("pip", "install", "--quiet", "--python", python, *day_of(beside), f"apache-airflow=={beside}", requirement)

    ended = subprocess.run(
        [python, "-c", program],
        env={"AIRFLOW_HOME": str(folder / "airflow"), "PATH": "/usr/bin:/bin"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
