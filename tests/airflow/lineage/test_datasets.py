# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

from pathlib import Path

import pytest
from openlineage.client.naming.dataset import ABFSS, GCS, S3, DatasetNaming, LocalFileSystem

from airflow_provider_isvapp.lineage import ObjectName, name_of
from airflow_provider_isvapp.operators.storage_clients import resolve_destination
from airflow_provider_isvapp.transfer.destination import Destination, local_destination
from airflow_provider_isvapp.transfer.staging.fsspec import FsspecStore
from airflow_provider_isvapp.version_compat import Asset, ObjectStoragePath
from tests.support.airflow_connections import SetConnection


def in_bucket(namespace: str, *, key: str) -> Destination:
    return Destination(store=FsspecStore(None, namespace=namespace), key=key, uri=f"x://conn@{key}")


def test_a_local_file() -> None:
    assert name_of(local_destination("/lake/usage.ndjson")) == ObjectName(
        namespace="file", name="/lake/usage.ndjson", uri="file:///lake/usage.ndjson"
    )
    convention = LocalFileSystem("/lake/usage.ndjson")
    assert (convention.get_namespace(), convention.get_name()) == ("file", "/lake/usage.ndjson")
    assert name_of(local_destination("file:///lake/usage.ndjson")).uri == "file:///lake/usage.ndjson"


def test_a_bucket_without_the_connection(set_connection: SetConnection) -> None:
    extra = {"region_name": "eu-central-1"}
    set_connection("lineage_store", conn_type="aws", login="key", password="secret", extra=extra)
    path = ObjectStoragePath("s3://lineage_store@bucket/raw/usage.ndjson")

    assert name_of(resolve_destination(path)) == ObjectName(
        namespace="s3://bucket", name="raw/usage.ndjson", uri="s3://bucket/raw/usage.ndjson"
    )


@pytest.mark.parametrize(
    ("destination", "convention", "uri"),
    [
        (in_bucket("s3://bucket", key="a/b"), S3("bucket", "a/b"), "s3://bucket/a/b"),
        (in_bucket("gs://bucket", key="a/b"), GCS("bucket", "a/b"), "gs://bucket/a/b"),
        (
            in_bucket("abfss://container@account.dfs.core.windows.net", key="a/b"),
            ABFSS("container", "account", "a/b"),
            "abfss://account.dfs.core.windows.net/container/a/b",
        ),
    ],
)
def test_a_bucket_by_openlineages_conventions(destination: Destination, convention: DatasetNaming, uri: str) -> None:
    name = name_of(destination)

    assert (name.namespace, name.name) == (convention.get_namespace(), convention.get_name())
    assert name.uri == uri


@pytest.mark.parametrize(
    ("key", "encoded"),
    [
        ("month=2026-02/usage.ndjson", "month=2026-02/usage.ndjson"),
        ("a b/100%/c#d?e=f", "a%20b/100%25/c%23d%3Fe=f"),
        ("größe/日", "gr%C3%B6%C3%9Fe/%E6%97%A5"),
        ("2026-02-01T00:00:00+00:00/u@v", "2026-02-01T00:00:00+00:00/u@v"),
    ],
)
def test_airflow_does_not_change_the_uri(key: str, encoded: str, tmp_path: Path) -> None:
    for destination in (
        in_bucket("s3://bucket", key=key),
        in_bucket("abfss://container@account.dfs.core.windows.net", key=key),
        local_destination(f"/lake/{key}"),
    ):
        uri = name_of(destination).uri
        assert uri.endswith(encoded)
        assert Asset(uri=uri).uri == uri
