# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Time and memory of a list as ndjson and as Parquet, each in a separate process."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from airflow_provider_isvapp.api.schema.fields import Object
from airflow_provider_isvapp.api.schema.isvapp import salesforce_account
from airflow_provider_isvapp.api.schema.productiv import AppDetails
from airflow_provider_isvapp.emulator.data import account_rows, rows_to_json
from airflow_provider_isvapp.emulator.productiv import app_rows
from airflow_provider_isvapp.transfer.destination import local_destination
from airflow_provider_isvapp.transfer.lists import write_list
from airflow_provider_isvapp.transfer.options import WriteOptions

COUNTS = {"apps": 5_000, "accounts": 100_000}


def rows_of(name: str) -> tuple[list[bytes], type[Object]]:
    count = COUNTS[name]
    if name == "apps":
        rows, row_type = app_rows(1, count, include_inactive=True, verbose=True), AppDetails
    else:
        rows = account_rows(1, count, include_health_scores=True, include_subscriber_orgs=True)
        row_type = salesforce_account(health_scores=True, subscriber_orgs=True)  # type: ignore[assignment]
    return [row.encode() for row in rows_to_json(rows)], row_type


def peak() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 1024 if sys.platform == "linux" else used / 1024**2


def measure(name: str, output_format: str) -> None:
    rows, row_type = rows_of(name)
    if output_format == "parquet":
        import pyarrow.json
        import pyarrow.parquet  # noqa: F401 - what it takes to be imported is not counted
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list"
        before, started = peak(), time.perf_counter()
        write_list(
            rows,
            local_destination(str(path)),
            dataset=name,
            row_type=row_type,
            options=WriteOptions(output_format=output_format),  # type: ignore[arg-type]
        )
        seconds = time.perf_counter() - started
        plain = sum(map(len, rows)) + len(rows)
        print(
            f"| {len(rows):,} {name} | {output_format} | {plain / 1e6:.0f} MB | {path.stat().st_size / 1e6:.1f} MB "
            f"| {seconds:.1f} s | {peak() - before:.0f} MiB |",
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("list", nargs="?", choices=COUNTS)
    parser.add_argument("format", nargs="?", choices=("ndjson", "parquet"))
    arguments = parser.parse_args()
    if arguments.format:
        measure(arguments.list, arguments.format)
        return 0
    print(
        "| list | format | rows | stored | time | memory above the rows |\n| --- | --- | --- | --- | --- | --- |",
        flush=True,
    )
    for name in COUNTS:
        for output_format in ("ndjson", "parquet"):
            subprocess.run([sys.executable, __file__, name, output_format], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
