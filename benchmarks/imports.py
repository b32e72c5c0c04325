# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The cost of importing this provider in a DAG file: ``make bench-import``.

Each sample is a new process that has ``airflow.sdk`` and ``requests`` loaded, as every task process has, and then
imports all modules that a DAG file can name. Ends with status 1 if the median is over the limit, or if one of the
libraries that only a running task needs was loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT_MS = 100.0
MODULES = (
    "airflow_provider_isvapp.operators.isvapp",
    "airflow_provider_isvapp.operators.productiv",
    "airflow_provider_isvapp.sensors.isvapp",
    "airflow_provider_isvapp.triggers.isvapp",
    "airflow_provider_isvapp.hooks.isvapp",
    "airflow_provider_isvapp.hooks.productiv",
)
# Each costs 40 to 850 ms, or only transfers need it.
NOT_FOR_PARSING = ("aiohttp", "boto3", "botocore", "isal", "oauthlib", "psycopg", "redis", "s3fs", "wtforms")

SAMPLE = """
import json, sys, time
import airflow.sdk, requests
present = set(sys.modules)
costs = {}
for module in sys.argv[1].split(","):
    started = time.perf_counter()
    __import__(module)
    costs[module] = (time.perf_counter() - started) * 1000
print(json.dumps([costs, sorted(set(sys.modules) - present)]))
"""


def sample(environment: dict[str, str]) -> tuple[dict[str, float], list[str]]:
    """Import everything in a new process; return the milliseconds of each module and the names of what was loaded."""
    command = [sys.executable, "-c", SAMPLE, ",".join(MODULES)]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    costs, loaded = json.loads(output.splitlines()[-1])
    return costs, loaded


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=9, help="processes to start (default: 9)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="isvapp-bench-") as home:
        environment = {**os.environ, "AIRFLOW_HOME": home, "PYTHONPATH": str(ROOT)}
        sample(environment)  # writes the byte code
        samples = [sample(environment) for _ in range(arguments.samples)]
    totals = [sum(costs.values()) for costs, _ in samples]
    median = statistics.median(totals)
    for module in MODULES:
        print(f"{statistics.median(costs[module] for costs, _ in samples):8.1f} ms  {module}")
    print(
        f"{median:8.1f} ms  all (median of {len(totals)}; {min(totals):.1f} to {max(totals):.1f}), limit {LIMIT_MS:.0f}"
    )
    heavy = sorted({name for _, loaded in samples for name in NOT_FOR_PARSING if name in loaded})
    if heavy:
        print(f"loaded although no DAG file needs them: {', '.join(heavy)}")
    return 1 if heavy or median > LIMIT_MS else 0


if __name__ == "__main__":
    sys.exit(main())
