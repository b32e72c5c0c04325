# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.errors import InvalidArgument, InvalidConnection
from airflow_provider_isvapp.operators.destinations import resolve_destination
from airflow_provider_isvapp.operators.isvapp import IsvappDownloadExportOperator, IsvappExportOperator
from airflow_provider_isvapp.operators.productiv import ProductivFetchAppsOperator
from airflow_provider_isvapp.operators.salesforce_accounts import IsvappFetchSalesforceAccountsOperator
from airflow_provider_isvapp.transfer.staging.s3 import S3Store
from airflow_provider_isvapp.version_compat import ObjectStoragePath
from tests.support.airflow_connections import SetConnection
from tests.support.task_context import task_context


@pytest.mark.parametrize("form", ["plain", "uri", "object"])
def test_a_local_file_in_every_form(form: str, tmp_path: Path) -> None:
    file = tmp_path / "a folder" / "usage.ndjson"
    uri = f"file://{file}"
    path = {"plain": str(file), "uri": uri, "object": ObjectStoragePath(uri)}[form]

    destination = resolve_destination(path)

    assert destination.kind == "local"
    assert destination.key == str(file)
    assert destination.uri in (str(file), uri)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/lake/usage/", "path '/lake/usage/' names a folder; add the name of the object to write"),
        ("s3://lake/usage/", "path 's3://lake/usage/' names a folder"),
        ("usage.ndjson", "path 'usage.ndjson' is relative; give an absolute path"),
        ("file://usage.ndjson", "path 'file://usage.ndjson' is relative"),
        ("ftpx://host/usage.ndjson", "this Airflow has no file system for ftpx://. Use file, s3, gs or abfs"),
        ("https://host/usage.ndjson", "no file system for https://"),
        ("", "path: must be a URI, an absolute local path or an ObjectStoragePath, not ''"),
        (None, "path: must be a URI, .* not None"),
        (7, "path: must be a URI, .* not 7"),
    ],
)
def test_what_cannot_be_written_is_named(path: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        resolve_destination(path)


def test_a_storage_whose_provider_is_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.storage.blob", None)
    with pytest.raises(InvalidArgument, match=r"no file system for az://. .*airflow-provider-isvapp\[azure\]"):
        resolve_destination("az://container/usage.ndjson")


def test_a_local_file_takes_no_storage_options(tmp_path: Path) -> None:
    destination = resolve_destination(str(tmp_path / "x"), storage_options={"ACL": "private"})

    with pytest.raises(InvalidArgument, match="storage_options: local files take none, and ACL is there"):
        destination.target().check()


class TestS3:
    @pytest.fixture(autouse=True)
    def connection(self, set_connection: SetConnection) -> None:
        pytest.importorskip("airflow.providers.amazon.aws.hooks.s3", reason="needs the extra s3")
        set_connection(
            "lake",
            conn_type="aws",
            login="key",
            password="secret",
            extra=json.dumps({"endpoint_url": "http://127.0.0.1:1", "region_name": "eu-central-1"}),
        )

    @pytest.mark.parametrize("as_object", [False, True])
    def test_the_connection_in_the_address_is_used(self, as_object: bool) -> None:
        address = "s3://lake@bucket/month=2024-02/usage.ndjson"

        destination = resolve_destination(ObjectStoragePath(address) if as_object else address)

        store = destination.store
        assert isinstance(store, S3Store)
        assert store.client.meta.endpoint_url == "http://127.0.0.1:1"
        assert (store.bucket, destination.key) == ("bucket", "month=2024-02/usage.ndjson")
        assert destination.uri == address

    def test_a_bucket_alone_is_no_object(self) -> None:
        with pytest.raises(InvalidArgument, match="names a folder"):
            resolve_destination("s3://lake@bucket")

    def test_a_missing_library_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "airflow.providers.amazon.aws.hooks.s3", None)
        with pytest.raises(InvalidArgument, match=r"no file system for s3://. .*airflow-provider-isvapp\[s3\]"):
            resolve_destination("s3://lake@bucket/key")

    def test_a_connection_that_does_not_exist_is_named(self) -> None:
        """Amazon's hook would go on without it, to the bucket of that name, whoever it belongs to."""
        with pytest.raises(InvalidConnection, match="nope"):
            resolve_destination("s3://nope@bucket/key")

    @pytest.mark.parametrize("scheme", ["s3", "s3a", "s3n"])
    def test_each_scheme_of_hadoop_is_the_same_bucket(self, scheme: str) -> None:
        destination = resolve_destination(f"{scheme}://lake@bucket/a/b")

        assert (destination.kind, destination.store.namespace, destination.key) == ("s3", "s3://bucket", "a/b")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"StorageClas": "GLACIER"}, "S3 takes no 'StorageClas' here. It takes ACL, BucketKeyEnabled"),
            ({"Metadata": {}}, "S3 takes no 'Metadata' here"),
            ({"BucketKeyEnabled": "yes"}, "storage_options: Invalid type for parameter BucketKeyEnabled, value: yes"),
        ],
    )
    def test_wrong_options_are_refused_before_anything_is_sent(self, options: dict[str, Any], message: str) -> None:
        destination = resolve_destination("s3://lake@bucket/key", storage_options=options)

        with pytest.raises(InvalidArgument, match=message):
            destination.target().check()

    @pytest.mark.parametrize(
        "operator",
        [
            IsvappExportOperator(
                task_id="a", path="s3://lake@bucket/key", timeframe="LATEST_COMPLETED_MONTH", taxonomy_ids=["t"]
            ),
            IsvappDownloadExportOperator(task_id="b", path="s3://lake@bucket/key", export_id="e"),
            IsvappFetchSalesforceAccountsOperator(task_id="c", path="s3://lake@bucket/key"),
            ProductivFetchAppsOperator(task_id="d", path="s3://lake@bucket/key"),
        ],
        ids=lambda operator: type(operator).__name__,
    )
    def test_every_operator_that_writes_takes_them(self, operator: Any) -> None:
        operator.storage_options = {"SSEKMSKeyId": "{{ 'a' ~ 'b' }}", "Surprise": 1}
        operator.render_template_fields(task_context())
        assert operator.storage_options == {"SSEKMSKeyId": "ab", "Surprise": 1}

        with pytest.raises(Exception, match="S3 takes no 'Surprise' here"):
            operator.execute(task_context())
