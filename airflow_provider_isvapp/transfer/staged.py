# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What every storage promises: a reader sees the old object or the whole new one."""

from __future__ import annotations

from typing import Protocol


class Staged(Protocol):
    """An object in the making, invisible under its name until :meth:`promote`.

    Exactly one of :meth:`promote` and :meth:`discard` ends it. All methods raise
    :class:`~airflow_provider_isvapp.errors.StorageFailed` when the storage refuses.
    """

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        ...

    def seal(self) -> None:
        """Hand every byte to the storage, so that only the last, small step remains."""
        ...

    def promote(self) -> None:
        """Make the object visible, whole, in the place of any older one.

        :raises DestinationExists: if it may not replace one and there is one.
        """
        ...

    def discard(self) -> None:
        """Remove everything that was staged. Does not raise."""
        ...
