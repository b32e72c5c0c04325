# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Decompresses gzip members and computes CRC-32."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Protocol, cast

from airflow_provider_isvapp.errors import DamagedDownload


class Crc32:
    """CRC-32 as gzip and zip use it, shown as eight hexadecimal digits."""

    def __init__(self) -> None:
        self._function = _crc32_function()
        self._value = 0

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Add the next bytes."""
        self._value = self._function(data, self._value)

    def __str__(self) -> str:
        return f"{self._value:08x}"

    def digest(self) -> bytes:
        """Return the value as four bytes, big-endian."""
        return self._value.to_bytes(4, "big")


@cache
def _crc32_function() -> Callable[[bytes | bytearray | memoryview, int], int]:
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.crc32
    return isal_zlib.crc32


# The most that one step yields. Smaller pieces are handed from thread to thread more often, which takes a tenth more
# processor time at 256 KiB. Larger ones take more memory: with 1 MiB, an upload to S3 takes more than 64 MiB.
_OUTPUT_BYTES = 512 * 1024

_GZIP_HEADER_AND_TRAILER = 16 + zlib.MAX_WBITS
_MAGIC = b"\x1f\x8b"
_NOTHING = memoryview(b"")


class _Member(Protocol):
    """Decompresses one gzip member, as the decompressors of bz2 and lzma do."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes | memoryview, max_length: int = -1) -> bytes: ...


_Backend = tuple[Callable[[], _Member], tuple[type[Exception], ...]]


class GzipMembers:
    """Decodes any number of consecutive gzip members (RFC 1952, 2.2).

    The decompressor checks the CRC-32 and the length of every member. Anything but another member between or after
    members is damage, including the zero padding that the gzip tool accepts. Empty input is valid: the caller knows
    whether an empty body was announced. Memory use does not depend on the compression ratio.
    """

    def __init__(self) -> None:
        self.finished_members = 0
        self._new_member, self._errors = _load_backend()
        self._member: _Member | None = None
        self._start = b""

    def decode(self, data: bytes) -> Iterator[tuple[memoryview, bytes]]:
        """Yield pairs of input and output: ``data`` with its first piece, then empty bytes with each further one.

        :raises DamagedDownload: as soon as the bytes cannot be gzip.
        """
        compressed = memoryview(data)
        for plain in self._plain_pieces(data):
            yield compressed, plain
            compressed = _NOTHING
        if compressed:
            yield compressed, b""

    @property
    def inside_member(self) -> bool:
        """Whether the bytes so far stop in the middle of a member: a body that ends here is truncated."""
        return self._member is not None or bool(self._start)

    def _plain_pieces(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member is None:
                data = self._begin_member(data)
                if self._member is None:
                    return
            yield self._step(self._member, data)
            while not (self._member.eof or self._member.needs_input):
                yield self._step(self._member, b"")
            if not self._member.eof:
                return
            data = self._member.unused_data
            self._member = None
            self.finished_members += 1

    def _step(self, member: _Member, data: bytes) -> bytes:
        try:
            return member.decompress(data, _OUTPUT_BYTES)
        except self._errors as error:
            reason = str(error)
        raise DamagedDownload(f"gzip member {self.finished_members + 1} is corrupt: {reason}")

    def _begin_member(self, data: bytes) -> bytes:
        """Check the magic number before decompression: isal mistakes a short body of plain JSON for gzip."""
        data = self._start + data
        self._start = b""
        if data[: len(_MAGIC)] != _MAGIC[: len(data)]:
            if self.finished_members:
                raise DamagedDownload(f"bytes that are not gzip follow after gzip member {self.finished_members}")
            raise DamagedDownload(f"it is not gzip, it begins with {data[:16]!r}")
        if len(data) < len(_MAGIC):
            self._start = data
        else:
            self._member = self._new_member()
        return data


class _ZlibMember:
    """zlib's decompressor with the interface of isal's."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(_GZIP_HEADER_AND_TRAILER)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes | memoryview, max_length: int = -1) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail or data, max_length)


@cache
def _load_backend() -> _Backend:
    """Use isal if it is installed (extra ``fast``): it is three times as fast as zlib, with the same results."""
    try:
        from isal import igzip_lib
    except ImportError:
        return _ZlibMember, (zlib.error,)
    errors = (cast("type[Exception]", igzip_lib.IsalError),)
    return (lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)), errors
