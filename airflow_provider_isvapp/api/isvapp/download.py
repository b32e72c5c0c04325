# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The response to a download, with the bytes of an export's file."""

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
    """Build the headers to request a whole file or, with a strong validator, the rest of one.

    With If-Range the server sends the whole file if it has changed (RFC 9110, 13.1.5), so two files are never spliced.
    """
    headers = {"Accept-Encoding": "gzip", "Accept": "*/*"}
    if offset > 0 and validator is not None:
        headers |= {"Range": f"bytes={offset}-", "If-Range": validator}
    return headers


class DownloadResponse:
    """Reads the raw bytes of one response. A context manager.

    The bytes are not decoded: the file is gzip with or without ``Content-Encoding: gzip``, and the transfer
    decompresses and verifies it.

    :param export: the record, as read just before.
    :param start: the offset in the file of the body's first byte: the requested one, or 0.
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
        :raises UnexpectedAnswer: for a response with another part of the file.
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

        Uses ``read1``: a plain read loses the bytes that arrived before a connection broke, and reads the whole rest
        of a body at once after a chunk of negative size.

        :raises BrokenTransfer: if the connection broke, ended early, or stalled longer than the read timeout.
        """
        parts: list[bytes] = []
        remaining = size
        while remaining > 0 and self._broken is None:
            try:
                part = self._response.raw.read1(remaining, decode_content=False)
            except urllib3.exceptions.ReadTimeoutError:
                self._broken = BrokenTransfer(
                    f"The download of export {self.export.id} stalled for longer than the read timeout."
                )
            except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError):
                self._broken = BrokenTransfer(f"The download of export {self.export.id} broke off.")
            else:
                if not part:
                    break
                parts.append(part)
                remaining -= len(part)
        if self._broken is not None and not parts:
            raise self._broken
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def interrupt(self) -> None:
        """End a blocked read in any thread, as if the connection had been closed."""
        # Raised after the last byte, when nothing is left to interrupt.
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            self._response.raw.shutdown()

    def close(self) -> None:
        """Close the connection if the body was not read to its end; otherwise it can be reused."""
        self._response.close()


def _whole_number(header: str | None) -> int | None:
    return int(header) if header is not None and _SIZE.fullmatch(header) else None


def _strong(etag: str | None) -> str | None:
    """Return a strong ETag; a weak one does not promise equal bytes (RFC 9110, 8.8.1)."""
    return etag if etag and etag.startswith('"') else None
