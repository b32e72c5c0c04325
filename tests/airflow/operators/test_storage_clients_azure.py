# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Every form of a connection to Azure, used against azurite, which checks signatures and tokens."""

from __future__ import annotations

import base64
import json
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.errors import InvalidArgument, InvalidConnection, StorageFailed
from airflow_provider_isvapp.operators.storage_clients import resolve_destination
from airflow_provider_isvapp.transfer.destination import Destination
from airflow_provider_isvapp.version_compat import ObjectStoragePath
from tests.support.airflow_connections import SetConnection
from tests.support.http_server import HttpServer, QuietHandler
from tests.support.object_stores import AZURE_ACCOUNT, AZURE_KEY, azurite
from tests.support.tls_server import write_certificate

pytest.importorskip("airflow.providers.microsoft.azure.hooks.wasb", reason="the extra 'azure' is not installed")

import azure.storage.blob as blob

TENANT = "11111111-2222-3333-4444-555555555555"
SECRET = "the principal's secret"


class TokenIssuer(HttpServer):
    """Issues tokens for storage: as Entra does to a service principal, and as a host does to its own identity.

    :param certificate: the TLS certificate and its key; None for plain HTTP.
    """

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        super().__init__()
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self.url = self.url.replace("http:", "https:")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(QuietHandler):
            def do_GET(self) -> None:
                if "openid-configuration" in self.path:
                    base = f"{issuer.url}/{TENANT}"
                    self._send(
                        200,
                        issuer=f"{base}/v2.0",
                        authorization_endpoint=f"{base}/oauth2/v2.0/authorize",
                        token_endpoint=f"{base}/oauth2/v2.0/token",
                    )
                else:
                    assert self.headers["X-IDENTITY-HEADER"] == "of the host"
                    self._send(200, **_token(), resource="https://storage.azure.com")

            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                if "principal%27s" in form:
                    self._send(200, **_token())
                else:
                    self._send(401, error="invalid_client", error_description="AADSTS7000215: Invalid client secret.")

            def _send(self, status: int, **fields: Any) -> None:
                body = json.dumps(fields).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        return Handler


def _token() -> dict[str, Any]:
    now = int(time.time())
    claims = {
        "aud": "https://storage.azure.com",
        "iss": f"https://sts.windows.net/{TENANT}/",
        "iat": now - 60,
        "nbf": now - 60,
        "exp": now + 3_600,
    }
    parts = [json.dumps(part).encode() for part in ({"alg": "RS256", "typ": "JWT"}, claims)]
    token = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (*parts, b"unchecked"))
    return {"access_token": token, "token_type": "Bearer", "expires_in": 3_600, "expires_on": str(now + 3_600)}


@dataclass(frozen=True)
class Account:
    """A storage account that accepts only TLS.

    :param issuer: the issuer of tokens for service principals.
    """

    url: str
    certificate: Path
    issuer: TokenIssuer

    @property
    def connection_string(self) -> str:
        return (
            f"DefaultEndpointsProtocol=https;AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};BlobEndpoint={self.url}"
        )

    @property
    def token(self) -> str:
        token: str = blob.generate_account_sas(
            AZURE_ACCOUNT,
            AZURE_KEY,
            resource_types="sco",
            permission="rwdlac",
            expiry=datetime.now(UTC) + timedelta(hours=1),
        )
        return token

    def container(self) -> Any:
        service = blob.BlobServiceClient(self.url, credential=AZURE_KEY, connection_verify=str(self.certificate))
        return service.get_container_client("lake")


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    folder = tmp_path_factory.mktemp("azurite")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    write_certificate(certificate, key, "127.0.0.1")
    options = ("--oauth", "basic", "--cert", str(certificate), "--key", str(key))
    with azurite(folder, *options) as url, TokenIssuer((certificate, key)) as issuer:
        account = Account(url, certificate, issuer)
        account.container().create_container()
        yield account


def principal(account: Account, **fields: Any) -> dict[str, Any]:
    login = {"authority": account.issuer.url, "disable_instance_discovery": True}
    return {
        "host": account.url,
        "login": "66666666-7777-8888-9999-000000000000",
        "password": SECRET,
        "extra": {
            "tenant_id": TENANT,
            "client_secret_auth_config": {**login, "connection_verify": str(account.certificate)},
        },
    } | fields


WASB: dict[str, Callable[[Account], dict[str, Any]]] = {
    "connection string": lambda account: {"extra": {"connection_string": account.connection_string}},
    "connection string of an old form": lambda account: {
        "extra": {"extra__wasb__connection_string": account.connection_string}
    },
    "account and key": lambda account: {"host": account.url, "login": AZURE_ACCOUNT, "password": AZURE_KEY},
    "shared access key": lambda account: {"host": account.url, "extra": {"shared_access_key": AZURE_KEY}},
    "SAS token": lambda account: {"host": account.url, "extra": {"sas_token": f"?{account.token}"}},
    "URL with a SAS token": lambda account: {"extra": {"sas_token": f"{account.url}?{account.token}"}},
    "service principal": principal,
    "managed identity": lambda account: {"host": account.url},
    "identity of the user's choice": lambda account: {
        "host": account.url,
        "extra": {"managed_identity_client_id": "me", "workload_identity_tenant_id": TENANT},
    },
}
ADLS: dict[str, Callable[[Account], dict[str, Any]]] = {
    "connection string": WASB["connection string"],
    "account and key": lambda account: {"password": AZURE_KEY, "extra": {"account_url": account.url}},
    "managed identity": lambda account: {"extra": {"account_url": account.url}},
}


