# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Resolves a path and an Airflow connection to a destination, with the client of Airflow's own hook."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_provider_isvapp.errors import InvalidArgument, InvalidConnection
from airflow_provider_isvapp.hooks.base import fetch_connection
from airflow_provider_isvapp.version_compat import AirflowException, ObjectStoragePath, has_file_system

if TYPE_CHECKING:
    from airflow_provider_isvapp.transfer.destination import Destination
    from airflow_provider_isvapp.transfer.staging.base import ObjectStore

PathArgument: TypeAlias = ObjectStoragePath | str


def resolve_destination(path: object, *, storage_options: Mapping[str, Any] | None = None) -> Destination:
    """Resolve a path without a request to the storage.

    :param path: an ``ObjectStoragePath``, a URI such as ``s3://conn_id@bucket/key``, or an absolute local path.
    :param storage_options: further arguments for the storage's client, such as an encryption key.
    :raises InvalidArgument: if the path names no object, or this Airflow does not know the storage.
    :raises InvalidConnection: if it names a connection that does not exist.
    """
    # Imported here, since only a running task needs it.
    from airflow_provider_isvapp.transfer.destination import (
        Destination,
        checked_key,
        fsspec_destination,
        local_destination,
    )

    text = str(path) if isinstance(path, ObjectStoragePath) else _checked_text(path)
    scheme = text.partition("://")[0] if "://" in text else "file"
    options = dict(storage_options or {})
    if scheme in ("file", "local"):
        _check_absolute(text)
        return local_destination(text, options=options)
    storage = next((item for item in _STORAGES if scheme in item.schemes), None)
    if storage is not None:
        location = storage.parse(text)
        key = checked_key(location.key, text)
        try:
            return Destination(store=storage.open(location, options), key=key, uri=text)
        except ImportError:  # the provider or its client library is missing
            raise _no_file_system(text, scheme, extra=storage.extra) from None
    if has_file_system(scheme):
        return fsspec_destination(path if isinstance(path, ObjectStoragePath) else ObjectStoragePath(text))
    raise _no_file_system(text, scheme, extra=None)


@dataclass(frozen=True, kw_only=True)
class _Location:
    """The parts of a URI.

    :param user: the part before the last ``@`` of the host: the connection id, or on Azure possibly the container.
    :param host: the bucket, or the host of an account.
    """

    uri: str
    user: str | None
    host: str
    key: str

    @classmethod
    def of(cls, uri: str) -> _Location:
        host, _, key = uri.partition("://")[2].partition("/")
        user, _, host = host.rpartition("@")
        return cls(uri=uri, user=user or None, host=host, key=key)

    @classmethod
    def of_blob(cls, uri: str) -> _Location:
        """Parse an Azure URI; the container begins the path if the host is only an account, as in an asset's URI."""
        location = cls.of(uri)
        if location.names_account and location.user is None:
            container, _, key = location.key.partition("/")
            return replace(location, user=container, key=key)
        return location

    @property
    def names_account(self) -> bool:
        """Whether the host is that of an Azure account: a container's name has no dot."""
        return "." in self.host


def _open_s3(location: _Location, options: Mapping[str, Any]) -> ObjectStore:
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from botocore.config import Config

    from airflow_provider_isvapp.transfer.staging.s3 import S3Store, s3_errors

    if location.user is not None:
        # Without the connection, the hook would fall back to boto3's own credentials.
        fetch_connection(location.user)
    with s3_errors(location.uri, reading=True):
        hook = S3Hook(aws_conn_id=location.user)
        # Retry with exponential backoff (429, 500, 503, resets), unless the connection configures retries.
        config = Config(retries={"mode": "standard", "max_attempts": 6}).merge(hook.config)
        client = hook.get_client_type(config=config)
    return S3Store(client, location.host, options=options)


def _open_azure(location: _Location, options: Mapping[str, Any]) -> ObjectStore:
    from azure.identity import DefaultAzureCredential
    from azure.storage.blob import BlobServiceClient

    from airflow_provider_isvapp.transfer.staging.azure import CLIENT_OPTIONS, AzureStore

    if location.names_account:
        if location.host.endswith(".azuredatalakestore.net"):
            raise InvalidArgument(f"path {location.uri!r}: Microsoft has retired Data Lake Storage Gen1. Use abfss://.")
        # The data lake's host does not accept blob requests.
        url = f"https://{location.host.replace('.dfs.', '.blob.', 1)}"
        client = BlobServiceClient(url, credential=DefaultAzureCredential(), **CLIENT_OPTIONS)
        return AzureStore(client, location.user or "", options=options)
    if location.user is not None:
        return AzureStore(_azure_client(location.user), location.host, options=options)
    connection_string = os.environ.get("AZURE_STORAGE_CONNECTION_STRING")
    if connection_string is None:
        raise InvalidArgument(
            f"path {location.uri!r} names no storage account. Write abfs://conn_id@container/key with an Airflow "
            "connection, or abfs://container@account.dfs.core.windows.net/key for the worker's own identity."
        )
    client = BlobServiceClient.from_connection_string(connection_string, **CLIENT_OPTIONS)
    return AzureStore(client, location.host, options=options)


