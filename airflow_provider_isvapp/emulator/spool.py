# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The gzip files of exports, written once in a thread and streamed from disk."""

from __future__ import annotations

import hashlib
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_isvapp.emulator.config import EmulatorConfig
from airflow_provider_isvapp.emulator.export_order import ExportOrder
from airflow_provider_isvapp.emulator.rows import ndjson

_GZIP = 31  # zlib's window size of 32 KiB, plus 16 for the gzip format; the header then holds no time of writing
_LEVEL = 1


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
        self._directory = tempfile.TemporaryDirectory(prefix="isvapp-emulator-", dir=config.spool_dir)
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="isvapp-emulator-spool")
        self._files: dict[ExportOrder, Future[SpoolFile]] = {}

    def file(self, order: ExportOrder) -> Future[SpoolFile]:
        """Return the file for these rows; the first call starts writing it."""
        if order not in self._files:
            self._files[order] = self._threads.submit(self._write, order)
        return self._files[order]

    def close(self) -> None:
        """Remove all files."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._directory.cleanup()

    def _write(self, order: ExportOrder) -> SpoolFile:
        blocks = ndjson(self._config, order)
        tag = hashlib.sha256(f"{self._config.seed}/{self._config.rows}/{order}".encode()).hexdigest()[:20]
        path = Path(self._directory.name, f"{tag}.gz")
        compressed_bytes = 0
        plain = _Counted(blocks)
        with path.open("wb") as file:
            for chunk in self._compressed(plain):
                compressed_bytes += file.write(chunk)
        return SpoolFile(path, plain.total, compressed_bytes, tag)

    def _compressed(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        compressor = None
        for block in blocks:
            compressor = compressor or zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
            yield compressor.compress(block)
        if compressor is None and self._config.empty_file == "nothing":
            return
        yield (compressor or zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)).flush()


class _Counted:
    """Passes blocks on and adds up their lengths."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = blocks
        self.total = 0

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self.total += len(block)
            yield block
