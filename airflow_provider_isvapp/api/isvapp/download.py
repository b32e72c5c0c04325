# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The response to a download: the bytes of an export's file."""

from __future__ import annotations

import contextlib
import http.client
import re

import requests
import urllib3.exceptions

from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.errors import BrokenTransfer, UnexpectedAnswer

# As many digits as a size can have; Python refuses to convert more than some thousand.
_SIZE = re.compile(r"[0-9]{1,18}")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/(?:[0-9]{1,18}|\*)")


def download_headers(*, offset: int, validator: str | None) -> dict[str, str]:
    """Build the headers for a whole file or, with a strong validator, for the rest of one.

    If-Range makes the server send the whole file when it is no longer the one that was begun (RFC 9110, 13.1.5), so two
    files are never spliced.
    """
    headers = {"Accept-Encoding": "gzip", "Accept": "*/*"}
    if offset > 0 and validator is not None:
        headers |= {"Range": f"bytes={offset}-", "If-Range": validator}
    return headers


class DownloadResponse:
    """Reads the raw bytes of one response. A context manager.

    The bytes are those on the wire: the file is gzip whether or not the response says ``Content-Encoding: gzip``. The
    transfer decompresses and verifies it.

    :param export: the record as it was just read.
    :param start: the position in the file of this body's first byte: the offset asked for, or 0.
    """

    def __init__(self, export: Export, response: requests.Response, *, start: int) -> None:
        self.export = export
        self.start = start
        self.status = response.status_code
        self.content_length = _whole_number(response.headers.get("Content-Length"))
        self.validator = _strong(response.headers.get("ETag"))
        self.accepts_ranges = response.headers.get("Accept-Ranges", "").strip().lower() == "bytes"
        self._response = response
        self._broken: BrokenTransfer | None = None

    @classmethod
    def from_response(cls, export: Export, response: requests.Response, *, offset: int) -> DownloadResponse:
        """Wrap a 2xx response to a download.

        :param offset: the first byte that was requested.
        :raises UnexpectedAnswer: for a partial response that is not the requested part.
        """
        if response.status_code == 200:
            return cls(export, response, start=0)
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        if response.status_code == 206 and match and int(match[1]) == offset:
            return cls(export, response, start=offset)
        response.close()
        raise UnexpectedAnswer(
            f"ISVapp responded to the download of export {export.id} with status {response.status_code} "
            "and not with the file. Try again later."
        )

    def __enter__(self) -> DownloadResponse:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, size: int) -> bytes:
        """Read ``size`` bytes, or fewer at the end of the body or where it broke; nothing after the end.

        The bytes are taken as they come. A plain read would lose those that came before a connection broke, and would
        take a chunk of negative size for the whole rest of a body, in one piece.

        :raises BrokenTransfer: when the connection broke, stood still longer than the read timeout or ended early.
        """
        parts: list[bytes] = []
        wanted = size
        while wanted > 0 and self._broken is None:
            try:
                part = self._response.raw.read1(wanted, decode_content=False)
            except urllib3.exceptions.ReadTimeoutError:
                self._broken = BrokenTransfer(
                    f"The download of export {self.export.id} stood still for longer than the read timeout."
                )
            except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError):
                self._broken = BrokenTransfer(f"The download of export {self.export.id} broke off.")
            else:
                if not part:
                    break
                parts.append(part)
                wanted -= len(part)
        if self._broken is not None and not parts:
            raise self._broken
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def interrupt(self) -> None:
        """Let a read that waits, in whatever thread, end as if the connection had been closed."""
        # There is nothing to interrupt once the last byte has come.
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            self._response.raw.shutdown()

    def close(self) -> None:
        """Give up the connection; a body that was not read to its end is not reused."""
        self._response.close()


def _whole_number(header: str | None) -> int | None:
    return int(header) if header is not None and _SIZE.fullmatch(header) else None


def _strong(etag: str | None) -> str | None:
    """A weak ETag does not promise equal bytes (RFC 9110, 8.8.1) and is treated as none."""
    return etag if etag and etag.startswith('"') else None