def _azure_client(conn_id: str) -> Any:
    from airflow.providers.microsoft.azure.hooks.data_lake import AzureDataLakeStorageV2Hook
    from airflow.providers.microsoft.azure.hooks.wasb import WasbHook

    from airflow_provider_isvapp.transfer.staging.azure import CLIENT_OPTIONS

    connection = fetch_connection(conn_id)
    # Airflow 2 can store the fields of a form under prefixed names.
    extra = {name.rpartition("__")[2]: value for name, value in connection.extra_dejson.items() if value}
    names_account: Any = connection.host or extra.keys() & {"connection_string", "account_url"}
    if connection.conn_type == "wasb" and "tenant_id" not in extra:
        names_account = names_account or connection.login or str(extra.get("sas_token")).startswith("https:")
    if connection.conn_type not in ("wasb", "adls"):
        problem = f"conn_type: must be wasb or adls for Azure, not {connection.conn_type!r}."
    elif not names_account:
        problem = "host: the storage account is missing; wasb takes its URL, and adls its name."
    else:
        is_data_lake = connection.conn_type == "adls"
        hook: Any = AzureDataLakeStorageV2Hook(conn_id) if is_data_lake else WasbHook(conn_id)
        # The hooks pass the whole extra to the client.
        hook.get_connection = lambda _: SimpleNamespace(
            host=connection.host,
            login=connection.login,
            password=connection.password,
            extra_dejson=connection.extra_dejson | CLIENT_OPTIONS,
        )
        try:
            client = hook.get_conn()
            # The data lake API has no block lists, but its client contains a client for blobs.
            return client._blob_service_client if is_data_lake else client
        except (ValueError, TypeError) as error:
            problem = f"no Azure client can be created from its fields: {error}"
    raise InvalidConnection(f"connection {conn_id!r}: {problem}")


def _open_gcs(location: _Location, options: Mapping[str, Any]) -> ObjectStore:
    from airflow.providers.google.cloud.hooks.gcs import GCSHook
    from google.cloud.storage import Client

    from airflow_provider_isvapp.transfer.staging.gcs import GcsStore, google_errors

    if location.user is None:
        with google_errors(location.uri, reading=True):
            # Default credentials of the environment, without its default project.
            return GcsStore(Client(project=None), location.host, options=options)
    fetch_connection(location.user)
    with google_errors(location.uri, reading=True):
        try:
            hook = GCSHook(gcp_conn_id=location.user)
            # Airflow's ObjectStoragePath reads this extra, too; the hook does not.
            if endpoint := hook.extras.get("gcs.endpoint"):
                credentials, project = hook.get_credentials_and_project_id()
                client = Client(project, credentials, client_options={"api_endpoint": endpoint})
            else:
                client = hook.get_conn()
        except (AirflowException, OSError, ValueError) as error:
            # The key file is missing, is not JSON or has no key.
            problem = f"{type(error).__name__}: {error}"
        else:
            return GcsStore(client, location.host, options=options)
    raise InvalidConnection(f"connection {location.user!r}: gives no credentials for Google Cloud: {problem}.")


@dataclass(frozen=True, kw_only=True)
class _Storage:
    """An object storage.

    :param extra: the extra of this package that installs its client.
    :param schemes: the schemes of its URIs.
    :param open: opens the bucket or container of a location with the client of Airflow's hook.
    :param parse: splits a URI into its parts.
    """

    extra: str
    schemes: tuple[str, ...]
    open: Callable[[_Location, Mapping[str, Any]], ObjectStore]
    parse: Callable[[str], _Location] = _Location.of


_STORAGES = (
    _Storage(extra="s3", schemes=("s3", "s3a", "s3n"), open=_open_s3),
    _Storage(extra="gcs", schemes=("gs", "gcs"), open=_open_gcs),
    _Storage(
        extra="azure",
        schemes=("abfs", "abfss", "az", "adl", "wasb", "wasbs"),
        open=_open_azure,
        parse=_Location.of_blob,
    ),
)


def _checked_text(path: object) -> str:
    if not isinstance(path, str) or not path.strip():
        raise InvalidArgument(f"path: must be a URI, an absolute local path or an ObjectStoragePath, not {path!r}.")
    # Airflow would drop the slash and write an object in place of the folder.
    if path.endswith("/"):
        raise InvalidArgument(f"path {path!r} names a folder; add the name of the object to write.")
    return path


def _check_absolute(path: str) -> None:
    # Each worker has a different working directory, and Airflow 2.11 resolves relative paths from the root.
    if not (path.partition("://")[2] if "://" in path else path).startswith("/"):
        raise InvalidArgument(f"path {path!r} is relative; give an absolute path, or a URI such as s3://bucket/key.")


def _no_file_system(path: str, scheme: str, *, extra: str | None) -> InvalidArgument:
    step = f"Install it with: pip install 'airflow-provider-isvapp[{extra}]'" if extra else "Use file, s3, gs or abfs."
    return InvalidArgument(f"path {path!r}: this Airflow has no file system for {scheme}://. {step}")
