# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Damaged files of exports, each downloaded over a real socket in some form: ``make fuzz-exports``.

Whatever is published must hold the vendor's rows, byte for byte. The seed and the number determine each case, so a
finding can be repeated: ``--first NUMBER --exports 1``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import random
import shutil
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_isvapp.errors import TransferError
from airflow_provider_isvapp.transfer.destination import local_destination
from tests.support.downloads import download_with
from tests.support.file_server import FileResponse, FileServer, export_row, gzip_bytes

SEED = 16
MONTHS = ("2024-02", "2024-03", "2024-04")
FORMS: tuple[dict[str, Any], ...] = (
    {},
    {"validate": "full"},
    {"compression": "gzip"},
    {"partition_by": "reference_date"},
)


def _flip(data: bytes, choice: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(choice.choice((1, 1, 2, 8))):
        changed[choice.randrange(len(changed))] ^= 1 << choice.randrange(8)
    return bytes(changed)


def _cut(data: bytes, choice: random.Random) -> bytes:
    return data[: choice.randrange(len(data))]


def _cut_beginning(data: bytes, choice: random.Random) -> bytes:
    return data[choice.randrange(len(data)) :]


def _drop(data: bytes, choice: random.Random) -> bytes:
    start = choice.randrange(len(data))
    return data[:start] + data[start + choice.choice((1, 2, 16, 200)) :]


def _repeat(data: bytes, choice: random.Random) -> bytes:
    start, end = sorted(choice.randrange(len(data) + 1) for _ in range(2))
    return data[:end] + data[start:]


def _swap(data: bytes, choice: random.Random) -> bytes:
    a, b, c = sorted(choice.randrange(len(data) + 1) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def _insert(data: bytes, choice: random.Random) -> bytes:
    start = choice.randrange(len(data) + 1)
    return data[:start] + choice.choice((b"\0" * 7, b"\n", b"\x1f\x8b", choice.randbytes(20))) + data[start:]


def _append_member(data: bytes, choice: random.Random) -> bytes:
    return data + gzip_bytes(choice.choice((b"", b"\n", export_row(99, MONTHS[0]) + b"\n")))


def _double(data: bytes, choice: random.Random) -> bytes:
    return data * 2


DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip, _flip, _flip, _cut, _cut_beginning, _drop, _repeat, _swap, _insert, _append_member, _double,
)  # fmt: skip


def _serialize(row: bytes, choice: random.Random) -> bytes:
    if choice.random() < 0.5:
        return row
    text = json.dumps(
        json.loads(row),
        ensure_ascii=choice.random() < 0.5,
        sort_keys=choice.random() < 0.5,
        separators=choice.choice(((",", ":"), (", ", ": "))),
    )
    return text.encode()


@dataclass(frozen=True)
class Case:
    """One damaged file.

    :param plain: the vendor's rows.
    :param body: the bytes that arrive.
    :param sizes: the sizes in the record.
    """

    plain: bytes
    body: bytes
    sizes: dict[str, int]
    form: dict[str, Any]
    response: FileResponse

    @property
    def is_hidden(self) -> bool:
        """Whether the damage cannot be detected: whole gzip members, and no size in the vendor's record."""
        if self.sizes:
            return False
        try:
            return gzip.decompress(self.body) != self.plain
        except (OSError, EOFError, zlib.error):
            return False


def make_case(number: int, seed: int = SEED) -> Case:
    """Return the case with a number."""
    choice = random.Random(f"{seed}/{number}")
    rows = [_serialize(export_row(index, choice.choice(MONTHS)), choice) for index in range(choice.randrange(1, 25))]
    end = choice.choice((b"\n", b"\n", b"\n", b"\r\n"))
    plain = end.join(rows) + choice.choice((end, end, b""))
    cut = choice.randrange(len(plain))
    members = (plain,) if choice.random() < 0.7 else (plain[:cut], plain[cut:])
    packed = gzip_bytes(*members, level=choice.choice((1, 6)))
    known = {"compressed": len(packed), "uncompressed": len(plain)}
    sizes = choice.choice((known, known, {"uncompressed": len(plain)}, {"compressed": len(packed)}, {}))
    damage = choice.choice(DAMAGES)
    if choice.random() < 0.2 and "uncompressed" in sizes:
        # Damaged before it was compressed again, or not compressed: only its size shows that.
        body = damage(plain, choice)
        body = plain[:-1] if len(body) == len(plain) else body
        if choice.random() < 0.5:
            body = gzip_bytes(body)
    else:
        body = damage(packed, choice)
    framing: dict[str, Any] = choice.choice(({}, {"chunked": True}, {"announced": len(packed)}))
    response = FileResponse(body, ranges=False, **framing)
    return Case(plain=plain, body=body, sizes=sizes, form=choice.choice(FORMS), response=response)


def published(folder: Path, case: Case) -> bytes | None:
    """Return the rows that are published, in the vendor's order; None if there is nothing."""
    files = sorted(folder.iterdir())
    if not files:
        return None
    if "partition_by" not in case.form:
        content = files[0].read_bytes()
        return gzip.decompress(content) if "compression" in case.form else content
    months = {path.name: iter(path.read_bytes().splitlines(keepends=True)) for path in files}
    lines = [next(months[json.loads(line)["reference_date"]], b"") for line in case.plain.split(b"\n") if line]
    rest = [line for left in months.values() for line in left]
    return b"".join(lines + rest)


def judge(case: Case, server: FileServer, folder: Path) -> str:
    """Download one and return the outcome; ``WRONG`` if other rows than the vendor's are published."""
    server.responses = [case.response]
    path = str(folder / ("{reference_date}" if "partition_by" in case.form else "export.gz"))
    arguments = {"attempts": 1, "log": logging.getLogger("quiet"), **case.form}
    try:
        download_with(server.source(**case.sizes), local_destination(path), **arguments)
    except TransferError as error:
        return "WRONG: left behind" if any(folder.iterdir()) else type(error).__name__
    found = published(folder, case)
    wanted = case.plain if "partition_by" not in case.form else case.plain.removesuffix(b"\n") + b"\n"
    if found == wanted:
        return "published as the vendor has made it"
    return "no size to tell it" if case.is_hidden else "WRONG"


def run(numbers: range, seed: int = SEED) -> Counter[str]:
    """Run these cases; print the numbers of those with a wrong outcome."""
    logging.getLogger("quiet").setLevel(logging.CRITICAL)
    counts: Counter[str] = Counter()
    with FileServer() as server, tempfile.TemporaryDirectory() as home:
        for number in numbers:
            folder = Path(home) / "case"
            folder.mkdir()
            verdict = judge(make_case(number, seed), server, folder)
            if verdict.startswith("WRONG"):
                print(f"case {number}: {verdict}", file=sys.stderr)
            counts[verdict] += 1
            shutil.rmtree(folder)
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exports", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    started = time.monotonic()
    counts = run(range(arguments.first, arguments.first + arguments.exports), arguments.seed)
    for verdict, count in counts.most_common():
        print(f"{count:>8} {verdict}")
    print(f"{sum(counts.values())} exports in {time.monotonic() - started:.0f} s")
    return 1 if any(verdict.startswith("WRONG") for verdict in counts) else 0


if __name__ == "__main__":
    sys.exit(main())
