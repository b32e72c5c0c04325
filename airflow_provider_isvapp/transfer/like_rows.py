# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Counts rows that all begin alike, at a speed at which a download does not wait for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

_NEWLINE = 10
_ROW_END = b"}\n"


def count_like_rows(rows: bytes, beginning: bytes, begin: int, end: int) -> int | None:
    """Count the lines of ``rows[begin:end]``, if each begins with ``beginning`` and ends with a brace; else None.

    None means "not seen to be so", not "wrong": the rows can be parsed then.
    """
    if not (rows.startswith(beginning, begin) and rows.endswith(_ROW_END, begin, end)):
        return None
    return _engine()(rows, _ROW_END + beginning, begin, end)


_Count = Callable[[bytes, bytes, int, int], int | None]


def _count_with_bytes(rows: bytes, joint: bytes, begin: int, end: int) -> int | None:
    """Compare the number of newlines with that of the joints between a row and the next."""
    lines = rows.count(b"\n", begin, end)
    return lines if rows.count(joint, begin, end) == lines - 1 else None


@cache
def _engine() -> _Count:
    """Pick numpy where it is installed (the extra ``fast``): twice as fast, and other threads run meanwhile."""
    try:
        import numpy as np
    except ImportError:
        return _count_with_bytes
    newline = np.uint8(_NEWLINE)

    def count_with_numpy(rows: bytes, joint: bytes, begin: int, end: int) -> int | None:
        """Find the newlines, and compare what stands around each of them, the last one excepted."""
        size, width = end - begin, len(joint)
        ends = np.equal(np.frombuffer(rows, np.uint8, size, begin), newline).nonzero()[0]
        between = ends[:-1]
        # A row before the first newline was seen to begin rightly, so a brace and more is before it.
        if len(between) and between[-1] - 1 + width > size:
            return None
        if len(between):
            windows: np.ndarray[tuple[int], np.dtype[np.void]] = np.ndarray(
                (size - width + 1,), np.dtype((np.void, width)), rows, begin, (1,)
            )
            if windows[between - 1].tobytes() != joint * len(between):
                return None
        return len(ends)

    return count_with_numpy
