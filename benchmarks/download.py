# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""How fast an export comes to a file and to S3, and in how much memory: ``make bench-download``.

Serves one export on loopback and brings it to storage in every way there is to compare, in turns, each in a process of
its own. Prints medians as Markdown tables. Ends with status 1 if this provider misses one of its goals.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from download_contenders import TO_FILE, TO_S3, boto3_client
from download_server import write_export

from tests.support.ceph_gateway import ceph_gateway, missing_programs

HERE = Path(__file__).resolve().parent
BUCKET = "bench"
OURS = "this provider"
GUNZIP, IGZIP = "curl \\| gunzip", "curl \\| igzip -d"
FILEOBJ, S3FS = "boto3 upload_fileobj, upload only", "s3fs open(wb), upload only"
MEMORY_GOAL_MIB = 64.0
# Times as fast as the other, at least.
GOALS = {GUNZIP: 4.0, IGZIP: 0.9, FILEOBJ: 1.0, S3FS: 2.0}


@dataclass(frozen=True, kw_only=True)
class Result:
    """Medians of one contender."""

    name: str
    seconds: float
    mib: float
    cpu: float

    def row(self, plain_bytes: int, ours: Result) -> str:
        # Of a pipe of other programs only the shell's parent is measured.
        memory = "-" if "curl" in self.name else f"{self.mib:.0f}"
        return (
            f"| {self.name} | {self.seconds:.2f} | {plain_bytes / self.seconds / 1e6:.0f} |"
            f" {self.seconds / ours.seconds:.2f} | {self.cpu:.2f} | {memory} |"
        )


def measure(
    names: Sequence[str], rounds: int, arguments: Sequence[str], target: str, remove: Callable[[], object]
) -> dict[str, Result]:
    """Run the contenders in turns, so that a slow minute of the machine hits all of them.

    :param remove: takes away what the run before has written.
    """
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names:
            print(f"\rround {number + 1} of {rounds}: {name:<40}", end="", file=sys.stderr, flush=True)
            command = [sys.executable, str(HERE / "download_contenders.py"), name, arguments[0], target]
            command += arguments[1:]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            samples[name].append(json.loads(output.splitlines()[-1]))
            remove()
    print(file=sys.stderr)
    return {
        name: Result(
            name=name, **{key: statistics.median(run[key] for run in runs) for key in ("seconds", "mib", "cpu")}
        )
        for name, runs in samples.items()
    }


def table(title: str, results: dict[str, Result], plain_bytes: int) -> str:
    head = (
        f"{title}\n\n| way | seconds | MB/s of ndjson | times our seconds | CPU seconds | MiB above the import |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
    )
    return head + "\n".join(result.row(plain_bytes, results[OURS]) for result in results.values()) + "\n"


def misses(results: dict[str, Result]) -> Iterator[str]:
    """Say which goals are missed."""
    ours = results[OURS]
    for other, goal in GOALS.items():
        if other in results and results[other].seconds / ours.seconds < goal:
            yield f"{results[other].seconds / ours.seconds:.2f} times as fast as {other}, not {goal}"
    if ours.mib > MEMORY_GOAL_MIB:
        yield f"{ours.mib:.0f} MiB, not {MEMORY_GOAL_MIB:.0f}"


@contextmanager
def serving(file: Path, plain_bytes: int) -> Iterator[str]:
    command = [sys.executable, str(HERE / "download_server.py"), str(file), str(plain_bytes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


@contextmanager
def moto() -> Iterator[str]:
    """moto's server in a process of its own."""
    code = (
        "import sys; from moto.server import ThreadedMotoServer;"
        " server = ThreadedMotoServer('127.0.0.1', 0, verbose=False);"
        " server.start(); print(server.get_host_and_port()[1], flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()
            process.terminate()


def warm_up(s3: str) -> Any:
    """Make the bucket, and let the server load what it loads when it is first asked; return a client."""
    client = boto3_client(s3)
    client.create_bucket(Bucket=BUCKET)
    client.upload_fileobj(io.BytesIO(bytes(20_000_000)), BUCKET, "warm-up")
    return client


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1_200, help="plain size to a file (default: 1200)")
    parser.add_argument("--s3-megabytes", type=int, default=300, help="plain size to S3, 0 for none (default: 300)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (default: 5)")
    arguments = parser.parse_args()
    failed = []
    with tempfile.TemporaryDirectory(prefix="isvapp-bench-") as folder:
        home = Path(folder)
        names = [name for name in TO_FILE if runs_here(name)]
        plain_bytes = write_export(home / "export.gz", arguments.megabytes * 1_000_000)
        print(machine(), "\n")
        with serving(home / "export.gz", plain_bytes) as server:
            target = home / "export.ndjson"
            results = measure(names, arguments.rounds, [server], str(target), target.unlink)
        size = (home / "export.gz").stat().st_size
        print(
            table(f"To a file: {size / 1e6:.0f} MB of gzip, {plain_bytes / 1e6:.0f} MB of ndjson", results, plain_bytes)
        )
        failed += list(misses(results))
        if arguments.s3_megabytes:
            plain_bytes = write_export(home / "export.gz", arguments.s3_megabytes * 1_000_000)
            subprocess.run(["bash", "-c", f"gunzip < {home}/export.gz > {home}/plain"], check=True)
            kind, start = ("moto's server", moto) if missing_programs() else ("Ceph's object gateway", ceph_gateway)
            with serving(home / "export.gz", plain_bytes) as server, start() as s3:
                client = warm_up(s3)
                key = "export.ndjson"
                remove = partial(client.delete_object, Bucket=BUCKET, Key=key)
                arguments_of_all = [server, s3, str(home / "plain")]
                results = measure(list(TO_S3), arguments.rounds, arguments_of_all, f"{BUCKET}/{key}", remove)
            print(table(f"To S3 ({kind}): {plain_bytes / 1e6:.0f} MB of ndjson", results, plain_bytes))
            failed += list(misses(results))
    for miss in failed:
        print(f"Missed: {miss}")
    return 1 if failed else 0


def runs_here(name: str) -> bool:
    if "igzip" in name and shutil.which("igzip") is None:
        print("igzip is not installed (Debian: apt-get install isal): left out", file=sys.stderr)
        return False
    return "Parquet" not in name or find_spec("pyarrow") is not None


def machine() -> str:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}, load before: {load}"


if __name__ == "__main__":
    sys.exit(main())
