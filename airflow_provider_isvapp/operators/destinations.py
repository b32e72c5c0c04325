# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""From a path and an Airflow connection to a destination, through the client that Airflow's own hook hands out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_provider_isvapp.errors import InvalidArgument
from airflow_provider_isvapp.hooks.base import fetch_connection
from airflow_provider_isvapp.version_compat import ObjectStoragePath, has_file_system

if TYPE_CHECKING:
    from airflow_provider_isvapp.transfer.destination import Destination
    from airflow_provider_isvapp.transfer.staging.base import ObjectStore

PathArgument: TypeAlias = ObjectStoragePath | str


def resolve_destination(path: object, *, storage_options: Mapping[str, Any] | None = None) -> Destination:
    """Understand a path without touching the storage.

    :param path: an ``ObjectStoragePath``, a URI such as ``s3://conn_id@bucket/key``, or an absolute local path.
    :param storage_options: further arguments for the storage's client, such as the key that encrypts the object.
    :raises InvalidArgument: if it names no object, or is on a storage that this Airflow does not know.
    :raises InvalidConnection: if it names a connection that does not exist.
    """
    # Only a running task needs it.
    from airflow_provider_isvapp.transfer.destination import (
        STORAGE_KINDS,
        Destination,
        checked_key,
        open_destination,
    )
    from airflow_provider_isvapp.transfer.staging.local import LocalStore

    text = str(path) if isinstance(path, ObjectStoragePath) else _checked_text(path)
    scheme = text.partition("://")[0] if "://" in text else "file"
    options = dict(storage_options or {})
    if scheme in ("file", "local"):
        return Destination(store=LocalStore(options=options), key=checked_key(_local_path(text), text), uri=text)
    place = _Place.of(text)
    kind = STORAGE_KINDS.get(scheme)
    if kind in _OPENERS:
        key = checked_key(place.key, text)
        try:
            return Destination(store=_OPENERS[kind](place, options), key=key, uri=text)
        except ImportError:  # a provider is missing, or the library that it needs for this
            pass
    elif has_file_system(scheme):
        storage_path = path if isinstance(path, ObjectStoragePath) else ObjectStoragePath(text)
        return open_destination(storage_path)
    # The extra that brings the client has the name of the kind.
    raise _no_file_system(text, scheme, extra=kind)


@dataclass(frozen=True, kw_only=True)
class _Place:
    """The parts of a URI.

    :param user: what stands before the last ``@`` of its host: the connection id; on Azure, it can be the container.
    :param host: the bucket, or the host of an account.
    """

    uri: str
    user: str | None
    host: str
    key: str

    @classmethod
    def of(cls, uri: str) -> _Place:
        host, _, key = uri.partition("://")[2].partition("/")
        user, _, host = host.rpartition("@")
        return cls(uri=uri, user=user or None, host=host, key=key)


def _open_s3(place: _Place, options: Mapping[str, Any]) -> ObjectStore:
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from botocore.config import Config

    from airflow_provider_isvapp.transfer.staging.base import storage_errors
    from airflow_provider_isvapp.transfer.staging.s3 import S3Store

    if place.user is not None:
        # Its hook would go on without the connection, to the public bucket of that name.
        fetch_connection(place.user)
    with storage_errors(place.uri, reading=True):
        hook = S3Hook(aws_conn_id=place.user)
        # A request is tried again with growing waits (429, 500, 503, resets), unless the connection says otherwise.
        config = Config(retries={"mode": "standard", "max_attempts": 6}).merge(hook.config)
        client = hook.get_client_type(config=config)
    return S3Store(client, place.host, options=options)


def _open_fsspec(place: _Place, options: Mapping[str, Any]) -> ObjectStore:
    from airflow_provider_isvapp.transfer.destination import open_destination

    if not has_file_system(place.uri.partition("://")[0]):
        raise ImportError
    storage_path = ObjectStoragePath(place.uri)
    storage_path.fs  # noqa: B018 (imports and opens the file system)
    return open_destination(storage_path).store


_OPENERS = {"s3": _open_s3, "gcs": _open_fsspec, "azure": _open_fsspec}


def _checked_text(path: object) -> str:
    if not isinstance(path, str) or not path.strip():
        raise InvalidArgument(f"path: must be a URI, an absolute local path or an ObjectStoragePath, not {path!r}.")
    # Airflow would drop the slash, and write an object in the place of the folder.
    if path.endswith("/"):
        raise InvalidArgument(f"path {path!r} names a folder; add the name of the object to write.")
    return path


def _local_path(path: str) -> str:
    local = path.partition("://")[2] if "://" in path else path
    # Relative to what? Each worker has its own working directory, and Airflow 2.11 takes the root.
    if not local.startswith("/"):
        raise InvalidArgument(f"path {path!r} is relative; give an absolute path, or a URI such as s3://bucket/key.")
    return local


def _no_file_system(path: str, scheme: str, *, extra: str | None) -> InvalidArgument:
    step = f"Install it with: pip install 'airflow-provider-isvapp[{extra}]'" if extra else "Use file, s3, gs or abfs."
    return InvalidArgument(f"path {path!r}: this Airflow has no file system for {scheme}://. {step}")
