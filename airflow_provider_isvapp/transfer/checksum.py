# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A running CRC-32 of what passes."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cache


class Crc32:
    """CRC-32 as gzip and zip use it, shown as eight hexadecimal digits."""

    def __init__(self) -> None:
        self._function = _engine()
        self._value = 0

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        self._value = self._function(data, self._value)

    def __str__(self) -> str:
        return f"{self._value:08x}"

    def digest(self) -> bytes:
        """Return the four bytes, the highest first."""
        return self._value.to_bytes(4, "big")


@cache
def _engine() -> Callable[[bytes | bytearray | memoryview, int], int]:
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.crc32
    return isal_zlib.crc32
