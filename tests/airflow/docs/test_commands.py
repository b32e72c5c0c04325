# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The shell commands of the pages exist, with their options, extras, targets and connections."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import sys
import tomllib
import warnings

import pytest
from airflow import __version__ as airflow_version
from packaging.requirements import Requirement

from tests.airflow.docs.pages import Block, blocks
from tests.support import ROOT

# The emulator's page belongs to tests/unit/emulator.
SHELL = [block for block in blocks("bash", "sh", "shell", "console") if block.page.name != "emulator.md"]
EXPORTS = [block for block in SHELL if "export AIRFLOW_" in block.text]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
# Other programs: separate tests check the pages that name them, or they need an engine.
OF_OTHERS = {"az", "docker", "gcloud", "pytest", "helm", "kubectl", "curl", "cp", "git", "cd"}


def commands(block: Block) -> list[list[str]]:
    """Split a block into its commands, without comments and assignments."""
    text = block.text.replace("\\\n", " ")
    found = []
    for line in re.split(r"\n(?=\S)", text):
        if line.startswith(("export ", "#")) or not line.strip():
            continue
        for part in line.split(" && "):
            words = shlex.split(part, comments=True)
            found.append(list(itertools.dropwhile(lambda word: re.match(r"\w+=", word), words)))
    return found


COMMANDS = [(block, command) for block in SHELL for command in commands(block)]


@pytest.mark.parametrize(
    ("block", "command"), COMMANDS, ids=[f"{block}-{' '.join(command[:3])}" for block, command in COMMANDS]
)
def test_a_command_exists(block: Block, command: list[str]) -> None:
    program, *arguments = command
    if program == "make":
        targets = [argument for argument in arguments if "=" not in argument]
        subprocess.run(["make", "--dry-run", *targets], cwd=ROOT, check=True, capture_output=True)
    elif program == "pip":
        if arguments[0] == "wheel":
            assert arguments == ["wheel", "--no-deps", "--wheel-dir", "dist", "."]
            return
        assert arguments[0] == "install"
        # A checkout and a wheel have the package's extras.
        requirement = Requirement(re.sub(r"^(\.|dist/\S+\.whl)(?=\[)", "airflow-provider-isvapp", arguments[1]))
        assert requirement.name == "airflow-provider-isvapp"
        assert requirement.extras <= set(EXTRAS)
    elif program == "airflow":
        if airflow_version.startswith("2.") != ("# Airflow 2.11" in block.text) and "# Airflow" in block.text:
            pytest.skip(f"{block} is for another line of Airflow")
        parse_as_airflow(arguments)
    elif program == "python" and "timeit" in arguments:
        subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
    elif program in ("python", "python3") or program.startswith("scripts/"):
        assert (ROOT / (arguments[0] if program.startswith("python") else program)).exists()
    else:
        assert program in OF_OTHERS, f"{block} runs {program}, which nothing here knows"


def parse_as_airflow(arguments: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Airflow's own, while it loads its commands
        from airflow.cli.cli_parser import get_parser

        get_parser().parse_args(arguments)


@pytest.mark.parametrize("block", EXPORTS, ids=str)
def test_connections_can_be_read(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_provider_isvapp.hooks.isvapp import IsvappHook
    from airflow_provider_isvapp.hooks.productiv import ProductivHook

    shell = subprocess.run(["bash", "-c", f"{block.text}\nenv -0"], capture_output=True, text=True, check=True)
    for line in shell.stdout.split("\0"):
        if line.startswith("AIRFLOW_CONN_"):
            monkeypatch.setenv(*line.split("=", 1))

    if "AIRFLOW_CONN_ISVAPP_DEFAULT" in block.text:
        assert IsvappHook().get_conn() is not None
    if "AIRFLOW_CONN_PRODUCTIV_DEFAULT" in block.text:
        assert ProductivHook().get_conn() is not None
