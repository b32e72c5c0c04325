# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A real HTTP server of one file, with injected faults, and the source that reads from it."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from io import BufferedIOBase

import requests

from airflow_provider_isvapp.api.isvapp.client import DownloadResponse, download_headers
from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.api.schema.isvapp import ExportStatus
from tests.support.http_server import HttpServer, QuietHandler

MONTHS = tuple(f"2024-{month:02d}" for month in range(1, 13))


def export_row(number: int, month: str = "2024-03") -> bytes:
    """One row with every documented field, deterministic and not too compressible."""
    row = {
        "type": "TAXONOMY_ITEM",
        "aggregation": "MONTHLY",
        "reference_date": month,
        "salesforce_account_id": f"0014x{zlib.crc32(b'%d' % number):010d}",
        "salesforce_account_name": f'Äccount {number} \\ "{number % 7}" }}\n{{',
        "taxonomy_id": "dd8eea7b-0001",
        "taxonomy_item_id": f"item-{number % 97}",
        "taxonomy_item_label": f"Feature {number % 97}",
        "taxonomy_item_parent_item_id": None if number % 3 else f"item-{number % 5}",
        "taxonomy_label": "Main",
        "taxonomy_level_id": "5fcf827",
        "taxonomy_level_label": "Product Area",
        "unique_users": str(number % 455),
        "unique_users_external": str(number % 400),
        "unique_users_internal": "55",
        "operations": str(number * 7919 % 100_003),
        "operations_external": "16000",
        "operations_internal": "700",
    }
    return json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode()


def ndjson(rows: int, months: Sequence[str] = ("2024-03",)) -> bytes:
    return b"".join(
        export_row(number, month) + b"\n" for number, month in zip(range(rows), itertools.cycle(months), strict=False)
    )


def gzip_bytes(*members: bytes, level: int = 1) -> bytes:
    """Each argument as one gzip member."""
    body = b""
    for plain in members:
        member = zlib.compressobj(level, wbits=31)
        body += member.compress(plain) + member.flush()
    return body


@dataclass(frozen=True)
class FileResponse:
    """The response to one request.

    :param cut: send only this many bytes of the body.
    :param reset: end with a connection reset.
    :param announced: the Content-Length to state; None for the true one.
    :param chunked: state no length.
    :param encoded: send ``Content-Encoding: gzip``.
    :param obeys_if_range: send the whole file if the validator does not match.
    :param trickle: after ``cut`` bytes, send a few single bytes per second until the server is closed.
    :param stall: send nothing before the byte at ``cut`` until the server is closed.
    """

    body: bytes
    status: int = 200
    cut: int | None = None
    reset: bool = False
    announced: int | None = None
    chunked: bool = False
    encoded: bool = False
    etag: str | None = '"v1"'
    ranges: bool = True
    obeys_if_range: bool = True
    stall: bool = False
    trickle: bool = False


class FileServer(HttpServer):
    """Sends the given responses in turn, and then the last one again for every request."""

    def __init__(self, *responses: FileResponse) -> None:
        self.responses = list(responses)
        self.requested_ranges: list[str | None] = []
        super().__init__()
        self.url += "/file"

    def source(
        self,
        *,
        compressed: int | None = None,
        uncompressed: int | None = None,
        read_timeout: float = 5.0,
        export_id: str = "e-1",
    ) -> Source:
        """A source of this file whose record states these sizes."""
        export = Export(
            id=export_id,
            status=ExportStatus.COMPLETED,
            download_size_compressed_bytes=compressed,
            download_size_uncompressed_bytes=uncompressed,
        )
        return Source(self.url, export, read_timeout)

    def _trickle(self, stream: BufferedIOBase, rest: bytes, *, chunked: bool) -> None:
        for position in range(len(rest)):
            byte = rest[position : position + 1]
            try:
                stream.write(b"1\r\n%b\r\n" % byte if chunked else byte)
            except OSError:
                return
            if self._over.wait(0.02):
                return

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        files = self

        class Handler(QuietHandler):
            def do_GET(self) -> None:
                requested = self.headers.get("Range")
                files.requested_ranges.append(requested)
                response = files.responses.pop(0) if len(files.responses) > 1 else files.responses[0]
                self.close_connection = True
                body, status = response.body, response.status
                matches = self.headers.get("If-Range") == response.etag or not response.obeys_if_range
                begin = 0
                if requested and response.ranges and matches:
                    begin = int(requested.removeprefix("bytes=").removesuffix("-"))
                    body, status = body[begin:], 206
                self.send_response(status)
                if status == 206:
                    last = len(response.body) - 1
                    self.send_header("Content-Range", f"bytes {begin}-{last}/{len(response.body)}")
                if response.etag:
                    self.send_header("ETag", response.etag)
                if response.ranges:
                    self.send_header("Accept-Ranges", "bytes")
                if response.encoded:
                    self.send_header("Content-Encoding", "gzip")
                if response.chunked:
                    self.send_header("Transfer-Encoding", "chunked")
                else:
                    self.send_header("Content-Length", str(response.announced or len(body)))
                self.end_headers()
                sent = body if response.cut is None else body[: max(response.cut - begin, 0)]
                try:
                    self._send(sent, response)
                except ConnectionError:
                    return
                if response.trickle:
                    files._trickle(self.wfile, body[len(sent) :], chunked=response.chunked)
                if response.stall:
                    files._over.wait(30)
                if response.reset:
                    self.wfile.flush()
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()

            def _send(self, sent: bytes, response: FileResponse) -> None:
                if not response.chunked:
                    self.wfile.write(sent)
                    return
                for start in range(0, len(sent), 10_000):
                    chunk = sent[start : start + 10_000]
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                if not response.trickle:
                    self.wfile.write(b"0\r\n\r\n")

            def finish(self) -> None:
                with contextlib.suppress(OSError, ValueError):
                    super().finish()

        return Handler


class Source:
    """The same as the API client's ``open_download``, without the API."""

    def __init__(self, url: str, export: Export, read_timeout: float) -> None:
        self.export = export
        self.url = url
        self._read_timeout = read_timeout

    def __call__(self, *, offset: int = 0, validator: str | None = None) -> DownloadResponse:
        response = requests.get(
            self.url,
            headers=download_headers(offset=offset, validator=validator),
            stream=True,
            timeout=(5.0, self._read_timeout),
        )
        return DownloadResponse.from_response(self.export, response, offset=offset)
