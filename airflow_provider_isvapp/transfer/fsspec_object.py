# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Publishes an object through fsspec's own staging, on the storages where that has been tried."""

from __future__ import annotations

import contextlib
from typing import Any

from airflow_provider_isvapp.errors import DestinationExists
from airflow_provider_isvapp.transfer.storage_errors import storage_errors

# fsspec's default of 50 MiB for S3 costs about four times that in memory; storages want at least 5 MiB.
BLOCK_BYTES = 8 * 1024 * 1024


class FsspecObject:
    """An object whose parts are uploaded while they come, and put together at the end.

    What a reader sees if the process dies

    - before :meth:`promote`: the old object, or none. Google Cloud Storage drops the unfinished upload after a week,
      Azure the uncommitted blocks; neither shows in a listing.
    - in or after :meth:`promote`: the old object or the whole new one; the storage switches in one step.

    adlfs ignores ``autocommit`` and commits on close, so nothing is closed before it may be seen.

    :param fs: the fsspec file system.
    :param key: the object's path inside it.
    :param uri: its address for messages.
    :param exclusive: never replace an existing object.
    """

    def __init__(self, fs: Any, key: str, uri: str, *, exclusive: bool = False) -> None:
        self._fs = fs
        self._key = key
        self._uri = uri
        self._exclusive = exclusive
        with storage_errors(uri):
            self._file = fs.open(key, "wb", block_size=BLOCK_BYTES, autocommit=False)

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        with storage_errors(self._uri):
            self._file.write(data)

    def seal(self) -> None:
        """Do nothing: closing is the last step here, and on Azure it already publishes."""

    def promote(self) -> None:
        """Finish the upload.

        :raises DestinationExists: if it must not replace an object and there is one.
        """
        with storage_errors(self._uri):
            if self._exclusive:
                self._fs.invalidate_cache()
                if self._fs.exists(self._key):
                    raise DestinationExists(f"{self._uri} exists, and the task may not overwrite it.")
            self._file.close()
            self._file.commit()
            self._fs.invalidate_cache()

    def discard(self) -> None:
        """Give the upload up. An open file that is merely forgotten would publish itself when it is collected."""
        with contextlib.suppress(Exception):
            self._file.discard()
        with contextlib.suppress(AttributeError):
            self._file.closed = True
