# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from airflow_provider_isvapp.emulator import Emulator
from airflow_provider_isvapp.errors import InvalidArgument, InvalidConnection, StorageFailed
from airflow_provider_isvapp.operators.isvapp import IsvappDownloadExportOperator, IsvappExportOperator
from airflow_provider_isvapp.operators.productiv import ProductivFetchAppsOperator
from airflow_provider_isvapp.operators.salesforce_accounts import IsvappFetchSalesforceAccountsOperator
from airflow_provider_isvapp.operators.storage_clients import resolve_destination
from airflow_provider_isvapp.transfer.staging.s3 import S3Store
from airflow_provider_isvapp.version_compat import AirflowException, ObjectStoragePath
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
def test_an_unwritable_target_is_named(path: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        resolve_destination(path)


def test_a_storage_whose_provider_is_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.storage.blob", None)
    with pytest.raises(InvalidArgument, match=r"no file system for az://. .*airflow-provider-isvapp\[azure\]"):
        resolve_destination("az://container/usage.ndjson")


def test_a_local_file_takes_no_storage_options(tmp_path: Path) -> None:
    destination = resolve_destination(str(tmp_path / "x"), storage_options={"ACL": "private"})

    with pytest.raises(InvalidArgument, match=r"storage_options: local files take none\. Remove ACL"):
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
    def test_the_connection_in_the_url_is_used(self, as_object: bool) -> None:
        uri = "s3://lake@bucket/month=2024-02/usage.ndjson"

        destination = resolve_destination(ObjectStoragePath(uri) if as_object else uri)

        store = destination.store
        assert isinstance(store, S3Store)
        assert store.client.meta.endpoint_url == "http://127.0.0.1:1"
        assert (store.bucket, destination.key) == ("bucket", "month=2024-02/usage.ndjson")
        assert destination.uri == uri

    def test_a_path_without_a_key_is_refused(self) -> None:
        with pytest.raises(InvalidArgument, match="names a folder"):
            resolve_destination("s3://lake@bucket")

    def test_a_missing_library_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "airflow.providers.amazon.aws.hooks.s3", None)
        with pytest.raises(InvalidArgument, match=r"no file system for s3://. .*airflow-provider-isvapp\[s3\]"):
            resolve_destination("s3://lake@bucket/key")

    def test_a_connection_that_does_not_exist_is_named(self) -> None:
        """Amazon's hook would continue without it, and could write to another account's bucket of that name."""
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


class TestTheTargetIsTriedBeforeTheVendor:
    """A wrong target fails the task before it requests an export, and the check leaves nothing behind."""

    @pytest.fixture(params=["s3", "gs", "file", "connection"])
    def wrong(self, request: pytest.FixtureRequest, set_connection: SetConnection) -> Iterator[tuple[str, str]]:
        """A path that cannot be written, and the next step in its error."""
        if request.param == "s3":
            in_moto(set_connection, request.getfixturevalue("s3_url"))
            yield "s3://lake@missing/key", "Create the bucket, or correct the path."
        elif request.param == "gs":
            pytest.importorskip("airflow.providers.google.cloud.hooks.gcs", reason="needs the extra gcs")
            from tests.support.gcs_server import GcsServer

            with GcsServer("bucket") as server:
                extra = {"is_anonymous": True, "gcs.endpoint": server.url}
                set_connection("lake", conn_type="google_cloud_platform", extra=json.dumps(extra))
                yield "gs://lake@missing/key", "Create the bucket, or correct the path."
        elif request.param == "file":
            yield "/proc/usage.ndjson", "Correct the folder, or choose another path."
        else:
            yield "s3://nope@bucket/key", "Create it, or name another connection."

    @pytest.mark.parametrize("number", range(4))
    def test_nothing_is_sent_and_the_next_step_fits(
        self, number: int, wrong: tuple[str, str], isvapp: Emulator, productiv: Emulator
    ) -> None:
        path, step = wrong
        operator: Any = [
            IsvappExportOperator(task_id="a", path=path, timeframe="LATEST_COMPLETED_MONTH", taxonomy_ids=["t"]),
            IsvappDownloadExportOperator(task_id="b", path=path, export_id="e"),
            IsvappFetchSalesforceAccountsOperator(task_id="c", path=path),
            ProductivFetchAppsOperator(task_id="d", path=path),
        ][number]

        with pytest.raises(AirflowException) as caught:
            operator.execute(task_context())

        assert str(caught.value).endswith(step)
        assert isvapp.requests == productiv.requests == []

    def test_a_good_bucket_has_no_upload_afterwards(self, s3_url: str, set_connection: SetConnection) -> None:
        in_moto(set_connection, s3_url)
        client = resolve_destination("s3://lake@tried/key").store.client  # type: ignore[attr-defined]
        client.create_bucket(Bucket="tried")

        resolve_destination("s3://lake@tried/key").target().check_rights()

        assert "Uploads" not in client.list_multipart_uploads(Bucket="tried")
        assert "Contents" not in client.list_objects_v2(Bucket="tried")


def in_moto(set_connection: SetConnection, url: str) -> None:
    pytest.importorskip("airflow.providers.amazon.aws.hooks.s3", reason="needs the extra s3")
    extra = json.dumps({"endpoint_url": url, "region_name": "us-east-1"})
    set_connection("lake", conn_type="aws", login="key", password="secret", extra=extra)


