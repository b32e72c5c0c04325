# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The export that is downloaded, and a server that costs as little as possible: it sends the file from the kernel."""

from __future__ import annotations

import json
import random
import socketserver
import sys
import zlib
from pathlib import Path

EXPORT_ID = "dd8eea7b-bd22-4422-8ea9-8315fcf04622"

ROW = (
    '{"type":"TAXONOMY_ITEM","aggregation":"MONTHLY","reference_date":"2024-03","salesforce_account_id":"%s",'
    '"salesforce_account_name":"%s","taxonomy_id":"dd8eea7b-bd22-4422-8ea9-8315fcf04622","taxonomy_item_id":"%s",'
    '"taxonomy_item_label":"%s","taxonomy_item_parent_item_id":"%s","taxonomy_label":"Main Product Taxonomy",'
    '"taxonomy_level_id":"5fcf827c-1111-4422-8ea9-8315fcf04622","taxonomy_level_label":"Product Area",'
    '"unique_users":"%d","unique_users_external":"%d","unique_users_internal":"%d","operations":"%d",'
    '"operations_external":"%d","operations_internal":"%d"}\n'
)


def write_export(path: Path, plain_bytes: int) -> int:
    """Write a gzip file of about so many bytes of ndjson, ten to twelve times smaller; return their exact number."""
    rand = random.Random(7)
    accounts = [(f"0014x{rand.randrange(10**13):013d}", f"Company {rand.randrange(10**6)}") for _ in range(4_000)]
    items = [
        (f"{rand.randrange(2**32):08x}", f"Feature {rand.randrange(10**4)}", f"{rand.randrange(2**32):08x}")
        for _ in range(300)
    ]
    compressor = zlib.compressobj(6, wbits=31)
    written = 0
    with path.open("wb") as file:
        while written < plain_bytes:
            rows = []
            for account in accounts:
                users = int(rand.expovariate(1 / 400))
                operations = users * rand.randrange(1, 60)
                counters = [users, users * 7 // 8, users - users * 7 // 8]
                counters += [operations, operations * 9 // 10, operations - operations * 9 // 10]
                rows.append(ROW % (*account, *rand.choice(items), *counters))
            block = "".join(rows).encode()
            written += len(block)
            file.write(compressor.compress(block))
        file.write(compressor.flush())
    return written


class Handler(socketserver.StreamRequestHandler):
    """Answers as the vendor does, as far as a download needs."""

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