@pytest.fixture
def define(account: Account, set_connection: SetConnection, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Define the connection ``lake``, whose extra makes its clients trust azurite's certificate."""

    def define(conn_type: str, fields: dict[str, Any]) -> None:
        extra = {"connection_verify": str(account.certificate), "retry_total": 0} | fields.get("extra", {})
        set_connection("lake", conn_type=conn_type, **(fields | {"extra": extra}))

    return define


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give this host an identity, as App Service does."""
    with TokenIssuer() as issuer:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{issuer.url}/token")
        monkeypatch.setenv("IDENTITY_HEADER", "of the host")
        yield


def publish(destination: Destination) -> None:
    target = destination.target()
    target.check()
    staged = target.stage(exclusive=False, content_type="application/x-ndjson", provenance=None)
    staged.write(b"{}\n")
    staged.flush()
    staged.commit()


@pytest.mark.parametrize(
    ("conn_type", "form"), [*(("wasb", form) for form in WASB), *(("adls", form) for form in ADLS)]
)
def test_a_connection_of_each_form_writes(
    account: Account, define: Callable[..., None], identity: None, conn_type: str, form: str
) -> None:
    define(conn_type, {"wasb": WASB, "adls": ADLS}[conn_type][form](account))
    key = f"{conn_type} {form}"
    publish(resolve_destination(f"abfs://lake@lake/{key}"))
    assert account.container().download_blob(key).readall() == b"{}\n"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"password": "d3Jvbmc="}, "40[03] .* Check the (key|connection.s credentials)"),
        ({"extra": {"sas_token": "?sv=2024-01-01&sig=d3Jvbmc="}}, "403 .* SAS token"),
    ],
    ids=["key", "SAS token"],
)
def test_wrong_credentials_are_named(
    account: Account, define: Callable[..., None], fields: dict[str, Any], message: str
) -> None:
    define("wasb", {"host": account.url, "login": AZURE_ACCOUNT} | fields)
    with pytest.raises(StorageFailed, match=message):
        resolve_destination("abfs://lake@lake/key").target().check()


def test_a_service_principal_that_is_refused_is_named(account: Account, define: Callable[..., None]) -> None:
    define("wasb", principal(account, password="another"))
    with pytest.raises(StorageFailed, match=r"AADSTS7000215.* Check the connection's credentials"):
        resolve_destination("abfs://lake@lake/key").target().check()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"conn_type": "wasb"}, "host: the storage account is missing"),
        ({"conn_type": "wasb", "login": "id", "password": "secret", "extra": {"tenant_id": "t"}}, "host: .* missing"),
        ({"conn_type": "adls", "login": "id", "password": "secret"}, "host: .* missing"),
        ({"conn_type": "aws", "login": "key"}, "conn_type: must be wasb or adls for Azure, not 'aws'"),
        ({"conn_type": "wasb", "extra": {"connection_string": "nonsense"}}, "Connection string is .*malformed"),
    ],
    ids=["nothing", "principal", "data lake", "type", "connection string"],
)
def test_a_connection_that_names_no_account_is_refused(
    set_connection: SetConnection, fields: dict[str, Any], message: str
) -> None:
    set_connection("lake", **fields)
    with pytest.raises(InvalidConnection, match=f"connection 'lake': .*{message}"):
        resolve_destination("abfs://lake@container/key")


def test_a_connection_that_does_not_exist_is_named() -> None:
    with pytest.raises(InvalidConnection, match="nope"):
        resolve_destination("abfs://nope@container/key")


ACCOUNT_URL = "https://account.blob.core.windows.net/"


@pytest.mark.parametrize(
    "path",
    [
        *(f"{scheme}://lake@container/a/b" for scheme in ("abfs", "abfss", "az", "adl", "wasb", "wasbs")),
        *(f"{scheme}://container@account.dfs.core.windows.net/a/b" for scheme in ("abfs", "abfss", "az")),
        *(f"{scheme}://container@account.blob.core.windows.net/a/b" for scheme in ("wasb", "wasbs")),
        "abfss://account.dfs.core.windows.net/container/a/b",
    ],
)
def test_a_blob_by_each_form_of_url(set_connection: SetConnection, path: str) -> None:
    set_connection("lake", conn_type="wasb", login="account", password=AZURE_KEY)

    destination = resolve_destination(path)

    store: Any = destination.store
    assert (store.client.url, store.bucket, destination.key) == (ACCOUNT_URL, "container", "a/b")
    assert store.namespace == "abfss://container@account.dfs.core.windows.net"
    assert destination.uri == path


@pytest.mark.parametrize("scheme", ["abfs", "abfss"])
def test_an_object_storage_path_with_a_connection(set_connection: SetConnection, scheme: str) -> None:
    set_connection("lake", conn_type="wasb", login="account", password=AZURE_KEY)
    destination = resolve_destination(ObjectStoragePath(f"{scheme}://lake@container/a/b"))
    store: Any = destination.store
    assert (store.client.url, store.bucket, destination.key) == (ACCOUNT_URL, "container", "a/b")


@pytest.mark.parametrize("path", ["abfss://container@account.dfs.core.windows.net/a", "abfss://container/a"])
def test_an_object_storage_path_does_not_keep_the_account(path: str) -> None:
    """Airflow mistakes the container for a connection id."""
    with pytest.raises((InvalidArgument, InvalidConnection)):
        resolve_destination(ObjectStoragePath(path))


def test_the_environment_can_name_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidArgument, match="'abfs://container/a' names no storage account"):
        resolve_destination("abfs://container/a")
    text = f"DefaultEndpointsProtocol=https;AccountName=account;AccountKey={AZURE_KEY}"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
    store: Any = resolve_destination("abfs://container/a").store
    assert (store.client.url, store.bucket) == (ACCOUNT_URL, "container")


def test_the_first_generation_of_the_data_lake_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="retired"):
        resolve_destination("adl://account.azuredatalakestore.net/folder/key")
