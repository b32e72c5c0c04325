# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The gzip files of exports, written once in a thread and streamed from disk."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
import weakref
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from airflow_provider_isvapp.emulator.config import EmulatorConfig
from airflow_provider_isvapp.emulator.data import ndjson
from airflow_provider_isvapp.emulator.export_requests import ExportRequest
from airflow_provider_isvapp.emulator.faults import Fault, FaultKind

_GZIP = 31  # zlib's window size of 32 KiB, plus 16 for the gzip format; the header then holds no time of writing
_LEVEL = 1
"""The fastest; the rows hold as much chance as it takes to compress about 12:1 with it."""


@dataclass(frozen=True)
class SpoolFile:
    """An export's file; ``tag`` is what its ETag says."""

    path: Path
    plain_bytes: int
    compressed_bytes: int
    tag: str


class Spool:
    """Writes each export's file once, however many exports ask for the same rows."""

    def __init__(self, config: EmulatorConfig) -> None:
        self._config = config
        if config.spool_dir is not None:
            Path(config.spool_dir).mkdir(parents=True, exist_ok=True)
        self._directory = Path(tempfile.mkdtemp(prefix="isvapp-emulator-", dir=config.spool_dir))
        # Called by close(), or at the latest when the process ends.
        self._remove = weakref.finalize(self, shutil.rmtree, self._directory, ignore_errors=True)
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="isvapp-emulator-spool")
        self._files: dict[ExportRequest, Future[SpoolFile]] = {}
        self._damaged: dict[tuple[str, tuple[Fault, ...]], Future[SpoolFile]] = {}
        self._closed = threading.Event()

    def file(self, request: ExportRequest) -> Future[SpoolFile]:
        """Return the file for these rows; the first call starts writing it."""
        if request not in self._files:
            self._files[request] = self._threads.submit(self._write, request)
        return self._files[request]

    def damaged(self, file: SpoolFile, faults: tuple[Fault, ...]) -> Future[SpoolFile]:
        """Return a copy of a file that the faults have damaged, under the same tag."""
        key = (file.tag, faults)
        if key not in self._damaged:
            path = self._directory / f"{file.tag}.damaged-{len(self._damaged)}"
            self._damaged[key] = self._threads.submit(_damage, file, path, faults)
        return self._damaged[key]

    def close(self) -> None:
        """Remove all files; one that is being written is given up."""
        self._closed.set()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._remove()

    def _write(self, request: ExportRequest) -> SpoolFile:
        tag = hashlib.sha256(f"{self._config}/{request}".encode()).hexdigest()[:20]
        path = self._directory / f"{tag}.gz"
        plain_bytes = compressed_bytes = 0
        with path.open("wb") as file, ThreadPoolExecutor(1) as generator:
            member = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
            for block in _ahead(ndjson(self._config, request), generator):
                *members, rest = self._pieces(block) if not plain_bytes else [block]
                for piece in members:
                    compressed_bytes += file.write(member.compress(piece) + member.flush())
                    member = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
                compressed_bytes += file.write(member.compress(rest))
                plain_bytes += len(block)
                if self._closed.is_set():
                    raise InterruptedError("the emulator was stopped")
            if plain_bytes or self._config.empty_file == "gzip":
                compressed_bytes += file.write(member.flush())
        return SpoolFile(path, plain_bytes, compressed_bytes, tag)

    def _pieces(self, block: bytes) -> list[bytes]:
        """Cut the first block so that all members but the last are in it; the cuts fall within rows."""
        size = len(block) // self._config.gzip_members
        cuts = [size * number for number in range(self._config.gzip_members)]
        return [block[start:stop] for start, stop in zip(cuts, [*cuts[1:], None], strict=True)]


def _ahead(blocks: Iterator[bytes], generator: ThreadPoolExecutor) -> Iterable[bytes]:
    """Make the next block in a second thread while the caller compresses: zlib lets go of the interpreter's lock."""
    coming = generator.submit(next, blocks, b"")
    while block := coming.result():
        coming = generator.submit(next, blocks, b"")
        yield block


def _damage(file: SpoolFile, path: Path, faults: tuple[Fault, ...]) -> SpoolFile:
    shutil.copyfile(file.path, path)
    with path.open("r+b") as copy:
        for fault in faults:
            size = copy.seek(0, os.SEEK_END)
            if fault.kind == FaultKind.APPEND:
                copy.write((fault.message or "").encode())
            elif fault.kind == FaultKind.TRUNCATE:
                copy.truncate(fault.position(size))
            elif size:
                offset = min(fault.position(size), size - 1)
                copy.seek(offset)
                byte = copy.read(1)[0]
                copy.seek(offset)
                copy.write(bytes([byte ^ 1]))
        size = copy.seek(0, os.SEEK_END)
    return replace(file, path=path, compressed_bytes=size)
