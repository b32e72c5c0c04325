# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Time and memory of an export's download to a file and to S3: ``make bench-download``.

Serves one export on loopback and writes it to storage in every compared way, in turns, each in a separate process; to a
file on a memory disk, once for each shape that rows may have. Prints the best and the median of all rounds as the
Markdown tables of docs/data-path.md; ``--write`` updates them there. Exits with status 1 if the best round of this
provider misses one of its goals.
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

from download_contenders import ALONE, MORE_TO_FILE, TO_FILE, TO_S3, boto3_client
from download_server import SHAPES, write_export

from tests.support.ceph_gateway import ceph_gateway, missing_programs

HERE = Path(__file__).resolve().parent
MEMORY_DISK = Path("/dev/shm")
BUCKET = "bench"
OURS, BY_MONTH, PARQUET = "this provider", "this provider, by month", "this provider, Parquet"
GUNZIP, IGZIP = "curl \\| gunzip", "curl \\| igzip -d"
DUCKDB = "DuckDB, Parquet from a file"
FILEOBJ, S3FS = "boto3 upload_fileobj, upload only", "s3fs open(wb), upload only"
CHECK, ISAL = "the check", "isal decompresses"
CHECK_WITHOUT, ZLIB = "the check without the extra", "zlib decompresses"
MEMORY_GOAL_MIB = 64.0
PAGE = HERE.parent / "docs" / "data-path.md"
BEGIN, END = "<!-- Written by make bench-download ARGS=--write -->\n", "<!-- End of what it writes -->\n"
# A contender, and how many times as fast as another one it must be.
GOALS = [
    (OURS, GUNZIP, 4.0),
    (OURS, IGZIP, 0.9),
    (BY_MONTH, GUNZIP, 2.5),
    (PARQUET, DUCKDB, 0.8),
    (CHECK, ISAL, 1.0),
    (CHECK_WITHOUT, ZLIB, 1.0),
    (OURS, FILEOBJ, 1.0),
    (OURS, S3FS, 2.0),
]


@dataclass(frozen=True, kw_only=True)
class Result:
    """The measurements of one contender, by round."""

    name: str
    seconds: list[float]
    cpu: list[float]
    mib: list[float]

    @property
    def best(self) -> float:
        return min(self.seconds)

    def row(self, plain_bytes: int, reference: Result) -> str:
        # For a pipe of other programs, only their shell is measured.
        memory = "-" if "curl" in self.name else f"{statistics.median(self.mib):.0f}"
        return (
            f"| {self.name} | {self.best:.2f} / {statistics.median(self.seconds):.2f} |"
            f" {plain_bytes / self.best / 1e6:.0f} | {reference.best / self.best:.2f} |"
            f" {min(self.cpu):.2f} / {statistics.median(self.cpu):.2f} | {memory} |"
        )


