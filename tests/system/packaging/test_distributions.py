# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The wheel and the source distribution, built as for a release."""

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
from urllib.parse import urlsplit

import pytest
from airflow import __version__ as airflow_version
from markdown_it import MarkdownIt

from airflow_provider_isvapp import __version__
from tests.support import ROOT

PACKAGE = "airflow_provider_isvapp"
DIST_INFO = f"{PACKAGE}-{__version__}.dist-info"
REPOSITORY = "airflow-provider-isvapp/airflow-provider-isvapp"
EXAMPLES = {path.name: path for path in (ROOT / "dags").glob("*.py")}

PARSE_EXAMPLES = """
import json, pathlib, sys
import airflow_provider_isvapp
folder = pathlib.Path(airflow_provider_isvapp.__path__[0], "example_dags")
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(dag_folder=str(folder))
print(json.dumps({
    "folder": str(folder),
    "errors": bag.import_errors,
    "paused": {dag_id: dag.is_paused_upon_creation for dag_id, dag in bag.dags.items()},
    "bundles": {bundle.name: str(bundle.path) for bundle in DagBundlesManager().get_all_dag_bundles()},
}))
"""


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


def test_the_wheel_has_the_package_its_examples_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.startswith(f"{DIST_INFO}/")}
        examples = {name for name in names if name.startswith(f"{PACKAGE}/example_dags/")}
        copied = {Path(name).name: archive.read(name) for name in examples}
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", PACKAGE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert names - examples == {name for name in tracked.stdout.splitlines() if (ROOT / name).exists()}
    assert copied == {name: path.read_bytes() for name, path in EXAMPLES.items()}
    assert f"{PACKAGE}/py.typed" in names


def test_the_source_distribution_has_what_it_is_built_from(distributions: Path) -> None:
    with tarfile.open(distributions / f"{PACKAGE}-{__version__}.tar.gz") as archive:
        top = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    files = {"README.md", "CHANGELOG.md", "LICENSE", "NOTICE", "pyproject.toml"}
    assert top - {"PKG-INFO", ".gitignore"} == {PACKAGE, "dags", *files}


def test_the_index_will_accept_both(distributions: Path) -> None:
    twine = [sys.executable, "-m", "twine", "check", "--strict", *map(str, distributions.glob(f"{PACKAGE}*"))]
    ended = subprocess.run(twine, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    assert ended.stdout.count("PASSED") == 2


def test_the_metadata_states_the_audience(metadata: Message) -> None:
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    classifiers = set(metadata.get_all("Classifier", []))
    assert {"Framework :: Apache Airflow", "Framework :: Apache Airflow :: Provider", "Typing :: Typed"} <= classifiers
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13, 14)} <= classifiers
    assert set(metadata.get_all("License-File", [])) == {"LICENSE", "NOTICE"}
    assert metadata["Maintainer"]


def test_the_metadata_links_to_one_repository(metadata: Message) -> None:
    urls = [line.split(", ", maxsplit=1) for line in metadata.get_all("Project-URL", [])]

    assert {label for label, _ in urls} == {"Source Code", "Documentation", "Changelog", "Bug Tracker"}
    assert {"/".join(urlsplit(url).path.split("/")[1:3]) for _, url in urls} == {REPOSITORY}
    owners = {line.split()[1] for line in (ROOT / ".github/CODEOWNERS").read_text().splitlines() if line[:1] in "*/"}
    assert owners == {f"@{REPOSITORY.split('/')[0]}/maintainers"}


def test_the_description_has_no_link_that_an_index_cannot_resolve(metadata: Message) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(str(metadata.get_payload()))
    inline = [child for token in tokens for child in token.children or ()]
    links = {str(child.attrs["href"]) for child in inline if child.type == "link_open"}
    images = {str(child.attrs["src"]) for child in inline if child.type == "image"}

    assert len(links) > 30
    assert images
    assert [url for url in links | images if urlsplit(url).scheme != "https"] == []
    pages = f"https://github.com/{REPOSITORY}/blob/v{__version__}/"
    pictures = f"https://raw.githubusercontent.com/{REPOSITORY}/v{__version__}/"
    assert all(url.startswith(pictures) for url in images), images
    ours = [url.removeprefix(pages) for url in links if url.startswith(pages)]
    ours += [url.removeprefix(pictures) for url in images]
    assert [path for path in ours if not (ROOT / path.partition("#")[0]).is_file()] == []


@pytest.mark.timeout(600)
def test_airflow_loads_the_examples_of_an_installed_wheel_paused_and_without_extras(
    wheel: Path, tmp_path: Path
) -> None:
    uv, python = ROOT / ".venvs/bootstrap/bin/uv", tmp_path / "venv/bin/python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", python, f"apache-airflow=={airflow_version}", wheel]
    subprocess.run(install, check=True)

    ended = subprocess.run(
        [python, "-c", PARSE_EXAMPLES],
        env={"AIRFLOW_HOME": str(tmp_path / "airflow"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert Path(found["folder"]).is_relative_to(tmp_path / "venv")
    assert found["errors"] == {}
    assert found["paused"] == {Path(name).stem: True for name in EXAMPLES}
    assert found["bundles"]["airflow-provider-isvapp-example-dags"] == found["folder"]


def test_the_core_requires_little(metadata: Message) -> None:
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert len(required) <= 6
    assert {"apache-airflow>=2.11.0", "requests>=2.32"} <= set(required)


def test_entry_points_lead_into_the_wheel(installed: Path) -> None:
    script = f"""
import importlib.metadata, json
(distribution,) = importlib.metadata.distributions(path=[{str(installed)!r}])
loaded = {{(point.group, point.name): point.load() for point in distribution.entry_points}}
plugin = loaded.pop(("pytest11", "isvapp"))
import {PACKAGE}
print(json.dumps({{
    "from": {PACKAGE}.__file__,
    "groups": [point.group for point in distribution.entry_points],
    "provider": loaded["apache_airflow_provider", "provider_info"]()["package-name"],
    "fixture": hasattr(plugin, "isvapp_emulator"),
    "callable": all(map(callable, loaded.values())),
}}))
"""
    found = json.loads(run_installed(installed, sys.executable, "-c", script))
    assert Path(found["from"]).is_relative_to(installed)
    assert sorted(found["groups"]) == ["airflow.plugins", "apache_airflow_provider", "console_scripts", "pytest11"]
    assert found["fixture"]
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
