# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""From plain ndjson to the bytes that are stored."""

from __future__ import annotations

import zlib
from typing import Protocol

from airflow_provider_isvapp.transfer.label import Label
from airflow_provider_isvapp.transfer.shape import Shape


class Encoder(Protocol):
    """Turns whole lines, or any pieces for those that do not care, into stored bytes."""

    def encode(self, plain: bytes | memoryview) -> bytes | memoryview:
        """Take bytes of ndjson and return what can be stored by now."""
        ...

    def finish(self, label: Label) -> bytes:
        """Return the rest.

        :param label: what the whole export came to, for a format that can store it at its end.
        """
        ...


class Plain:
    """Stores ndjson as it is."""

    def encode(self, plain: bytes | memoryview) -> bytes | memoryview:
        """Return the same bytes."""
        return plain

    def finish(self, label: Label) -> bytes:
        """Return nothing."""
        return b""


class Gzip:
    """Compresses ndjson again: a month of an export is no part of its gzip file."""

    def __init__(self) -> None:
        self._compressor = _new_compressor()

    def encode(self, plain: bytes | memoryview) -> bytes:
        """Return the compressed bytes that are ready."""
        return self._compressor.compress(plain)

    def finish(self, label: Label) -> bytes:
        """Return the rest and the trailer; a whole, empty member if there was nothing."""
        return self._compressor.flush()


class _Compressor(Protocol):
    def compress(self, data: bytes | memoryview, /) -> bytes: ...
    def flush(self) -> bytes: ...


def _new_compressor() -> _Compressor:
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    return isal_zlib.compressobj(wbits=16 + zlib.MAX_WBITS)


def encoder_for(shape: Shape) -> Encoder:
    """Return a new encoder for one object.

    :raises InvalidArgument: if its library is not installed.
    """
    if shape.output_format == "parquet":
        from airflow_provider_isvapp.transfer.parquet import ParquetEncoder

        return ParquetEncoder()
    return Gzip() if shape.compression == "gzip" else Plain()
