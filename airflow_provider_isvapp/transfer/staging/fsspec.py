# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Publishes an object through fsspec's own staging, on the storages where that has been tried."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from typing import IO, Any

from airflow_provider_isvapp.errors import DestinationExists, InvalidArgument
from airflow_provider_isvapp.transfer.staging.base import (
    METADATA_KEY,
    WRITE_ID_KEY,
    ObjectInfo,
    Provenance,
    StorageKind,
    check_key,
    storage_errors,
)

# fsspec's default of 50 MiB for S3 costs about four times that in memory; storages want at least 5 MiB.
BLOCK_BYTES = 8 * 1024 * 1024


class FsspecStore:
    """A file system of fsspec.

    :param fs: the file system.
    :param bucket: whose objects are written.
    :param namespace: URI of the bucket.
    """

    kind: StorageKind = "fsspec"

    def __init__(self, fs: Any, bucket: str, *, namespace: str) -> None:
        self.fs = fs
        self.bucket = bucket
        self.namespace = namespace

    def target(self, key: str, uri: str) -> FsspecTarget:
        """Return the place of an object."""
        check_key(key, uri)
        return FsspecTarget(self.fs, f"{self.bucket}/{key}", uri)

    def names(self, prefix: str) -> Iterator[str]:
        """List what begins with a prefix in its folder."""
        with storage_errors(prefix, reading=True):
            self.fs.invalidate_cache()
            try:
                found = self.fs.ls(f"{self.bucket}/{prefix}".rpartition("/")[0], detail=False)
            except FileNotFoundError:
                return
        keys = (path.rstrip("/").removeprefix(f"{self.bucket}/") for path in found)
        yield from (key for key in keys if key.startswith(prefix))


class FsspecTarget:
    """The place of an object on Google Cloud Storage or Azure.

    :param fs: the fsspec file system.
    :param key: the object's path inside it.
    :param uri: its address for messages.
    """

    def __init__(self, fs: Any, key: str, uri: str) -> None:
        self._fs = fs
        self._key = key
        self._uri = uri

    def check(self) -> None:
        """Do nothing: only writing shows what the storage takes."""

    def check_rights(self) -> None:
        """Do nothing: fsspec has no request for this."""

    def info(self) -> ObjectInfo | None:
        """Ask the storage."""
        with storage_errors(self._uri, reading=True):
            self._fs.invalidate_cache()
            try:
                info = self._fs.info(self._key)
            except FileNotFoundError:
                return None
        metadata = info.get("metadata")
        if not isinstance(metadata, Mapping):
            metadata = {}
        return ObjectInfo(
            version=str(info.get("etag") or info.get("ETag") or info.get("mtime") or ""),
            provenance=Provenance.from_text(metadata.get(METADATA_KEY)),
            write_id=metadata.get(WRITE_ID_KEY),
        )

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the object for reading."""
        with (
            storage_errors(self._uri, reading=True),
            self._fs.open(self._key, "rb", block_size=BLOCK_BYTES) as reader,
        ):
            yield reader

    def stage(self, *, exclusive: bool, content_type: str, provenance: Provenance | None) -> FsspecObject:
        """Begin an object with the provenance as metadata."""
        return FsspecObject(self._fs, self._key, self._uri, exclusive=exclusive, provenance=provenance)


class FsspecObject:
    """An object whose parts are uploaded while they come, and put together at the end.

    What a reader sees if the process dies

    - before :meth:`commit`: the old object, or none. Google Cloud Storage drops the unfinished upload after a week,
      Azure the uncommitted blocks; neither shows in a listing.
    - in or after :meth:`commit`: the old object or the whole new one; the storage switches in one step.

    adlfs ignores ``autocommit`` and commits on close, so nothing is closed before it may be seen.

    :param fs: the fsspec file system.
    :param key: the object's path inside it.
    :param uri: its address for messages.
    :param exclusive: never replace an existing object.
    :param provenance: stored as metadata.
    """

    def __init__(self, fs: Any, key: str, uri: str, *, exclusive: bool, provenance: Provenance | None) -> None:
        self._fs = fs
        self._uri = uri
        self._over = False
        # Both file systems hand "create only" to the storage, which decides it in the last step.
        mode = "xb" if exclusive else "wb"
        self.write_id = secrets.token_hex(8)
        metadata = {WRITE_ID_KEY: self.write_id}
        if provenance is not None:
            metadata[METADATA_KEY] = provenance.to_text()
        with storage_errors(uri):
            self._file = fs.open(key, mode, block_size=BLOCK_BYTES, autocommit=False, metadata=metadata)
        # gcsfs's class for zonal buckets, whose objects are there from the first byte on.
        if hasattr(self._file, "finalize_on_close"):
            self.abort()
            raise InvalidArgument(
                f"{uri} is in a zonal bucket (Rapid Storage), where readers see an object while it is being written. "
                "Write to a regional bucket."
            )

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        with storage_errors(self._uri):
            self._file.write(data)

    def flush(self, provenance: Provenance | None = None) -> None:
        """Do nothing: closing is the last step here, and on Azure it already publishes."""

    def commit(self) -> ObjectInfo:
        """Finish the upload.

        :raises DestinationExists: if it must not replace an object and there is one.
        """
        with storage_errors(self._uri):
            try:
                self._file.close()
                if hasattr(self._file, "commit"):
                    self._file.commit()
            except FileExistsError:
                taken = True
            else:
                taken = False
                self._over = True
            self._fs.invalidate_cache()
        if taken:
            raise DestinationExists(f"{self._uri} exists, and the task may not overwrite it.")
        return ObjectInfo(version="", write_id=self.write_id)

    def abort(self) -> None:
        """Give the upload up. An open file that is merely forgotten would publish itself when it is collected."""
        if self._over:
            return
        with contextlib.suppress(Exception):
            self._file.discard()
        with contextlib.suppress(AttributeError):
            self._file.closed = True
