# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The exports and their records at any moment.

No timer runs: an export's state follows from the clock, so a test that moves the clock moves the exports.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_isvapp.emulator.clock import Clock
from airflow_provider_isvapp.emulator.config import EmulatorConfig
from airflow_provider_isvapp.emulator.export_requests import ExportRequest
from airflow_provider_isvapp.emulator.responses import ErrorResponse
from airflow_provider_isvapp.emulator.spool import Spool, SpoolFile

RECENT = 1000
_SETTLE_SECONDS = 1.0
"""How long a request waits for a file that is due but still being written, before the response says PENDING."""


@dataclass(eq=False, kw_only=True)
class Export:
    """One export. ``error`` is the message it ends with, ``expired`` an expiry before its time."""

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
        """Whether its file is on disk, or could not be written."""
        return self.written_at is not None and self.file.done()


class Exports:
    """All exports since the start or the last :meth:`clear`.

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
        """Accept a request; the file is written in the background."""
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

        # The writing thread takes real time, however far a test has moved the emulator's clock meanwhile.
        started = time.monotonic()

        def written(_: Future[SpoolFile]) -> None:
            export.written_at = min(self._clock.now(), now + timedelta(seconds=time.monotonic() - started))

        export.file.add_done_callback(written)
        self._exports[export.id] = export
        self.created += 1
        return export

    def get(self, export_id: str) -> Export:
        """Return an export.

        :raises ErrorResponse: 404 if there is none with this id.
        """
        try:
            return self._exports[export_id]
        except KeyError:
            raise ErrorResponse(404, f"There is no export {export_id}.") from None

    def request(self, export_id: str) -> ExportRequest:
        """Return what was requested.

        :raises KeyError: there is no export with this id.
        """
        return self._exports[export_id].request

    def recent(self) -> list[Export]:
        """Return the most recent exports, the newest first."""
        return list(reversed(self._exports.values()))[:RECENT]

    def all(self) -> list[Export]:
        """Return every export in the order of creation."""
        return list(self._exports.values())

    def clear(self) -> None:
        """Forget all exports."""
        self._exports.clear()
        self.created = 0

    async def change_file(self, export: Export) -> None:
        """Give an export another file, with other rows, once that is written."""
        request = replace(export.request, version=export.request.version + 1)
        file = self._spool.file(request)
        await _written({file})
        export.request, export.file = request, file

    async def settle(self, exports: Iterable[Export]) -> None:
        """Wait a moment for the files of those exports that should be complete by now."""
        now = self._clock.now()
        unwritten = {export.file for export in exports if now >= export.due_at and not export.is_written}
        if unwritten:
            await _written(unwritten, seconds=_SETTLE_SECONDS)

    def new_record(self, export: Export, base_url: str) -> dict[str, Any]:
        """Return the record of the response to a create request: PENDING, however little time an export takes."""
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
        """Return the record as it is now.

        :param base_url: scheme, host and port under which the caller reaches the emulator.
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

    def is_expired(self, export: Export) -> bool:
        """Tell whether the file can no longer be downloaded."""
        return export.expired or self._clock.now() >= self._expires_at(export)

    def check_download(self, export: Export, token: str) -> None:
        """Let a download with this token from a ``download_url`` pass.

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
    """Wait until files are written, or could not be: that is for those to see who read the export."""
    done, _ = await asyncio.wait([asyncio.wrap_future(file) for file in files], timeout=seconds)
    for file in done:
        file.exception()  # asyncio complains about an exception that is never retrieved


def _write_error(file: Future[SpoolFile]) -> str | None:
    error = file.exception() if file.done() else None
    return None if error is None else f"The emulator could not write the file: {error}"


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
