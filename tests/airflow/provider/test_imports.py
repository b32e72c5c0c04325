# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What importing this package loads, in separate processes; ``make bench-import`` measures its cost."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys

import airflow_provider_isvapp
from airflow_provider_isvapp.get_provider_info import get_provider_info

# Each costs 40 to 850 ms, or is needed while bytes move only.
NOT_FOR_PARSING = {
    "aiohttp",
    "azure",
    "boto3",
    "botocore",
    "google",
    "isal",
    "oauthlib",
    "openlineage",
    "psycopg",
    "redis",
    "s3fs",
    "wtforms",
    # The package's own: a client is opened, and bytes are moved, by a running task only.
    "airflow_provider_isvapp.api.connection_check",
    "airflow_provider_isvapp.api.transport",
    "airflow_provider_isvapp.ratelimit",
    "airflow_provider_isvapp.transfer.download",
}
MODULES = [
    module
    for kind in ("hooks", "operators", "sensors", "triggers")
    for entry in get_provider_info()[kind]
    for module in entry["python-modules"]
]


# What may lack, and so which module: an extra, or a part of a newer Airflow.
OPTIONAL = {
    f"airflow_provider_isvapp.{module}": needs
    for module, needs in {
        "ratelimit.storage_postgresql": "psycopg",
        "ratelimit.storage_redis": "redis",
        "plugins.exports_app": "airflow.api_fastapi",
        "transfer.parquet": "pyarrow",
        "transfer.staging.azure": "azure",
        "transfer.staging.gcs": "google_crc32c",
    }.items()
}


def loaded_by(*modules: str, after: str) -> set[str]:
    program = (
        f"import json, sys\nimport {after}\npresent = set(sys.modules)\n"
        + "".join(f"import {module}\n" for module in modules)
        + "print(json.dumps(sorted(set(sys.modules) - present)))"
    )
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    return set(json.loads(output.splitlines()[-1]))


def test_a_dag_file_loads_nothing_that_only_a_running_task_needs() -> None:
    loaded = loaded_by(*MODULES, after="airflow_provider_isvapp.version_compat")

    assert set(MODULES) <= loaded
    assert not loaded & NOT_FOR_PARSING


def test_the_provider_info_is_read_without_airflow() -> None:
    loaded = loaded_by("airflow_provider_isvapp.get_provider_info", after="json")

    assert "airflow_provider_isvapp.hooks.connection_form" in loaded
    assert not loaded & ({"airflow", "requests"} | NOT_FOR_PARSING)


def test_every_module_can_be_imported() -> None:
    missing = {}
    modules = [
        module.name for module in pkgutil.walk_packages(airflow_provider_isvapp.__path__, "airflow_provider_isvapp.")
    ]
    assert len(modules) > 80
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            missing[module] = error.name

    assert missing.items() <= OPTIONAL.items()
