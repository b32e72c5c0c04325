# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Writes rows that are already in memory: Salesforce accounts, apps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from airflow_provider_isvapp.transfer.destination import Destination
from airflow_provider_isvapp.transfer.results import WriteResult

# Small enough to be no second copy of the list, large enough that storages are not asked for every row.
_BATCH_BYTES = 256 * 1024


def write_lines(lines: Iterable[bytes], destination: Destination) -> WriteResult:
    """Write one row a line to an object, published whole or not at all.

    :param lines: the rows, each the vendor's own bytes of one JSON object without a newline.
    :param destination: where the object shall be; an older one is replaced.
    :raises StorageFailed: if the storage refused; the old object is in place then.
    """
    rows = size = 0
    with destination.staged() as staged:
        for batch, lines_in_batch in _batches(lines):
            staged.write(batch)
            rows += lines_in_batch
            size += len(batch)
    return WriteResult(path=destination.uri, rows=rows, bytes=size)


def _batches(lines: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    batch: list[bytes] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line) + 1
        if size >= _BATCH_BYTES:
            yield b"\n".join(batch) + b"\n", len(batch)
            batch, size = [], 0
    if batch:
        yield b"\n".join(batch) + b"\n", len(batch)
