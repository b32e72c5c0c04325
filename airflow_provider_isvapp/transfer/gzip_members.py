# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Decompresses a gzip body piece by piece and says whether it was whole."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Protocol, cast

from airflow_provider_isvapp.errors import DamagedDownload

# One piece in gives one piece out, which is fastest while it fits a core's cache. How much a piece will expand is
# guessed from the one before: exports compress about 12:1, deflate can do 1032:1 (zlib's technical notes).
_OUTPUT_BYTES = 256 * 1024
_FIRST_PIECE = 4 * 1024
_SMALLEST_PIECE = 512
_LARGEST_PIECE = 64 * 1024

_GZIP_HEADER_AND_TRAILER = 16 + zlib.MAX_WBITS
_MAGIC = b"\x1f\x8b"


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes | memoryview, /) -> bytes: ...


_Engine = tuple[Callable[[], _Decompressor], tuple[type[Exception], ...]]


class GzipMembers:
    """Decodes any number of gzip members, one after the other (RFC 1952, 2.2).

    CRC-32 and length of every member are checked by the decompressor. Anything between or after members that is not
    another member is damage, also the zero padding that the gzip tool lets pass. No bytes at all is no damage here: the
    caller knows whether an empty body was announced.
    """

    def __init__(self) -> None:
        self.finished_members = 0
        self._new_member, self._errors = _engine()
        self._member: _Decompressor | None = None
        self._start = b""
        self._piece_bytes = _FIRST_PIECE

    def decode(self, data: bytes) -> Iterator[tuple[memoryview, bytes]]:
        """Yield each piece of ``data`` with what it decompresses to (often nothing, for the first and last bytes).

        :raises DamagedDownload: as soon as the bytes cannot be gzip.
        """
        view = memoryview(data)
        while view:
            piece = view[: self._piece_bytes]
            view = view[self._piece_bytes :]
            plain = self._decode_piece(piece)
            if plain:
                fitting = len(piece) * _OUTPUT_BYTES // len(plain)
                self._piece_bytes = min(max(fitting, _SMALLEST_PIECE), 2 * self._piece_bytes, _LARGEST_PIECE)
            yield piece, plain

    def _decode_piece(self, piece: bytes | memoryview) -> bytes:
        plain: list[bytes] = []
        while piece:
            if self._member is None:
                piece = self._begin_member(piece)
                if self._member is None:
                    break
            try:
                plain.append(self._member.decompress(piece))
            except self._errors as error:
                reason = str(error)
            else:
                reason = ""
            if reason:
                raise DamagedDownload(f"gzip member {self.finished_members + 1} is corrupt: {reason}")
            if not self._member.eof:
                break
            piece = self._member.unused_data
            self._member = None
            self.finished_members += 1
        return plain[0] if len(plain) == 1 else b"".join(plain)

    def _begin_member(self, piece: bytes | memoryview) -> bytes | memoryview:
        """Look at the magic number before the decompressor does: isal takes a short body of plain JSON for gzip."""
        if self._start or len(piece) < len(_MAGIC):
            piece = self._start + bytes(piece)
        self._start = b""
        if bytes(piece[: len(_MAGIC)]) != _MAGIC[: len(piece)]:
            if self.finished_members:
                raise DamagedDownload(f"bytes that are not gzip follow after gzip member {self.finished_members}")
            raise DamagedDownload(f"it is not gzip, it begins with {bytes(piece[:16])!r}")
        if len(piece) < len(_MAGIC):
            self._start = bytes(piece)
        else:
            self._member = self._new_member()
        return piece

    @property
    def inside_member(self) -> bool:
        """Whether the bytes so far stop in the middle of a member: a body that ends here was cut."""
        return self._member is not None or bool(self._start)


@cache
def _engine() -> _Engine:
    """Pick isal where it is installed (the extra ``fast``), three times as fast as zlib and with the same meaning."""
    try:
        from isal import isal_zlib
    except ImportError:
        return (lambda: zlib.decompressobj(_GZIP_HEADER_AND_TRAILER)), (zlib.error,)
    return (lambda: isal_zlib.decompressobj(_GZIP_HEADER_AND_TRAILER)), (cast("type[Exception]", isal_zlib.IsalError),)