class TestGcs:
    """Each form of credentials requests a token from the server and uses it."""

    KEY = "month=2024-02/usage.ndjson"

    @pytest.fixture
    def server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        pytest.importorskip("airflow.providers.google.cloud.hooks.gcs", reason="needs the extra gcs")
        from tests.support.gcs_server import GcsServer

        # Otherwise, Google's library looks for the metadata server of a machine on Google Cloud.
        monkeypatch.setenv("NO_GCE_CHECK", "true")
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        monkeypatch.setenv("CLOUDSDK_CONFIG", "/nonexistent")
        with GcsServer("bucket") as server:
            server.store.tokens = set()
            yield server

    @pytest.fixture
    def keyfile(self, server: Any) -> dict[str, str]:
        """The key of a service account, as Google issues it."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        account = "airflow@project.iam.gserviceaccount.com"
        server.store.public_keys[account] = public.decode()
        return {
            "type": "service_account",
            "project_id": "project",
            "private_key_id": "1",
            "private_key": private.decode(),
            "client_email": account,
            "token_uri": f"{server.url}/token",
        }

    def test_a_key_in_the_connection(self, server: Any, keyfile: dict[str, str], set_connection: SetConnection) -> None:
        extra = {"keyfile_dict": json.dumps(keyfile), "gcs.endpoint": server.url}
        set_connection("lake", conn_type="google_cloud_platform", extra=json.dumps(extra))
        self.write_and_read(f"gs://lake@bucket/{self.KEY}")
        assert server.store.tokens

    def test_a_key_in_a_file(
        self, server: Any, keyfile: dict[str, str], set_connection: SetConnection, tmp_path: Path
    ) -> None:
        (tmp_path / "key.json").write_text(json.dumps(keyfile))
        extra = {"key_path": str(tmp_path / "key.json"), "gcs.endpoint": server.url}
        set_connection("lake", conn_type="google_cloud_platform", extra=json.dumps(extra))
        self.write_and_read(f"gcs://lake@bucket/{self.KEY}")
        assert server.store.tokens

    @pytest.mark.parametrize("with_connection", [True, False])
    def test_the_default_credentials_of_the_environment(
        self,
        with_connection: bool,
        server: Any,
        keyfile: dict[str, str],
        set_connection: SetConnection,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        (tmp_path / "key.json").write_text(json.dumps(keyfile))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        set_connection("lake", conn_type="google_cloud_platform")
        if not with_connection:
            # By default, Google's client sends no credentials to an emulator.
            server.store.tokens = None
        self.write_and_read(f"gs://{'lake@' if with_connection else ''}bucket/{self.KEY}")
        assert server.store.tokens is None or server.store.tokens

    def test_the_credentials_of_a_user(
        self, server: Any, set_connection: SetConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server.store.refresh_tokens.add("1//refresh")
        user = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "1//refresh"}
        (tmp_path / "user.json").write_text(json.dumps(user))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "user.json"))
        # Unlike a service account's, the file names no token URL.
        monkeypatch.setattr("google.oauth2.credentials._GOOGLE_OAUTH2_TOKEN_ENDPOINT", f"{server.url}/token")
        set_connection("lake", conn_type="google_cloud_platform", extra=json.dumps({"gcs.endpoint": server.url}))
        self.write_and_read(f"gs://lake@bucket/{self.KEY}")
        assert server.store.tokens

    def test_an_anonymous_client(self, server: Any, set_connection: SetConnection) -> None:
        server.store.tokens = None
        extra = {"is_anonymous": True, "gcs.endpoint": server.url}
        set_connection("lake", conn_type="google_cloud_platform", extra=json.dumps(extra))
        self.write_and_read(f"gs://lake@bucket/{self.KEY}")

    def write_and_read(self, path: str) -> None:
        target = resolve_destination(path).target()
        staged = target.stage(exclusive=True, content_type="application/x-ndjson", provenance=None)
        staged.write(b"{}\n")
        staged.flush()
        assert staged.commit() == target.info()
        with target.open() as stored:
            assert stored.read() == b"{}\n"

    @pytest.mark.parametrize(
        ("extra", "says"),
        [
            ({"key_path": "/nonexistent/key.json"}, "connection 'lake': gives no credentials.*key.json"),
            ({"keyfile_dict": "{"}, "connection 'lake': gives no credentials.*Invalid key JSON"),
            ({"keyfile_dict": {"private_key": "secret!"}}, "connection 'lake': gives no credentials.*client_email"),
        ],
    )
    def test_a_connection_without_credentials_is_named(
        self, server: Any, set_connection: SetConnection, extra: dict[str, Any], says: str
    ) -> None:
        set_connection("lake", conn_type="google_cloud_platform", extra=json.dumps(extra))
        with pytest.raises(InvalidConnection, match=says) as raised:
            resolve_destination(f"gs://lake@bucket/{self.KEY}")
        assert "secret!" not in str(raised.value)

    def test_the_error_of_a_missing_account_names_what_to_check(
        self, server: Any, keyfile: dict[str, str], set_connection: SetConnection
    ) -> None:
        server.store.public_keys.clear()
        extra = {"keyfile_dict": json.dumps(keyfile), "gcs.endpoint": server.url}
        set_connection("lake", conn_type="google_cloud_platform", extra=json.dumps(extra))
        with pytest.raises(StorageFailed, match="Check the credentials of the Google Cloud connection"):
            resolve_destination(f"gs://lake@bucket/{self.KEY}").target().info()

    def test_the_error_of_an_environment_without_credentials_names_them(self, server: Any) -> None:
        with pytest.raises(StorageFailed, match="Check the credentials of the Google Cloud connection"):
            resolve_destination(f"gs://bucket/{self.KEY}")

    def test_a_missing_library_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "airflow.providers.google.cloud.hooks.gcs", None)
        with pytest.raises(InvalidArgument, match=r"no file system for gs://. .*airflow-provider-isvapp\[gcs\]"):
            resolve_destination(f"gs://bucket/{self.KEY}")
