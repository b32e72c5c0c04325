# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The location of an object, and the store that stages it there."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from airflow_provider_isvapp.errors import InvalidArgument
from airflow_provider_isvapp.transfer.staging.base import ObjectStore, ObjectTarget, StorageKind
from airflow_provider_isvapp.transfer.staging.local import LocalStore

STORAGE_KINDS: dict[str, StorageKind] = {
    "file": "local",
    "local": "local",
    "s3": "s3",
    "s3a": "s3",
    "s3n": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "abfs": "azure",
    "abfss": "azure",
    "az": "azure",
    "adl": "azure",
    "wasb": "azure",
    "wasbs": "azure",
}
"""The storages that publish an object in one step, by the scheme of a URI (fsspec's protocol)."""


@runtime_checkable
class StoragePath(Protocol):
    """The part of Airflow's ObjectStoragePath, or of a UPath, that this package needs."""

    @property
    def fs(self) -> Any:
        """The fsspec file system."""
        ...

    @property
    def path(self) -> str:
        """The object's path in that file system."""
        ...


@dataclass(frozen=True, kw_only=True)
class Destination:
    """The location of one object, or of one for each value of a field.

    :param store: the bucket or container with the client that reaches it.
    :param key: the name in the store.
    :param uri: the URI to show.
    """

    store: ObjectStore
    key: str
    uri: str

    @property
    def kind(self) -> StorageKind:
        """The kind of storage."""
        return self.store.kind

    def target(self) -> ObjectTarget:
        """Return the object as a target of its kind of storage."""
        return self.store.target(self.key, self.uri)

    def with_value(self, placeholder: str, value: str) -> Destination:
        """Return the destination with a placeholder of its template, such as ``{reference_date}``, replaced."""
        return replace(self, key=self.key.replace(placeholder, value), uri=self.uri.replace(placeholder, value))

    def values_of(self, placeholder: str) -> list[str]:
        """List the values of a placeholder for which the storage has an object or a folder."""
        before, _, after = self.key.partition(placeholder)
        # Only the segment of the path with the first placeholder is listed.
        parts = [re.escape(before), *map(re.escape, after.partition("/")[0].split(placeholder))]
        pattern = re.compile(parts[0] + "(?P<value>[^/]+)" + "(?P=value)".join(parts[1:]))
        return sorted({match["value"] for match in map(pattern.fullmatch, self.store.names(before)) if match})

    def sibling(self, *, prefix: str, suffix: str) -> Destination:
        """Return the destination in the same folder whose name has this prefix and suffix."""

        def renamed(path: str) -> str:
            folder, slash, name = path.rpartition("/")
            return f"{folder}{slash}{prefix}{name}{suffix}"

        return replace(self, key=renamed(self.key), uri=renamed(self.uri))


def open_destination(path: StoragePath | str) -> Destination:
    """Resolve a path without Airflow: a local path, or a URI that fsspec has a file system for.

    :param path: a path, a URI, or an object with ``fs`` and ``path`` such as a UPath.
    :raises InvalidArgument: if it names no object.
    """
    if isinstance(path, StoragePath):
        fs, key, uri = path.fs, path.path, str(path)
    else:
        scheme = path.partition("://")[0] if "://" in path else "file"
        if STORAGE_KINDS.get(scheme) == "local":
            key = path.partition("://")[2] if "://" in path else path
            return Destination(store=LocalStore(), key=checked_key(key, path), uri=path)
        fs, key = _file_system(path)
        uri = path
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    if STORAGE_KINDS.get(protocol) == "local":
        return Destination(store=LocalStore(), key=checked_key(key, uri), uri=uri)
    from airflow_provider_isvapp.transfer.staging.fsspec import FsspecStore

    store = FsspecStore(fs, namespace=f"{protocol}://{getattr(fs, 'host', '')}")
    return Destination(store=store, key=checked_key(key, uri), uri=uri)


def _file_system(uri: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    try:
        fs, key = url_to_fs(uri)
    except (ImportError, ValueError) as error:
        reason = str(error)
    else:
        return fs, key
    raise InvalidArgument(f"path {uri!r}: there is no file system for it ({reason}). Use file, s3, gs or abfs.")


def checked_key(key: str, uri: str) -> str:
    """Return a key if it can name an object.

    :raises InvalidArgument: if it cannot.
    """
    if not key or key.endswith("/"):
        raise InvalidArgument(f"path {uri!r} names a folder; add the name of the object to write.")
    try:
        os.fsencode(key)
    except UnicodeEncodeError:
        writable = False
    else:
        writable = "\0" not in key
    if not writable:
        raise InvalidArgument(f"path {uri!r} has a character that no storage accepts in a name. Choose another path.")
    return key
