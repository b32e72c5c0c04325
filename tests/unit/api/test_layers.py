# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The lower layers do not import Airflow or heavy libraries."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import airflow_provider_isvapp

IMPORTS = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
print(" ".join(sorted({name.partition(".")[0] for name in sys.modules})))
"""


@pytest.mark.parametrize("layer", ["api"])
def test_a_layer_imports_no_airflow_and_nothing_heavy(layer: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", IMPORTS, f"airflow_provider_isvapp.{layer}"], capture_output=True, text=True, check=True
    )
    loaded = set(run.stdout.split())

    assert "requests" in loaded
    assert loaded.isdisjoint({"airflow", "oauthlib", "aiohttp", "boto3", "redis", "psycopg", "isal", "pyarrow"})


# Packages that work without Airflow, and import nothing else of this package.
WITHOUT_AIRFLOW = {"api", "emulator", "errors", "ratelimit", "events", "transfer"}
IMPORT_WITHOUT_AIRFLOW = """
import importlib, pkgutil, sys
sys.modules["airflow"] = None
for name in sys.argv[1:]:
    imported = importlib.import_module(f"airflow_provider_isvapp.{name}")
    for module in pkgutil.walk_packages(getattr(imported, "__path__", ()), imported.__name__ + "."):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as missing:
            # The clients of two storages, which not every environment of the tests has.
            if missing.name.partition(".")[0] not in ("azure", "google", "google_crc32c"):
                raise
"""


def test_the_layers_below_airflow_load_without_it() -> None:
    subprocess.run([sys.executable, "-c", IMPORT_WITHOUT_AIRFLOW, *WITHOUT_AIRFLOW], check=True)


def test_no_function_of_the_lower_layers_imports_airflow() -> None:
    package = Path(airflow_provider_isvapp.__file__).parent
    for path in [
        path for name in WITHOUT_AIRFLOW for path in [package / f"{name}.py", *(package / name).rglob("*.py")]
    ]:
        for node in ast.walk(ast.parse(path.read_text())) if path.exists() else ():
            if isinstance(node, ast.Import):
                imported = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported = {f"{node.module}.{alias.name}" for alias in node.names}
            else:
                continue
            assert not {name for name in imported if name.split(".")[0] == "airflow"}, path
            ours = {name.split(".")[1] for name in imported if name.startswith("airflow_provider_isvapp.")}
            assert ours <= {*WITHOUT_AIRFLOW, "__version__"}, path
