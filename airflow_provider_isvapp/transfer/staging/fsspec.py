# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Publishes an object through fsspec's own staging, on the storages where that has been tried."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import IO, Any

from airflow_provider_isvapp.errors import DestinationExists, InvalidArgument
from airflow_provider_isvapp.transfer.staging.base import METADATA_KEY, Provenance, check_key, storage_errors

# fsspec's default of 50 MiB for S3 costs about four times that in memory; storages want at least 5 MiB.
BLOCK_BYTES = 8 * 1024 * 1024


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
        """See that the storage takes such a key; whether it grants the right to write it, only writing shows."""
        check_key(self._fs.split_path(self._key)[1], self._uri)

    def exists(self) -> bool:
        """Ask the storage."""
        with storage_errors(self._uri, reading=True):
            self._fs.invalidate_cache()
            return bool(self._fs.exists(self._key))

    def provenance(self) -> Provenance | None:
        """Read the provenance from the object's metadata."""
        with storage_errors(self._uri, reading=True):
            self._fs.invalidate_cache()
            try:
                metadata = self._fs.info(self._key).get("metadata")
            except FileNotFoundError:
                return None
        return Provenance.from_text(metadata.get(METADATA_KEY)) if isinstance(metadata, Mapping) else None

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the object for reading."""
        with (
            storage_errors(self._uri, reading=True),
            self._fs.open(self._key, "rb", block_size=BLOCK_BYTES) as reader,
        ):
            yield reader

    def stage(self, *, exclusive: bool, provenance: Provenance | None) -> FsspecObject:
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
        metadata = {} if provenance is None else {"metadata": {METADATA_KEY: provenance.to_text()}}
        with storage_errors(uri):
            self._file = fs.open(key, mode, block_size=BLOCK_BYTES, autocommit=False, **metadata)
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

    def commit(self) -> None:
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

    def abort(self) -> None:
        """Give the upload up. An open file that is merely forgotten would publish itself when it is collected."""
        if self._over:
            return
        with contextlib.suppress(Exception):
            self._file.discard()
        with contextlib.suppress(AttributeError):
            self._file.closed = True
