# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Memory does not grow with the export, nor with how well it compresses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.ceph_gateway import ACCESS_KEY
from tests.support.file_server import FileResponse, FileServer, gzip_bytes, ndjson

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")

LIMIT_MIB = 64

# In a separate process, since the peak of this one includes other tests. The peak comes from /proc and not from
# getrusage, where a new process begins with its parent's peak.
PEAK = """
import sys

def kib(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field + ":"))
"""

DOWNLOAD = """
from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.api.schema.isvapp import ExportStatus
from airflow_provider_isvapp.transfer.staging import local
from airflow_provider_isvapp.transfer import download, existing
from airflow_provider_isvapp.transfer.destination import local_destination
from airflow_provider_isvapp.transfer.gzip import GzipMembers
from airflow_provider_isvapp.transfer.options import WriteOptions
from tests.support.file_server import Source

GzipMembers()
url, where, key, name = sys.argv[1:5]
if key:
    from tests.support.object_stores import in_s3, s3_client
    client = s3_client(where, key=key)
    client.create_bucket(Bucket="memory")
    destination = in_s3(client, f"memory/{name}")
else:
    destination = local_destination(f"{where}/{name}")
before = kib("VmHWM")
result = download.download_export(
    Source(url, Export(id="e", status=ExportStatus.COMPLETED), 30.0),
    destination,
    options=WriteOptions(partition_by="reference_date" if "{" in name else None),
)
print((kib("VmHWM") - before) / 1024, result.bytes)
"""

INDEX_KEYS = """
from airflow_provider_isvapp.transfer.summary import KeyIndex, RowSummarizer

before = kib("VmHWM")
keys, item = KeyIndex(), 0
summarizer = RowSummarizer(keys=keys)
for _ in range(400):
    rows = bytearray()
    for item in range(item + 1, item + 1001):
        account = f"{item % 1000:018}"
        rows += b'{"reference_date":"2024-03","salesforce_account_id":"%s","taxonomy_item_id":"item-%09d"}\\n' % (
            account.encode(), item
        )
    summarizer.feed(bytes(rows))
assert keys.repeated() is None
print((kib("VmHWM") - before) / 1024, item)
"""

ROWS = ndjson(20_000)
# One row a thousand times over compresses a hundred times better.
DULL = ndjson(1) * 20_000


def peak_mib(url: str, where: str, *, key: str = "", name: str = "export") -> float:
    mib, size = measured(DOWNLOAD, url, where, key, name)
    assert size > 100_000_000
    return mib


def measured(program: str, *arguments: str) -> tuple[float, int]:
    command = [sys.executable, "-c", PEAK + program, *arguments]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True).stdout
    mib, size = output.split()
    return float(mib), int(size)


@pytest.mark.parametrize("plain", [ROWS, DULL], ids=["rows", "dull rows"])
def test_to_a_file(tmp_path: Path, plain: bytes) -> None:
    body = gzip_bytes(plain) * (120_000_000 // len(plain))
    with FileServer(FileResponse(body)) as server:
        assert peak_mib(server.url, str(tmp_path)) < LIMIT_MIB / 2


def test_to_s3(s3_server: str) -> None:
    body = gzip_bytes(ROWS) * (120_000_000 // len(ROWS))
    with FileServer(FileResponse(body)) as server:
        assert peak_mib(server.url, s3_server, key=ACCESS_KEY) < LIMIT_MIB


def test_of_months_to_s3(s3_server: str) -> None:
    """Each month fills one part, besides the parts in flight."""
    rows = ndjson(24_000, months=[f"2024-{month:02}" for month in range(1, 13)])
    body = gzip_bytes(rows) * (300_000_000 // len(rows))
    with FileServer(FileResponse(body)) as server:
        assert peak_mib(server.url, s3_server, key=ACCESS_KEY, name="{reference_date}") < LIMIT_MIB + 12 * 8


def test_of_keys_that_are_compared() -> None:
    """They are sorted on disk: in memory, these take 66 MiB, and 34 with both of SQLite's caches."""
    mib, rows = measured(INDEX_KEYS)

    assert rows == 400_000
    assert mib < 48
