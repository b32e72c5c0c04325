# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The downloaded export, and a server that needs little processor time: the kernel sends the file."""

from __future__ import annotations

import json
import random
import socketserver
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

EXPORT_ID = "dd8eea7b-bd22-4422-8ea9-8315fcf04622"

FIELDS = {
    "type": "TAXONOMY_ITEM",
    "aggregation": "MONTHLY",
    "reference_date": "%(month)s",
    "salesforce_account_id": "%(account)s",
    "salesforce_account_name": "%(name)s",
    "taxonomy_id": "dd8eea7b-bd22-4422-8ea9-8315fcf04622",
    "taxonomy_item_id": "%(item)s",
    "taxonomy_item_label": "%(label)s",
    "taxonomy_item_parent_item_id": "%(parent)s",
    "taxonomy_label": "Main Product Taxonomy",
    "taxonomy_level_id": "5fcf827c-1111-4422-8ea9-8315fcf04622",
    "taxonomy_level_label": "Product Area",
    "unique_users": "%(users)d",
    "unique_users_external": "%(users_external)d",
    "unique_users_internal": "%(users_internal)d",
    "operations": "%(operations)d",
    "operations_external": "%(operations_external)d",
    "operations_internal": "%(operations_internal)d",
}
MONTHS = [f"2024-{month:02d}" for month in range(1, 13)]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The serialization of the rows, and the number of months, which alternate for each account.

    :param accents: the names have letters that are not ASCII.
    :param escaped: whether they are written as escapes.
    """

    sorted_keys: bool = False
    blanks: bool = False
    months: int = 1
    accents: bool = False
    escaped: bool = False
    line_end: str = "\n"

    def __str__(self) -> str:
        words = [
            "keys sorted" if self.sorted_keys else "",
            "with blanks" if self.blanks else "",
            "escapes" if self.escaped else "accents" if self.accents else "",
            "CR LF" if self.line_end == "\r\n" else "",
        ]
        serializer = ", ".join(filter(None, words)) or "compact"
        return f"{serializer}, {'one month' if self.months == 1 else f'{self.months} months'}"

    def template(self) -> str:
        """Return a row with places for values."""
        separators = (", ", ": ") if self.blanks else (",", ":")
        row = json.dumps(FIELDS, sort_keys=self.sorted_keys, separators=separators)
        if self.accents:
            name = json.dumps("Société %(name)s", ensure_ascii=self.escaped)
            row = row.replace('"%(name)s"', name)
        return row + self.line_end


SHAPES = [
    *(
        Shape(sorted_keys=sorted_keys, blanks=blanks, months=months)
        for months in (1, 12)
        for sorted_keys in (False, True)
        for blanks in (False, True)
    ),
    Shape(accents=True),
    Shape(accents=True, escaped=True),
    Shape(line_end="\r\n"),
]


def write_export(path: Path, plain_bytes: int, shape: Shape = SHAPES[0]) -> int:
    """Write a gzip file of about this many bytes of ndjson, ten to twelve times smaller; return the exact number."""
    template = shape.template()
    rand = random.Random(7)
    accounts = [(f"00141{rand.randrange(10**13):013d}", f"Company {rand.randrange(10**6)}") for _ in range(4_000)]
    items = [
        (f"{rand.randrange(2**32):08x}", f"Feature {rand.randrange(10**4)}", f"{rand.randrange(2**32):08x}")
        for _ in range(300)
    ]
    compressor = zlib.compressobj(6, wbits=31)
    written = 0
    with path.open("wb") as file:
        while written < plain_bytes:
            rows = []
            for account, name in accounts:
                for month in MONTHS[-shape.months :]:
                    users = int(rand.expovariate(1 / 400))
                    operations = users * rand.randrange(1, 60)
                    item, label, parent = rand.choice(items)
                    values = {
                        "month": month,
                        "account": account,
                        "name": name,
                        "item": item,
                        "label": label,
                        "parent": parent,
                        "users": users,
                        "users_external": users * 7 // 8,
                        "users_internal": users - users * 7 // 8,
                        "operations": operations,
                        "operations_external": operations * 9 // 10,
                        "operations_internal": operations - operations * 9 // 10,
                    }
                    rows.append(template % values)
            block = "".join(rows).encode()
            written += len(block)
            file.write(compressor.compress(block))
        file.write(compressor.flush())
    return written


class Handler(socketserver.StreamRequestHandler):
    """Sends the vendor's responses that a download needs."""

    def handle(self) -> None:
        while request := self.rfile.readline():
            path = request.split()[1].decode()
            while self.rfile.readline() not in (b"\r\n", b""):
                pass
            if path.endswith("/download/token"):
                self._send_file()
            else:
                self._send_record()

    def _send_record(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        host, port = server.server_address[:2]
        record = {
            "id": EXPORT_ID,
            "type": "TAXONOMY_ITEM",
            "status": "COMPLETED",
            "download_url": f"http://{host!s}:{port}/api/v1/exports/{EXPORT_ID}/download/token",
            "download_size_compressed_bytes": server.file.stat().st_size,
            "download_size_uncompressed_bytes": server.plain_bytes,
            "is_expired": False,
        }
        body = json.dumps({"data": record, "success": True}).encode()
        self._head(len(body), "application/json")
        self.wfile.write(body)

    def _send_file(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        self._head(server.file.stat().st_size, "application/gzip")
        with server.file.open("rb") as file:
            self.connection.sendfile(file)

    def _head(self, length: int, content_type: str) -> None:
        self.wfile.write(
            b'HTTP/1.1 200 OK\r\nContent-Type: %s\r\nETag: "one"\r\nAccept-Ranges: bytes\r\nContent-Length: %d\r\n\r\n'
            % (content_type.encode(), length)
        )


class Server(socketserver.ThreadingTCPServer):
    """Listens on a free port."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, file: Path, plain_bytes: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.file = file
        self.plain_bytes = plain_bytes


if __name__ == "__main__":
    server = Server(Path(sys.argv[1]), int(sys.argv[2]))
    print(server.server_address[1], flush=True)
    server.serve_forever()
