# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The location of an object, and the store that stages it there."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from airflow_provider_isvapp.errors import InvalidArgument
from airflow_provider_isvapp.transfer.staging.base import ObjectStore, ObjectTarget, StorageKind
from airflow_provider_isvapp.transfer.staging.local import LocalStore


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


def local_destination(uri: str, *, options: Mapping[str, Any] | None = None) -> Destination:
    """Return the destination of a local file.

    :param uri: a path, or a URI such as ``file:///path``.
    :param options: must be empty: local files take no options.
    :raises InvalidArgument: if it names no file.
    """
    path = uri.partition("://")[2] if "://" in uri else uri
    return Destination(store=LocalStore(options=options), key=checked_key(path, uri), uri=uri)


def fsspec_destination(path: StoragePath) -> Destination:
    """Return the destination of an object in a file system of fsspec.

    :raises InvalidArgument: if it names no object.
    """
    from airflow_provider_isvapp.transfer.staging.fsspec import FsspecStore

    protocol = path.fs.protocol if isinstance(path.fs.protocol, str) else path.fs.protocol[0]
    store = FsspecStore(path.fs, namespace=f"{protocol}://{getattr(path.fs, 'host', '')}")
    return Destination(store=store, key=checked_key(path.path, str(path)), uri=str(path))


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
