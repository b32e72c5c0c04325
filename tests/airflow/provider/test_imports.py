# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What importing this package loads, in processes of their own; ``make bench-import`` measures what it takes."""

from __future__ import annotations

import json
import subprocess
import sys

from airflow_provider_isvapp.get_provider_info import get_provider_info

# Each costs 40 to 850 ms, or is needed while bytes move only.
NOT_FOR_PARSING = {
    "aiohttp",
    "boto3",
    "botocore",
    "isal",
    "oauthlib",
    "openlineage",
    "psycopg",
    "redis",
    "s3fs",
    "wtforms",
}
MODULES = [
    module
    for kind in ("hooks", "operators", "sensors", "triggers")
    for entry in get_provider_info()[kind]
    for module in entry["python-modules"]
]


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
