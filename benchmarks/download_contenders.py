# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Runs one way to write an export to storage in a separate process, and prints its seconds and its memory as JSON.

Arguments: the contender, the URL of the export's server, the target, and for S3 the server's URL and a file
with the plain bytes. Clocks start when everything is imported, so that only the work is compared.
"""

from __future__ import annotations

import gzip
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from download_server import EXPORT_ID, FIELDS

from tests.support.ceph_gateway import ACCESS_KEY, SECRET_KEY

Work = Callable[[], object]


def file_url(server: str) -> str:
    return f"{server}/api/v1/exports/{EXPORT_ID}/download/token"


def ours(server: str, destination: Any, **options: Any) -> Work:
    """This provider: the client that the operator uses, and the transfer with all checks on."""
    from airflow_provider_isvapp.api.isvapp.client import IsvappClient
    from airflow_provider_isvapp.api.settings import IsvappSettings
    from airflow_provider_isvapp.ratelimit import open_limiter
    from airflow_provider_isvapp.transfer.download import download_export
    from airflow_provider_isvapp.transfer.gzip import GzipMembers
    from airflow_provider_isvapp.transfer.options import WriteOptions
    from airflow_provider_isvapp.transfer.results import Outcome
    from airflow_provider_isvapp.transfer.rows import RowInspector

    # The codecs are imported at their first use.
    GzipMembers()
    RowInspector()
    destination.target().info()
    settings = IsvappSettings.from_connection(login=None, password="key", host=server)
    limiter = open_limiter("memory://", key="bench", requests_per_second=10)
    client = IsvappClient(settings, limiter=limiter)
    source = partial(client.open_download, EXPORT_ID)

    def work() -> None:
        result = download_export(source, destination, export_id=EXPORT_ID, options=WriteOptions(**options))
        # An export that exists already is not downloaded again, which would measure as a very fast download.
        assert result.outcome is Outcome.WRITTEN, result.outcome

    return work


def ours_to_file(server: str, target: str, **options: Any) -> Work:
    import airflow_provider_isvapp.transfer.staging.local  # noqa: F401 - before the clock starts
    from airflow_provider_isvapp.transfer.destination import local_destination

    return ours(server, local_destination(target), **options)


def ours_checked(server: str, target: str) -> Work:
    """With a check, which computes the figures of every row."""
    from airflow_provider_isvapp.checks import MaxChange

    return ours_to_file(server, target, checks=[MaxChange()])


def ours_with_zlib(server: str, target: str) -> Work:
    """Without the extra ``fast``."""
    sys.modules["isal"] = sys.modules["stringzilla"] = None  # type: ignore[assignment]
    return ours_to_file(server, target)


def ours_by_month(server: str, target: str) -> Work:
    return ours_to_file(server, f"{target}/{{reference_date}}", partition_by="reference_date")


def ours_on_disk(server: str, target: str) -> Work:
    """To a disk, whose flush only this provider waits for."""
    return ours_to_file(server, str(Path(tempfile.mkdtemp(prefix=f"{target.replace('/', '-')}-")) / "export.ndjson"))


def duckdb_to_parquet(server: str, target: str) -> Work:
    """DuckDB's own copy of the same rows, which it reads as a file with the types given, as this package has them."""
    import duckdb

    from airflow_provider_isvapp.transfer.summary import COUNTERS

    connection = duckdb.connect()
    connection.execute("SET threads = 2")
    columns = ", ".join(f"{name}: 'VARCHAR'" for name in FIELDS)
    replaced = ", ".join(f"{name}::BIGINT AS {name}" for name in COUNTERS)
    query = (
        f"SELECT * REPLACE ({replaced}, (reference_date || '-01')::DATE AS reference_date)"
        f" FROM read_json('{target}.plain', format = 'newline_delimited', columns = {{{columns}}})"
    )
    return lambda: connection.execute(f"COPY ({query}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")


def ours_to_parquet(server: str, target: str) -> Work:
    import pyarrow.compute
    import pyarrow.csv
    import pyarrow.parquet  # noqa: F401

    return ours_to_file(server, target, output_format="parquet")


def pipe(decompress: str, server: str, target: str) -> Work:
    command = f"set -o pipefail; curl -sf {file_url(server)} | {decompress} > {target}"
    return lambda: subprocess.run(["bash", "-c", command], check=True)


def requests_and_gzip(server: str, target: str) -> Work:
    """The code that a user would write in a PythonOperator."""
    import requests

    def work() -> None:
        with requests.get(file_url(server), stream=True, timeout=60) as response, Path(target).open("wb") as out:
            shutil.copyfileobj(gzip.GzipFile(fileobj=response.raw), out)

    return work


def s3_options(s3: str) -> dict[str, Any]:
    return {"endpoint_url": s3, "client_kwargs": {"region_name": "us-east-1"}}


def s3_destination(target: str, s3: str, *, sign_payload: bool | None = None) -> Any:
    import boto3
    from botocore.config import Config

    from airflow_provider_isvapp.transfer.destination import Destination
    from airflow_provider_isvapp.transfer.staging.s3 import S3Store

    config = Config(s3=None if sign_payload is None else {"payload_signing_enabled": sign_payload})
    client = boto3.client(
        "s3",
        endpoint_url=s3,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=config,
    )
    bucket, _, key = target.partition("/")
    return Destination(store=S3Store(client, bucket), key=key, uri=f"s3://{target}")


