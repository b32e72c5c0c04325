# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Where the operators write (a local folder, and S3 behind a connection), and how tests create exports."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_isvapp.api.isvapp import export_state
from airflow_provider_isvapp.emulator import ManualClock
from airflow_provider_isvapp.hooks import isvapp as isvapp_hook
from airflow_provider_isvapp.operators import creation
from airflow_provider_isvapp.operators.isvapp import IsvappCreateExportOperator, IsvappExportOperator
from airflow_provider_isvapp.triggers import isvapp as isvapp_triggers
from airflow_provider_isvapp.triggers import waiters
from tests.support.airflow_connections import SetConnection
from tests.support.object_stores import moto, s3_client


@dataclass
class Store:
    """A storage for objects.

    :ivar root: the beginning of the paths of its objects.
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


def s3_store(client: Any, bucket: str) -> Store:
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
def s3() -> Iterator[Any]:
    """A client of a new server, for what a test puts and reads: boto3 needs longer to make one than most tests take."""
    with moto() as url:
        yield s3_client(url)


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, set_connection: SetConnection) -> Store:
    if request.param == "file":
        return local_store(tmp_path)
    client = request.getfixturevalue("s3")
    extra = {"endpoint_url": client.meta.endpoint_url, "region_name": "us-east-1"}
    set_connection("lake", conn_type="aws", login="x", password="y", extra=extra)
    return s3_store(client, "list-" + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:20])


@pytest.fixture
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll, request and resume without the pauses of production."""
    for module in (isvapp_triggers, creation):
        monkeypatch.setattr(module, "EARLIEST_EVENT", 0.0)
    monkeypatch.setattr(waiters, "FIRST_INTERVAL", 0.02)
    monkeypatch.setattr(isvapp_hook, "SECONDS_BETWEEN_POLLS", 0.02)
    monkeypatch.setattr(export_state, "NOT_FOUND_GRACE", timedelta(0))
    monkeypatch.setattr("airflow_provider_isvapp.transfer.resume._FIRST_WAIT", 0.0)


@pytest.fixture
def finish_exports(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Let the vendor finish its exports while the task sleeps or, passed as ``deferred``, while it is deferred."""
    monkeypatch.setattr(creation, "time", SimpleNamespace(**vars(time) | {"sleep": lambda _: clock.advance(61)}))
    return lambda _: clock.advance(61)


def export_to(file: Path | str, **arguments: Any) -> IsvappExportOperator:
    return IsvappExportOperator(
        **{
            "task_id": "export",
            "timeframe": "LATEST_COMPLETED_MONTH",
            "taxonomy_ids": ["taxonomy"],
            "path": str(file),
            **arguments,
        }
    )


def create_operator(**arguments: Any) -> IsvappCreateExportOperator:
    return IsvappCreateExportOperator(
        **{"task_id": "create", "timeframe": "LATEST_COMPLETED_MONTH", "taxonomy_ids": ["taxonomy"], **arguments}
    )
