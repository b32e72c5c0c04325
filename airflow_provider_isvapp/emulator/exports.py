# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The exports, their records at the current time, and their gzip files, which threads write and downloads stream.

No timer runs: the state of an export follows from the clock, so a test that advances the clock advances the exports.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import secrets
import shutil
import tempfile
import threading
import time
import uuid
import weakref
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow_provider_isvapp.emulator.config import Clock, EmulatorConfig
from airflow_provider_isvapp.emulator.data import ExportRequest, ndjson
from airflow_provider_isvapp.emulator.faults import Fault, FaultKind
from airflow_provider_isvapp.emulator.http import ErrorResponse

_GZIP = 31  # zlib's window size of 32 KiB, plus 16 for the gzip format; the header then holds no time of writing
_LEVEL = 1
"""The fastest level. The rows are random enough to compress about 12:1, as the vendor's do."""


@dataclass(frozen=True)
class SpoolFile:
    """The file of an export; ``tag`` is the value of its ETag."""

    path: Path
    plain_bytes: int
    compressed_bytes: int
    tag: str


class Spool:
    """Writes the files of exports. Exports with the same rows share one file."""

    def __init__(self, config: EmulatorConfig) -> None:
        self._config = config
        if config.spool_dir is not None:
            Path(config.spool_dir).mkdir(parents=True, exist_ok=True)
        self._directory = Path(tempfile.mkdtemp(prefix="isvapp-emulator-", dir=config.spool_dir))
        # Called by close(), or when the process ends.
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
        """Return a damaged copy of a file, with the same tag."""
        key = (file.tag, faults)
        if key not in self._damaged:
            path = self._directory / f"{file.tag}.damaged-{len(self._damaged)}"
            self._damaged[key] = self._threads.submit(_damage, file, path, faults)
        return self._damaged[key]

    def close(self) -> None:
        """Remove all files, and stop writing."""
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
        """Split the first block into all members but the last, within rows."""
        size = len(block) // self._config.gzip_members
        cuts = [size * number for number in range(self._config.gzip_members)]
        return [block[start:stop] for start, stop in zip(cuts, [*cuts[1:], None], strict=True)]


def _ahead(blocks: Iterator[bytes], generator: ThreadPoolExecutor) -> Iterable[bytes]:
    """Generate the next block in a thread while the caller compresses: zlib releases the GIL."""
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


RECENT = 1000
_FILE_TIMEOUT = 5.0
"""How long a request waits for a file that is due but still being written. Then the response is PENDING."""


@dataclass(eq=False, kw_only=True)
class Export:
    """One export. ``error`` is the message of an export that fails; ``expired`` is true if it expires early."""

    id: str
    request: ExportRequest
    created_at: datetime
    due_at: datetime
    file: Future[SpoolFile]
    written_at: datetime | None = None
    error: str | None = None
    expired: bool = False

    @property
    def is_written(self) -> bool:
        """Whether writing its file has finished or failed."""
        return self.written_at is not None and self.file.done()