def ours_to_s3(server: str, target: str, s3: str, plain: str, *, sign_payload: bool | None = None) -> Work:
    return ours(server, s3_destination(target, s3, sign_payload=sign_payload))


def ours_upload_only(server: str, target: str, s3: str, plain: str) -> Work:
    """This provider's writer of S3 objects, for plain bytes."""
    destination = s3_destination(target, s3)

    def work() -> None:
        staged = destination.target().stage(exclusive=False, content_type="application/x-ndjson", provenance=None)
        with Path(plain).open("rb") as file:
            while data := file.read(256 * 1024):
                staged.write(data)
        staged.flush()
        staged.commit()

    return work


def boto3_upload_fileobj(server: str, target: str, s3: str, plain: str) -> Work:
    """Only the upload of plain bytes."""
    client = boto3_client(s3)
    bucket, _, key = target.partition("/")

    def work() -> None:
        with Path(plain).open("rb") as file:
            client.upload_fileobj(file, bucket, key)

    return work


def s3fs_open(server: str, target: str, s3: str, plain: str) -> Work:
    """Only the upload, through what ``ObjectStoragePath.open("wb")`` opens, with its default block size."""
    import s3fs

    fs = s3fs.S3FileSystem(key=ACCESS_KEY, secret=SECRET_KEY, **s3_options(s3))
    fs.connect()

    def work() -> None:
        with Path(plain).open("rb") as file, fs.open(target, "wb") as out:
            shutil.copyfileobj(file, out, 256 * 1024)

    return work


def in_memory(server: str, target: str, s3: str, plain: str) -> Work:
    """What HttpToS3Operator does (``response.content``, then one ``load_bytes``), with the gunzip that it lacks."""
    import io

    import requests

    client = boto3_client(s3)
    bucket, _, key = target.partition("/")

    def work() -> None:
        content = requests.get(file_url(server), timeout=600).content
        client.upload_fileobj(io.BytesIO(gzip.decompress(content)), bucket, key)

    return work


def boto3_client(s3: str) -> Any:
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=s3,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name="us-east-1",
    )


# Of every shape.
TO_FILE: dict[str, Callable[[str, str], Work]] = {
    "this provider": ours_to_file,
    "this provider, by month": ours_by_month,
    "curl \\| gunzip": partial(pipe, "gunzip"),
    "curl \\| igzip -d": partial(pipe, "igzip -d"),
}
# Of the first one.
MORE_TO_FILE: dict[str, Callable[[str, str], Work]] = {
    "this provider, zlib": ours_with_zlib,
    "this provider, on disk": ours_on_disk,
    "this provider, validate=full": partial(ours_to_file, validate="full"),
    "this provider, checks": ours_checked,
    "this provider, Parquet": ours_to_parquet,
    "DuckDB, Parquet from a file": duckdb_to_parquet,
    "requests + gzip": requests_and_gzip,
}
TO_S3: dict[str, Callable[[str, str, str, str], Work]] = {
    "this provider": ours_to_s3,
    # An option of the connection for servers that are not reached by TLS; boto3 signs the payload there by default.
    "this provider, payload not signed": partial(ours_to_s3, sign_payload=False),
    "this provider, upload only": ours_upload_only,
    "boto3 upload_fileobj, upload only": boto3_upload_fileobj,
    "s3fs open(wb), upload only": s3fs_open,
    "in memory, as HttpToS3Operator": in_memory,
}


CHECKED_BYTES = 6_000_000


def decompress(file: str, target: str, *, fast: bool = True) -> Work:
    """Only decompress the beginning of an export, as its download does."""
    if not fast:
        sys.modules["isal"] = None  # type: ignore[assignment]
    from airflow_provider_isvapp.transfer.gzip import GzipMembers

    with Path(file).open("rb") as source:
        received = [source.read(65_536) for _ in range(CHECKED_BYTES // 65_536)]
    members = GzipMembers()

    def work() -> None:
        for data in received:
            for _ in members.decode(data):
                pass

    return work


def check(file: str, target: str, *, fast: bool = True) -> Work:
    """Only check the same rows."""
    if not fast:
        sys.modules["stringzilla"] = None  # type: ignore[assignment]
    from airflow_provider_isvapp.transfer.gzip import GzipMembers
    from airflow_provider_isvapp.transfer.rows import RowInspector

    members, inspector = GzipMembers(), RowInspector()
    with Path(file).open("rb") as source:
        pieces = [plain for _ in range(CHECKED_BYTES // 65_536) for _, plain in members.decode(source.read(65_536))]

    def work() -> None:
        for piece in pieces:
            inspector.feed(piece)

    return work


# Without a network and a disk.
ALONE: dict[str, Callable[[str, str], Work]] = {
    "isal decompresses": decompress,
    "zlib decompresses": partial(decompress, fast=False),
    "the check": check,
    "the check without the extra": partial(check, fast=False),
}


def cpu_seconds() -> float:
    """Of this process and of the programs that it has started."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_mib() -> float:
    """Return the peak memory of this program; getrusage would begin with the peak of its parent."""
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024


def main(name: str, server: str, target: str, *s3: str) -> None:
    work = TO_S3[name](server, target, *s3) if s3 else (TO_FILE | MORE_TO_FILE | ALONE)[name](server, target)
    imported, cpu_before = peak_mib(), cpu_seconds()
    started = time.perf_counter()
    work()
    seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu_before
    print(json.dumps({"seconds": seconds, "mib": peak_mib() - imported, "cpu": cpu}))


if __name__ == "__main__":
    main(*sys.argv[1:])
