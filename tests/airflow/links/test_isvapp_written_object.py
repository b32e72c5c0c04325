# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The link to the console of the storage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.emulator import Emulator, ManualClock
from airflow_provider_isvapp.links.isvapp import console_url
from airflow_provider_isvapp.operators import base
from airflow_provider_isvapp.operators.isvapp import IsvappExportOperator, IsvappFetchSalesforceAccountsOperator
from airflow_provider_isvapp.transfer.destination import Destination, local_destination
from airflow_provider_isvapp.transfer.staging.fsspec import FsspecStore
from airflow_provider_isvapp.transfer.staging.s3 import S3Store
from tests.support.object_stores import gcs_client, in_gcs
from tests.support.task_context import run_to_its_end, task_context

KEY = "_link_WrittenObjectLink"


def s3(region: str | None = None, key: str = "bucket/a folder/usage.ndjson", **options: Any) -> Destination:
    import boto3

    keys = {"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key": "wJalrXUtnFEMI"}
    client = boto3.client("s3", region_name=region, **keys, **options)
    bucket, _, name = key.partition("/")
    return Destination(store=S3Store(client, bucket), key=name, uri=f"s3://{key}")


class TestAmazon:
    @pytest.mark.parametrize(
        ("region", "console"),
        [
            ("eu-central-1", "console.aws.amazon.com"),
            ("us-east-1", "console.aws.amazon.com"),
            ("us-gov-west-1", "console.amazonaws-us-gov.com"),
            ("cn-north-1", "console.amazonaws.cn"),
        ],
    )
    def test_each_partition_has_its_console(self, region: str, console: str) -> None:
        assert console_url(s3(region)) == (
            f"https://{console}/s3/object/bucket?region={region}&prefix=a%20folder/usage.ndjson"
        )

    def test_several_objects_have_the_folder_above_them(self) -> None:
        key = "bucket/usage/month={reference_date}/usage.ndjson"

        assert console_url(s3("eu-central-1", key), placeholder="{reference_date}") == (
            "https://console.aws.amazon.com/s3/buckets/bucket?region=eu-central-1&prefix=usage/"
        )

    def test_several_objects_at_the_top_have_the_bucket(self) -> None:
        destination = s3("eu-central-1", "bucket/{reference_date}.ndjson")

        assert console_url(destination, placeholder="{reference_date}") == (
            "https://console.aws.amazon.com/s3/buckets/bucket?region=eu-central-1"
        )

    @pytest.mark.parametrize(
        "endpoint", ["http://127.0.0.1:9000", "https://s3.example.com", "https://amazonaws.com.example.com"]
    )
    def test_another_endpoint_has_none(self, endpoint: str) -> None:
        assert console_url(s3("eu-central-1", endpoint_url=endpoint)) is None

    def test_an_endpoint_in_the_environment_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000")

        # Another region, since clients are cached.
        assert console_url(s3("eu-north-1")) is None

    def test_there_is_no_credential_in_it(self) -> None:
        url = console_url(s3("eu-central-1"))

        assert url is not None
        assert "AKIA" not in url
        assert "wJalr" not in url


class TestGoogle:
    def at(self, endpoint: str, path: str) -> Destination:
        pytest.importorskip("google.cloud.storage", reason="needs the extra gcs")
        return in_gcs(gcs_client(endpoint), path)

    def test_an_object_has_its_page(self) -> None:
        destination = self.at("https://storage.googleapis.com", "bucket/a folder/usage.ndjson")

        assert console_url(destination) == (
            "https://console.cloud.google.com/storage/browser/_details/bucket/a%20folder/usage.ndjson"
        )

    def test_several_objects_have_the_folder_above_them(self) -> None:
        destination = self.at("https://storage.googleapis.com", "bucket/usage/{reference_date}.ndjson")

        assert console_url(destination, placeholder="{reference_date}") == (
            "https://console.cloud.google.com/storage/browser/bucket/usage/"
        )

    def test_an_emulator_has_none(self) -> None:
        assert console_url(self.at("http://127.0.0.1:4443", "bucket/key")) is None


def test_other_storages_have_none(tmp_path: Path) -> None:
    assert console_url(local_destination(str(tmp_path / "usage"))) is None
    azure = FsspecStore(None, namespace="abfss://container@account.dfs.core.windows.net")
    assert console_url(Destination(store=azure, key="usage", uri="abfss://container/usage")) is None


def test_without_a_link_nothing_is_stored(isvapp: Emulator, tmp_path: Path) -> None:
    context = task_context()

    IsvappFetchSalesforceAccountsOperator(task_id="accounts", path=str(tmp_path / "a")).execute(context)

    assert KEY not in context["ti"].xcoms


class TestStored:
    """If the storage has a console, the task stores the URL when the object is published."""

    @pytest.fixture(autouse=True)
    def console(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        calls: list[Any] = []

        def url(destination: Destination, *, placeholder: str | None = None) -> str:
            calls.append((destination.key, placeholder))
            return "https://console.example.com/object"

        monkeypatch.setattr(base, "console_url", url)
        return calls

    def test_of_a_list(self, isvapp: Emulator, tmp_path: Path, console: list[Any]) -> None:
        context = task_context()

        IsvappFetchSalesforceAccountsOperator(task_id="accounts", path=str(tmp_path / "a")).execute(context)

        assert context["ti"].xcoms[KEY] == "https://console.example.com/object"
        assert console == [(str(tmp_path / "a"), None)]

    def test_of_a_divided_export_that_of_the_folder(
        self, isvapp: Emulator, clock: ManualClock, tmp_path: Path, console: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("airflow_provider_isvapp.triggers.isvapp.EARLIEST_EVENT", 0.0)
        monkeypatch.setattr("airflow_provider_isvapp.triggers.waiters.FIRST_INTERVAL", 0.02)
        context = task_context()
        path = str(tmp_path / "{reference_date}" / "usage")

        run_to_its_end(
            lambda: IsvappExportOperator(
                task_id="x",
                timeframe="LATEST_12_COMPLETED_MONTHS",
                taxonomy_ids=["taxonomy"],
                path=path,
                partition_by="reference_date",
                deferrable=True,
            ),
            context,
            deferred=lambda _: clock.advance(61),
        )

        assert context["ti"].xcoms[KEY] == "https://console.example.com/object"
        assert console == [(path, "{reference_date}")]
