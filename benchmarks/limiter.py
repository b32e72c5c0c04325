# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""How well limiters keep eight processes to two requests per second: ``make bench-limiter``.

Each limiter's processes send requests as fast as it allows, to a server that records the arrivals; once
directly, and once with a random delay of up to 150 ms before each arrival, as in a network. All limiters run here, one
after the other, against the same servers. Ends with status 1 if this provider's limiter misses its goals.
"""

from __future__ import annotations

import argparse
import http.client
import importlib.metadata
import itertools
import multiprocessing
import multiprocessing.synchronize
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from limiter_arrivals import Arrival, serve  # noqa: E402
from limiter_contenders import CONTENDERS, OURS, PER_SECOND, Places  # noqa: E402

from tests.support.services import PostgresqlServer, RedisServer  # noqa: E402

CALLERS = 8
DELAYS = {"none": 0.0, "0-150 ms": 0.15}
LEAST_USE = {"none": 0.95, "0-150 ms": 0.90}
TABLE_HEAD = """\
| limiter | added delay | rate used | most arrivals in 1,000 ms | served, least / most | longest pause of a caller, s |
| --- | --- | --- | --- | --- | --- |"""
DOCUMENT = ROOT / "docs" / "limiter.md"
BEGIN, END = "<!-- bench-limiter: begin -->\n", "<!-- bench-limiter: end -->"

spawn = multiprocessing.get_context("spawn")


@dataclass(frozen=True, kw_only=True)
class Result:
    """The server's measurements of one limiter."""

    limiter: str
    delay: str
    used: float
    most_in_a_second: int
    least_served: int
    most_served: int
    longest_pause: float

    def row(self) -> str:
        return (
            f"| {self.limiter} | {self.delay} | {self.used:.3f} | {self.most_in_a_second} |"
            f" {self.least_served} / {self.most_served} | {self.longest_pause:.1f} |"
        )

    def misses(self) -> Iterable[str]:
        """Return the goals that it misses."""
        if self.most_in_a_second > PER_SECOND:
            yield f"{self.most_in_a_second} arrivals in one second"
        if self.used < LEAST_USE[self.delay]:
            yield f"used {self.used:.3f} of the rate, not {LEAST_USE[self.delay]}"
        if 2 * self.least_served < self.most_served:
            yield f"served {self.least_served} to {self.most_served}"


def main() -> int:
    arguments = parse_arguments()
    results = []
    with RedisServer() as redis, PostgresqlServer() as postgresql:
        for name in arguments.only or CONTENDERS:
            for delay in DELAYS:
                with tempfile.TemporaryDirectory() as directory:
                    places = Places(Path(directory), redis.url, postgresql.url)
                    result = measure(name, delay, places, arguments.seconds)
                results.append(result)
                print(result.row() if len(results) > 1 else f"{TABLE_HEAD}\n{result.row()}", flush=True)
    print(f"\n{circumstances(arguments.seconds)}")
    if arguments.write:
        write([TABLE_HEAD, *(result.row() for result in results), "", circumstances(arguments.seconds)])
    measured_ours = [result for result in results if result.limiter in OURS]
    missed = [f"{result.limiter}, delay {result.delay}: {miss}" for result in measured_ours for miss in result.misses()]
    if measured_ours:
        print("\n".join(["Goals missed:", *missed]) if missed else "All goals of this provider's limiter are met.")
    return 1 if missed else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each measurement")
    parser.add_argument("--only", action="append", choices=CONTENDERS, help="one limiter; may be repeated")
    parser.add_argument("--write", action="store_true", help=f"put the table into {DOCUMENT.relative_to(ROOT)}")
    return parser.parse_args()


def measure(limiter: str, delay: str, places: Places, seconds: float) -> Result:
    """Run all callers against a new server for a number of seconds."""
    control, servers_end = spawn.Pipe()
    server = spawn.Process(target=serve, args=(servers_end, DELAYS[delay]), daemon=True)
    server.start()
    port = control.recv()
    # All processes have imported and connected when the clock starts.
    start = spawn.Barrier(CALLERS + 1)
    callers = [
        spawn.Process(target=call, args=(limiter, places, port, number, start), daemon=True)
        for number in range(CALLERS)
    ]
    for caller in callers:
        caller.start()
    start.wait(120)
    begin = time.monotonic()
    time.sleep(seconds)
    for caller in callers:
        caller.kill()
        caller.join()
    control.send("stop")
    arrivals: list[Arrival] = control.recv()
    server.join()
    return evaluate(limiter, delay, begin, begin + seconds, arrivals)


def call(limiter: str, places: Places, port: int, number: int, start: multiprocessing.synchronize.Barrier) -> None:
    """Send requests until killed: one caller process."""
    try:
        permit = CONTENDERS[limiter](places)
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.connect()
    except BaseException:
        start.abort()
        raise
    start.wait(120)
    while True:
        with permit():
            connection.request("GET", f"/{number}")
            response = connection.getresponse()
        response.read()


def evaluate(limiter: str, delay: str, begin: float, end: float, arrivals: list[Arrival]) -> Result:
    times = sorted(arrival.at for arrival in arrivals if arrival.at < end)
    served = Counter(arrival.caller for arrival in arrivals if arrival.at < end)
    pauses = []
    for caller in range(CALLERS):
        own = [begin, *sorted(arrival.at for arrival in arrivals if arrival.caller == caller), end]
        pauses += [later - earlier for earlier, later in itertools.pairwise(own)]
    # The mean distance from each arrival to the next but one is a second at the full rate, whether they come in pairs
    # or evenly; counting arrivals in a short time would be off by one in forty.
    distances = [later - earlier for earlier, later in zip(times, times[PER_SECOND:], strict=False)]
    return Result(
        limiter=limiter,
        delay=delay,
        used=len(distances) / sum(distances),
        most_in_a_second=max(sum(at <= other < at + 1 for other in times) for at in times),
        least_served=min(served[caller] for caller in range(CALLERS)),
        most_served=max(served.values()),
        longest_pause=max(pauses),
    )


def circumstances(seconds: float) -> str:
    packages = ("pyrate-limiter", "limits", "redis", "psycopg")
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
    machine = f"{os.cpu_count()} cores ({platform.system()} {platform.machine()})"
    return (
        f"{CALLERS} processes, {PER_SECOND} requests per second, {seconds:g} s each; Python {platform.python_version()}"
        f" on {machine}, Valkey and PostgreSQL on the same machine; {versions}."
    )


def write(lines: Iterable[str]) -> None:
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{DOCUMENT} has no place for the table: {BEGIN!r} and {END!r} are missing")
    DOCUMENT.write_text(before + BEGIN + "\n".join(lines) + "\n" + end + after)


if __name__ == "__main__":
    sys.exit(main())
