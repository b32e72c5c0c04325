# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The lower layers know nothing of Airflow and load nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