def measure(
    names: Sequence[str], rounds: int, arguments: Sequence[str], target: str, remove: Callable[[], object]
) -> dict[str, Result]:
    """Run the contenders in turns, so that a slow minute of the machine affects all of them.

    :param remove: removes the output of the previous run.
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
        name: Result(name=name, **{key: [run[key] for run in runs] for key in ("seconds", "cpu", "mib")})
        for name, runs in samples.items()
    }


def table(title: str, results: dict[str, Result], plain_bytes: int, reference: str) -> str:
    head = (
        f"{title}:\n\n| way | seconds, best / median | MB/s of ndjson | times as fast as {reference} |"
        " CPU seconds, best / median | MiB above the import |\n| --- | --- | --- | --- | --- | --- |\n"
    )
    return head + "\n".join(result.row(plain_bytes, results[reference]) for result in results.values()) + "\n"


def ratio(results: dict[str, Result], one: str, other: str) -> str:
    """Return how many times as fast the one is as the other, if both run here."""
    return f"{results[other].best / results[one].best:.2f}" if one in results and other in results else "-"


def shapes_table(results: dict[str, dict[str, Result]]) -> str:
    """Return a row for each shape."""
    columns = [(OURS, GUNZIP), (OURS, IGZIP), (BY_MONTH, GUNZIP), (CHECK, ISAL), (CHECK_WITHOUT, ZLIB)]
    names = [f"{one} : {other}" for one, other in columns]
    head = ["rows", "seconds", "CPU seconds", "by month", *names]
    lines = [
        [
            shape,
            f"{of[OURS].best:.2f}",
            f"{min(of[OURS].cpu):.2f}",
            f"{of[BY_MONTH].best:.2f}",
            *(ratio(of, *pair) for pair in columns),
        ]
        for shape, of in results.items()
    ]
    title = "Each shape of rows, and how many times as fast the first of two is as the second:\n\n"
    return title + "".join(f"| {' | '.join(line)} |\n" for line in [head, ["---"] * len(head), *lines])


def misses(title: str, results: dict[str, Result]) -> Iterator[str]:
    """Return the goals that are missed."""
    for one, other, goal in GOALS:
        if one in results and other in results and (ratio := results[other].best / results[one].best) < goal:
            yield f"{title}: {one} is {ratio:.2f} times as fast as {other}, not {goal}"
    if OURS in results and (mib := max(results[OURS].mib)) > MEMORY_GOAL_MIB:
        yield f"{title}: {mib:.0f} MiB, not {MEMORY_GOAL_MIB:.0f}"


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
    """moto's server in a separate process."""
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
    """Create the bucket, so that the server has loaded its modules, and return a client."""
    client = boto3_client(s3)
    client.create_bucket(Bucket=BUCKET)
    client.upload_fileobj(io.BytesIO(bytes(20_000_000)), BUCKET, "warm-up")
    return client


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=600, help="plain size to a file (default: 600)")
    parser.add_argument("--s3-megabytes", type=int, default=300, help="plain size to S3, 0 for none (default: 300)")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each (default: 7)")
    parser.add_argument("--quick", action="store_true", help="100 MB, three rounds, no S3")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.megabytes, arguments.s3_megabytes, arguments.rounds = 100, 0, 3
    failed: list[str] = []
    tables: list[str] = []
    of_shapes: dict[str, dict[str, Result]] = {}
    about = machine(arguments.rounds)
    with tempfile.TemporaryDirectory(prefix="isvapp-bench-", dir=MEMORY_DISK) as folder:
        home = Path(folder)
        for shape in SHAPES:
            print(f"Rows: {shape}", file=sys.stderr)
            plain_bytes = write_export(home / "export.gz", arguments.megabytes * 1_000_000, shape)
            size = (home / "export.gz").stat().st_size
            names = [name for name in (TO_FILE | MORE_TO_FILE if shape == SHAPES[0] else TO_FILE) if runs_here(name)]
            if DUCKDB in names:
                subprocess.run(["bash", "-c", f"gunzip < {home}/export.gz > {home}/export.plain"], check=True)
            with serving(home / "export.gz", plain_bytes) as server:
                target = home / "export"
                results = measure(names, arguments.rounds, [server], str(target), partial(remove_written, target))
            alone = measure(list(ALONE), arguments.rounds, [str(home / "export.gz")], "-", lambda: None)
            of_shapes[str(shape)] = results | alone
            failed += list(misses(str(shape), results | alone))
            if not tables:
                title = f"To a file, {shape}, {size / 1e6:.0f} MB of gzip, {plain_bytes / 1e6:.0f} MB of ndjson"
                tables.append(table(title, results, plain_bytes, GUNZIP))
            (home / "export.plain").unlink(missing_ok=True)
        tables.append(shapes_table(of_shapes))
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
            tables.append(table(f"To S3 ({kind}), {plain_bytes / 1e6:.0f} MB of ndjson", results, plain_bytes, FILEOBJ))
            failed += list(misses("S3", results))
    text = "\n".join([f"{about}\n", *tables])
    print(text)
    if arguments.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
    for miss in failed:
        print(f"Missed: {miss}")
    return 1 if failed else 0


def runs_here(name: str) -> bool:
    if "igzip" in name and shutil.which("igzip") is None:
        print("igzip is not installed (Debian: apt-get install isal): left out", file=sys.stderr)
        return False
    if "DuckDB" in name:
        return find_spec("duckdb") is not None
    return "Parquet" not in name or find_spec("pyarrow") is not None


def remove_written(target: Path) -> None:
    """Remove a file, or the folder of the months."""
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
    for folder in Path(tempfile.gettempdir()).glob(f"{str(target).replace('/', '-')}-*"):
        shutil.rmtree(folder)


def machine(rounds: int) -> str:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{rounds} rounds, {os.cpu_count()} cores, load before {load}, {platform.system()} {platform.release()},"
        f" Python {platform.python_version()}."
    )


if __name__ == "__main__":
    sys.exit(main())
