# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Where an object shall be written, and how it is staged there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable
from urllib.parse import urlsplit

from airflow_provider_isvapp.errors import InvalidArgument
from airflow_provider_isvapp.transfer.staged import Staged
from airflow_provider_isvapp.transfer.storage_errors import storage_errors

_LOCAL = frozenset({"file", "local"})
# Storages that were tried to leave the old object in place until the last step.
_STAGING = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"})


@runtime_checkable
class StoragePath(Protocol):
    """What this package needs of Airflow's ObjectStoragePath, or of a UPath."""

    @property
    def fs(self) -> Any:
        """The fsspec file system."""
        ...

    @property
    def path(self) -> str:
        """The object's path inside it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Destination:
    """The place of one object.

    :param fs: the fsspec file system, or None for a local file.
    :param key: the path inside the file system.
    :param uri: the address to show.
    """

    fs: Any
    key: str
    uri: str

    def exists(self) -> bool:
        """Ask the storage, not a cached listing."""
        with storage_errors(self.uri):
            if self.fs is None:
                from pathlib import Path

                return Path(self.key).exists()
            self.fs.invalidate_cache()
            return bool(self.fs.exists(self.key))

    def stage(self, *, exclusive: bool = False) -> Staged:
        """Begin an object; see :class:`~airflow_provider_isvapp.transfer.staged.Staged`."""
        if self.fs is None:
            from airflow_provider_isvapp.transfer.local_file import LocalFile

            return LocalFile(self.key, exclusive=exclusive)
        from airflow_provider_isvapp.transfer.fsspec_object import FsspecObject

        return FsspecObject(self.fs, self.key, self.uri, exclusive=exclusive)

    @contextmanager
    def staged(self, *, exclusive: bool = False) -> Iterator[Staged]:
        """Stage an object, publish it at the end of the block, and drop it if the block raises."""
        staged = self.stage(exclusive=exclusive)
        try:
            yield staged
            staged.seal()
            staged.promote()
        except BaseException:
            staged.discard()
            raise


def open_destination(path: StoragePath | str) -> Destination:
    """Understand a path: a local one, a URI, or an object with ``fs`` and ``path`` such as Airflow's ObjectStoragePath.

    :raises InvalidArgument: if the storage is not one of those that can publish an object whole or not at all.
    """
    if isinstance(path, StoragePath):
        fs, key, uri = path.fs, path.path, str(path)
    else:
        scheme = urlsplit(path).scheme if "://" in path else "file"
        if scheme in _LOCAL:
            key = path.partition("://")[2] if "://" in path else path
            return Destination(fs=None, key=_named(key, path), uri=path)
        from fsspec.core import url_to_fs  # type: ignore[import-untyped]

        fs, key = url_to_fs(path)
        uri = path
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    if protocols & _LOCAL:
        return Destination(fs=None, key=_named(key, uri), uri=uri)
    if not protocols & _STAGING:
        raise InvalidArgument(
            f"path {uri!r} is on a storage ({', '.join(sorted(protocols))}) that is not known to publish an object "
            "in one step. Write to a local file, S3, Google Cloud Storage or Azure Blob Storage."
        )
    return Destination(fs=fs, key=_named(key, uri), uri=uri)


def _named(key: str, uri: str) -> str:
    if not key or key.endswith("/"):
        raise InvalidArgument(f"path {uri!r} names a folder; add the name of the object to write.")
    return key
