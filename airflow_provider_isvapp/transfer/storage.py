# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What every kind of storage can do with the place of one object."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import IO, Protocol

from airflow_provider_isvapp.errors import InvalidArgument
from airflow_provider_isvapp.transfer.label import Label

# S3 and Google Cloud Storage count bytes, Azure characters.
_LONGEST_KEY = 1024


def check_key(key: str, uri: str) -> None:
    """See that a key names an object in a bucket or container.

    :raises InvalidArgument: if no storage takes it.
    """
    if not key:
        raise InvalidArgument(f"path {uri!r} names a bucket; add the name of the object to write.")
    if len(key) > _LONGEST_KEY:
        raise InvalidArgument(f"path {uri!r}: the key has {len(key)} characters, and {_LONGEST_KEY} are the most.")


class Staged(Protocol):
    """An object in the making, invisible under its name until :meth:`promote`.

    Exactly one of :meth:`promote` and :meth:`discard` ends it. All methods but the last raise
    :class:`~airflow_provider_isvapp.errors.StorageFailed` when the storage refuses.
    """

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        ...

    def seal(self, label: Label | None = None) -> None:
        """Hand every byte to the storage, so that only the last, small step remains.

        :param label: with the figures that are known by now.
        """
        ...

    def promote(self) -> None:
        """Make the object visible, whole, in the place of any older one.

        :raises DestinationExists: if it may not replace one and there is one.
        """
        ...

    def discard(self) -> None:
        """Remove everything that was staged, if it is not promoted. Does not raise."""
        ...


class Place(Protocol):
    """The place of one object, taken or not."""

    def check(self) -> None:
        """See, as far as that can be known without writing, that an object can be written here.

        :raises InvalidArgument: if the path can never name one.
        :raises StorageFailed: if the storage refuses.
        """
        ...

    def exists(self) -> bool:
        """Ask the storage, not a cached listing."""
        ...

    def label(self) -> Label | None:
        """Return the label of the object that is there."""
        ...

    def open(self) -> AbstractContextManager[IO[bytes]]:
        """Open the object that is there for reading."""
        ...

    def stage(self, *, exclusive: bool, label: Label | None) -> Staged:
        """Begin an object.

        :param exclusive: never replace one.
        :param label: what is known of the object before its first byte.
        """
        ...
