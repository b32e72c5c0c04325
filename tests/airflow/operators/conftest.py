# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Where the operators write: a local folder, and S3 behind a connection."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from tests.support.airflow_connections import SetConnection
from tests.support.object_stores import moto


@dataclass
class Store:
    """A place for objects.

    :ivar root: what the paths of its objects begin with.
    """

    root: str
    put: Callable[[str, bytes], object]
    read: Callable[[str], bytes]
    names: Callable[[], list[str]]
    version: Callable[[str], object]


def local_store(folder: Path) -> Store:
    return Store(
        root=str(folder),
        put=lambda name, content: (folder / name).write_bytes(content),
        read=lambda name: (folder / name).read_bytes(),
        names=lambda: sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()),
        version=lambda name: (folder / name).stat().st_ino,
    )


def s3_store(url: str, bucket: str) -> Store:
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "y", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=url, **keys)
    client.create_bucket(Bucket=bucket)

    def names() -> list[str]:
        assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
        return [item["Key"] for item in client.list_objects_v2(Bucket=bucket).get("Contents", [])]

    return Store(
        root=f"s3://lake@{bucket}",
        put=lambda name, content: client.put_object(Bucket=bucket, Key=name, Body=content),
        read=lambda name: client.get_object(Bucket=bucket, Key=name)["Body"].read(),
        names=names,
        version=lambda name: client.head_object(Bucket=bucket, Key=name)["LastModified"],
    )


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with moto() as url:
        yield url


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, set_connection: SetConnection) -> Store:
    if request.param == "file":
        return local_store(tmp_path)
    url = request.getfixturevalue("s3")
    extra = {"endpoint_url": url, "region_name": "us-east-1"}
    set_connection("lake", conn_type="aws", login="x", password="y", extra=extra)
    return s3_store(url, "list-" + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:20])
