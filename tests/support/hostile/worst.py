# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The time and memory that the worst responses cost a client, each in a separate process: ``make worst-responses``."""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from airflow_provider_isvapp.errors import ProviderError
from airflow_provider_isvapp.transfer.destination import local_destination
from airflow_provider_isvapp.transfer.download import download_export
from tests.support.hostile.clients import open_client
from tests.support.hostile.responses import MIB, gzip_bomb, head, whole
from tests.support.hostile.vendors import ENDPOINTS, EXPORT_ID, FILE, ROW, Vendors, export_record
from tests.support.hostile.wire_server import Drip, Seen, Silence, Step

READ_TIMEOUT = 1.0
_DEEP = b"[" * 10_000_000


def _chunked(data: bytes, *, every: float = 0.0, headers: tuple[str, ...] = ()) -> tuple[Step, ...]:
    return (head(200, "Transfer-Encoding: chunked", *headers), Drip(b"%x\r\n%b\r\n" % (len(data), data), every))


def _list_of(count: int, base_url: str) -> bytes:
    records = [export_record(base_url, export_id=f"e-{number}") for number in range(count)]
    return json.dumps({"data": records, "success": True}).encode()


def _worst(base_url: str) -> dict[str, tuple[str, Callable[[], tuple[Step, ...]]]]:
    """Return each response by name, with its endpoint."""
    escapes = json.dumps({"error": "%2541\\u0041&#65;+" * 400_000}).encode()
    rows = gzip.compress((json.dumps(ROW) + "\n").encode() * (2 * MIB), 9, mtime=0)
    return {
        "documented: 1000 exports": ("list", lambda: whole(200, _list_of(1000, base_url))),
        "2 MiB of gzip that decode to 2 GiB": (
            "list",
            lambda: whole(200, gzip_bomb(2048), "Content-Encoding: gzip"),
        ),
        "JSON without an end, as fast as it is read": ("list", lambda: _chunked(b" " * MIB)),
        "100 MB of opening brackets": ("list", lambda: whole(200, b'{"success": true, "data": ' + _DEEP * 10)),
        "a list of 200,000 exports": ("list", lambda: whole(200, _list_of(200_000, base_url))),
        "an error of 10 MB of escapes": ("list", lambda: whole(500, escapes)),
        "one byte every 20 ms": ("list", lambda: _chunked(b" ", every=0.02)),
        "100 Continue without an end": ("list", lambda: (Drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),)),
        "a header without an end": ("list", lambda: (b"HTTP/1.1 200 OK\r\nX-Long: ", Drip(b"x" * MIB))),
        "no response": ("list", lambda: (Silence(),)),
        "documented: a file of one row": ("download", lambda: whole(200, FILE)),
        "a file of more rows than its record says": ("download", lambda: whole(200, rows)),
        "a file without an end": ("download", lambda: _chunked(b"\x1f\x8b" + bytes(MIB))),
    }


def _call(endpoint: str, base_url: str) -> str:
    vendors = Vendors()
    vendors.url = base_url
    with open_client(ENDPOINTS["show"], vendors, read_timeout=READ_TIMEOUT) as client:
        try:
            if endpoint == "list":
                return f"{len(client.list_exports())} exports"
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "usage.jsonl")
                download_export(
                    partial(client.open_download, EXPORT_ID),
                    local_destination(str(path)),
                    attempts=1,
                    sleep=lambda _: None,
                )
                return f"{path.stat().st_size} bytes written"
        except ProviderError as error:
            return type(error).__name__


def _child(endpoint: str, base_url: str) -> None:
    before = _peak_memory()
    started = time.monotonic()
    outcome = _call(endpoint, base_url)
    print(json.dumps([outcome, time.monotonic() - started, _peak_memory() - before]))


def _peak_memory() -> float:
    """Return the peak memory of this process in MiB; Linux's ru_maxrss includes the parent's before the exec."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what the worst responses cost.")
    parser.add_argument("--child", nargs=2, metavar=("ENDPOINT", "URL"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        _child(*arguments.child)
        return 0
    print(f"| Response (read timeout {READ_TIMEOUT:g} s, 2 attempts) | Ends in | Seconds | Memory, MiB |")
    print("|---|---|---:|---:|")
    with Vendors() as vendors:
        for name, (endpoint, make) in _worst(vendors.url).items():
            steps = make()

            def play(_: Seen, steps: tuple[Step, ...] = steps) -> Iterable[Step]:
                return steps

            vendors.restore()
            vendors.spoil(endpoint, play)
            command = [sys.executable, "-m", __spec__.name, "--child", endpoint, vendors.url]
            child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=300)
            outcome, seconds, memory = json.loads(child.stdout.splitlines()[-1])
            print(f"| {name} | {outcome} | {seconds:.1f} | {memory:.0f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