class Exports:
    """All exports since the last :meth:`clear`.

    :param token_mark: a part of each download token.
    """

    def __init__(self, config: EmulatorConfig, clock: Clock, spool: Spool, token_mark: str) -> None:
        self._config = config
        self._clock = clock
        self._spool = spool
        self._token_mark = token_mark
        self._exports: dict[str, Export] = {}
        self._key = secrets.token_bytes(32)
        self.created = 0

    def create(self, request: ExportRequest, *, error: str | None = None, expired: bool = False) -> Export:
        """Create an export; its file is written in a thread."""
        now = self._clock.now()
        export = Export(
            id=str(uuid.uuid4()),
            request=request,
            created_at=now,
            due_at=now + timedelta(seconds=self._config.export_seconds),
            file=self._spool.file(request),
            error=error,
            expired=expired,
        )

        # Writing takes real time, even if a test advances the emulator's clock meanwhile.
        started = time.monotonic()

        def written(_: Future[SpoolFile]) -> None:
            export.written_at = min(self._clock.now(), now + timedelta(seconds=time.monotonic() - started))

        export.file.add_done_callback(written)
        self._exports[export.id] = export
        self.created += 1
        return export

    def get(self, export_id: str) -> Export:
        """Return an export.

        :raises ErrorResponse: 404 if it does not exist.
        """
        try:
            return self._exports[export_id]
        except KeyError:
            raise ErrorResponse(404, f"There is no export {export_id}.") from None

    def content(self, export_id: str) -> Iterator[bytes]:
        """Return the plain ndjson of an export in blocks.

        :raises KeyError: there is no export with this id.
        """
        return ndjson(self._config, self._exports[export_id].request)

    def recent(self) -> list[Export]:
        """Return the most recent exports, newest first."""
        return list(reversed(self._exports.values()))[:RECENT]

    def clear(self) -> None:
        """Remove all exports."""
        self._exports.clear()
        self.created = 0

    async def change_file(self, export: Export) -> None:
        """Replace the file of an export by one with other rows."""
        request = replace(export.request, version=export.request.version + 1)
        file = self._spool.file(request)
        await _written({file})
        export.request, export.file = request, file

    async def wait_for_files(self, exports: Iterable[Export]) -> None:
        """Wait briefly for the files of the exports that are due."""
        now = self._clock.now()
        unwritten = {export.file for export in exports if now >= export.due_at and not export.is_written}
        if unwritten:
            await _written(unwritten, seconds=_FILE_TIMEOUT)

    def new_record(self, export: Export, base_url: str) -> dict[str, Any]:
        """Return the record in the response to a create request, which is always PENDING."""
        return {
            "id": export.id,
            "type": export.request.type,
            "status": "PENDING",
            "url": f"{base_url}/api/v1/exports/{export.id}",
            "download_url": None,
            "created_at": _stamp(export.created_at),
            "completed_at": None,
            "expires_at": None,
            "is_expired": False,
            "download_size_compressed_bytes": None,
            "download_size_uncompressed_bytes": None,
            "error_message": None,
            "errored_at": None,
        }

    def record(self, export: Export, base_url: str) -> dict[str, Any]:
        """Return the current record.

        :param base_url: the scheme, host and port that the caller used.
        """
        record = self.new_record(export, base_url)
        if self._clock.now() < export.due_at or not export.is_written:
            return record
        error = export.error or _write_error(export.file)
        if error is not None:
            return record | {"status": "ERRORED", "error_message": error, "errored_at": _stamp(export.due_at)}
        file = export.file.result()
        is_expired = self.is_expired(export)
        return record | {
            "status": "COMPLETED",
            "download_url": None if is_expired else f"{record['url']}/download/{self._download_token(export)}",
            "completed_at": _stamp(self._completed_at(export)),
            "expires_at": _stamp(self._expires_at(export)),
            "is_expired": is_expired,
            "download_size_compressed_bytes": file.compressed_bytes,
            "download_size_uncompressed_bytes": file.plain_bytes,
        }

    def records(self, base_url: str) -> dict[str, dict[str, Any]]:
        """Return the record of each export by id, in the order of creation, with the create request as ``request``."""
        return {
            export.id: self.record(export, base_url) | {"request": asdict(export.request)}
            for export in self._exports.values()
        }

    def is_expired(self, export: Export) -> bool:
        """Whether the file can no longer be downloaded."""
        return export.expired or self._clock.now() >= self._expires_at(export)

    def check_download(self, export: Export, token: str) -> None:
        """Check the token of a ``download_url``.

        :raises ErrorResponse: 404, 403 or 410, with the reason.
        """
        if self._clock.now() < export.due_at or not export.is_written or export.error or _write_error(export.file):
            raise ErrorResponse(404, f"Export {export.id} has no file to download.")
        if self.is_expired(export):
            raise ErrorResponse(410, f"Export {export.id} has expired.")
        until, _, signature = token.partition("-")
        if not hmac.compare_digest(self._sign(export, until).encode(), signature.encode()):
            raise ErrorResponse(403, "The download token is not valid.")
        if self._clock.now().timestamp() >= float(until):
            raise ErrorResponse(403, "The download token has expired. Read the export again for a new download_url.")

    def _completed_at(self, export: Export) -> datetime:
        return max(export.due_at, export.written_at or export.due_at)

    def _expires_at(self, export: Export) -> datetime:
        return self._completed_at(export) + timedelta(seconds=self._config.expires_seconds)

    def _download_token(self, export: Export) -> str:
        seconds = self._config.download_url_seconds
        until = self._expires_at(export) if seconds is None else self._clock.now() + timedelta(seconds=seconds)
        text = f"{until.timestamp():.6f}"
        return f"{text}-{self._sign(export, text)}"

    def _sign(self, export: Export, until: str) -> str:
        return self._token_mark + hmac.new(self._key, f"{export.id}/{until}".encode(), hashlib.sha256).hexdigest()[:40]


async def _written(files: set[Future[SpoolFile]], seconds: float | None = None) -> None:
    """Wait until writing files has finished or failed; the record of the export shows the error."""
    done, _ = await asyncio.wait([asyncio.wrap_future(file) for file in files], timeout=seconds)
    for file in done:
        file.exception()  # asyncio complains about an exception that is never retrieved


def _write_error(file: Future[SpoolFile]) -> str | None:
    error = file.exception() if file.done() else None
    return None if error is None else f"The emulator could not write the file: {error}"


def _stamp(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
