# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Publishes a file by renaming it, on all other file systems of fsspec: SFTP, SMB, HDFS."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from typing import IO, Any

from fsspec import AbstractFileSystem

from airflow_provider_isvapp.errors import DestinationExists, InvalidArgument, StorageFailed
from airflow_provider_isvapp.transfer.staging.base import (
    ObjectInfo,
    Provenance,
    StorageKind,
    storage_errors,
)
from airflow_provider_isvapp.transfer.threads import STALL_SECONDS, Watchdog

_SUFFIX = ".isvapp-part"
_BLOCK_BYTES = 8 * 1024 * 1024


class FsspecStore:
    """A file system of fsspec that renames in one step.

    :param fs: the file system.
    :param namespace: the URI of the file system.
    :param stall_seconds: the longest time without progress.
    """

    kind: StorageKind = "fsspec"

    def __init__(self, fs: Any, *, namespace: str, stall_seconds: float = STALL_SECONDS) -> None:
        self.fs = fs
        self.namespace = namespace
        self.stall_seconds = stall_seconds

    def target(self, key: str, uri: str) -> FsspecTarget:
        """Return the location of a file."""
        return FsspecTarget(self, key, uri)

    def names(self, prefix: str) -> Iterator[str]:
        """List the files and folders of one folder that begin with a prefix."""
        with storage_errors(prefix, reading=True):
            self.fs.invalidate_cache()
            try:
                found = self.fs.ls(prefix.rpartition("/")[0], detail=False)
            except FileNotFoundError:
                return
        yield from (name.rstrip("/") for name in found if name.startswith(prefix))


class FsspecTarget:
    """The location of a file."""

    def __init__(self, store: FsspecStore, key: str, uri: str) -> None:
        self._store = store
        self._key = key
        self._uri = uri

    def check(self) -> None:
        """Check that the file system can rename: fsspec's default move copies, so readers would see half a file.

        :raises InvalidArgument: if it cannot.
        """
        if type(self._store.fs).mv is AbstractFileSystem.mv:
            raise InvalidArgument(
                f"path {self._uri!r} is on a storage that cannot rename a file in one step, so that readers would see "
                "half of it. Write to a local file, S3, Google Cloud Storage or Azure Blob Storage."
            )

    def check_rights(self) -> None:
        """Begin a file and remove it."""
        FsspecFile(self._store, self._key, self._uri, exclusive=False).abort()

    def info(self) -> ObjectInfo | None:
        """Describe the file, without a provenance: file systems do not store it."""
        with storage_errors(self._uri, reading=True):
            self._store.fs.invalidate_cache()
            try:
                info = Watchdog(self._uri, seconds=self._store.stall_seconds).call(self._store.fs.info, self._key)
            except FileNotFoundError:
                return None
        # SFTP, SMB and Arrow's file systems report an mtime, WebHDFS a modificationTime; FTP has no reliable time.
        modified = info.get("mtime") or info.get("modificationTime")
        return ObjectInfo(version=f"{info.get('size')}-{modified}" if modified else None)

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the file for reading."""
        with storage_errors(self._uri, reading=True), self._store.fs.open(self._key, "rb") as reader:
            yield reader

    def stage(self, *, exclusive: bool, content_type: str, provenance: Provenance | None) -> FsspecFile:
        """Begin a file. It has neither a content type nor a provenance."""
        return FsspecFile(self._store, self._key, self._uri, exclusive=exclusive)


class FsspecFile:
    """A file under a temporary name beside its target.

    If the process dies, a reader sees the old file or the whole new one. ``.<name>.<random>.isvapp-part`` stays beside
    it: no later write removes it, since the file system does not show whether its writer still runs.

    :param exclusive: do not replace an existing file. The file system has no such condition, so this checks right
        before the rename. Two writers at that moment both publish, each a whole file.
    """

    def __init__(self, store: FsspecStore, key: str, uri: str, *, exclusive: bool) -> None:
        self.write_id = secrets.token_hex(8)
        self._store = store
        self._key = key
        self._uri = uri
        self._exclusive = exclusive
        self._watchdog = Watchdog(uri, seconds=store.stall_seconds)
        folder, slash, name = key.rpartition("/")
        self._temporary = f"{folder}{slash}.{name[:100]}.{self.write_id}{_SUFFIX}"
        self._ended = False
        with storage_errors(uri):
            self._watchdog.call(store.fs.makedirs, folder or "/", exist_ok=True)
            self._file = self._watchdog.call(store.fs.open, self._temporary, "wb", block_size=_BLOCK_BYTES)

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        with storage_errors(self._uri):
            self._watchdog.call(self._file.write, bytes(data))

    def flush(self, provenance: Provenance | None = None) -> None:
        """Complete the temporary file."""
        with storage_errors(self._uri):
            self._watchdog.call(self._file.close)

    def commit(self) -> ObjectInfo:
        """Rename the file onto its target.

        :raises DestinationExists: if there is a file that it must not replace.
        """
        target = self._store.target(self._key, self._uri)
        if self._exclusive and target.info() is not None:
            raise DestinationExists(f"{self._uri} exists, and the task may not overwrite it.")
        with storage_errors(self._uri):
            self._watchdog.call(self._store.fs.mv, self._temporary, self._key)
            # If WebHDFS does not rename, it responds with false, which its client ignores.
            if self._watchdog.call(self._store.fs.exists, self._temporary):
                raise OSError("the storage did not rename the file; perhaps it cannot replace an existing one")
        self._ended = True
        published = None
        with contextlib.suppress(StorageFailed):
            published = target.info()
        return ObjectInfo(version=None if published is None else published.version, write_id=self.write_id)

    def abort(self) -> None:
        """Remove the temporary file, unless it is published."""
        if self._ended:
            return
        self._ended = True
        with contextlib.suppress(Exception):
            self._watchdog.start(self._remove).result(timeout=3.0)

    def _remove(self) -> None:
        with contextlib.suppress(Exception):
            self._file.close()
        self._store.fs.rm_file(self._temporary)
