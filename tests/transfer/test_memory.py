# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Memory does not grow with the export, nor with how well it compresses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.transfer.ceph_gateway import ACCESS_KEY
from tests.transfer.file_server import Answer, FileServer, gzip_bytes, ndjson

LIMIT_MIB = 64

# In a process of its own: the peak of this one says nothing.
CODE = """
import resource, sys
from airflow_provider_isvapp.api.isvapp.export import Export, ExportStatus
from airflow_provider_isvapp.transfer import already_there, download, local_file
from airflow_provider_isvapp.transfer.destination import Destination, open_destination
from airflow_provider_isvapp.transfer.gzip_members import GzipMembers
from tests.transfer.file_server import Source

GzipMembers()
url, where = sys.argv[1:3]
if len(sys.argv) > 3:
    import s3fs
    from airflow_provider_isvapp.transfer.s3_client import botocore_client
    fs = s3fs.S3FileSystem(
        key=sys.argv[3], secret="y", endpoint_url=where, client_kwargs={"region_name": "us-east-1"}
    )
    fs.call_s3("create_bucket", Bucket="memory")
    botocore_client(fs)
    destination = Destination(fs=fs, key="memory/export", uri="s3://memory/export")
else:
    destination = open_destination(where)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
result = download.download_export(Source(url, Export(id="e", status=ExportStatus.COMPLETED), 30.0), destination)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, result.bytes)
"""

ROWS = ndjson(20_000)
# One row a thousand times over compresses a hundred times better.
DULL = ndjson(1) * 20_000


def peak_mib(url: str, *where: str) -> float:
    command = [sys.executable, "-c", CODE, url, *where]
    root = Path(__file__).parents[2]
    output = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=100, check=True).stdout
    mib, size = output.split()
    assert int(size) > 100_000_000
    return float(mib)


@pytest.mark.parametrize("plain", [ROWS, DULL], ids=["rows", "dull rows"])
def test_to_a_file(tmp_path: Path, plain: bytes) -> None:
    body = gzip_bytes(plain) * (120_000_000 // len(plain))
    with FileServer(Answer(body)) as server:
        assert peak_mib(server.url, str(tmp_path / "x")) < LIMIT_MIB / 2


def test_to_s3(s3_server: str) -> None:
    body = gzip_bytes(ROWS) * (120_000_000 // len(ROWS))
    with FileServer(Answer(body)) as server:
        assert peak_mib(server.url, s3_server, ACCESS_KEY) < LIMIT_MIB
