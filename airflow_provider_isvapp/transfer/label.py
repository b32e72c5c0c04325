# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What an object says about itself: which export it holds and in what shape."""

from __future__ import annotations

import json
from typing import Annotated

import msgspec

# The name of the metadata entry of an object, and the last part of the extended attribute of a file.
LABEL_NAME = "isvapp_export"
# What no storage would take: S3 has room for 2 KB, an extended attribute for 64 KiB.
_LONGEST = 64 * 1024

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class Label(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Travels with an object, so that it goes when the object is replaced.

    Only verified objects are published, so one that has a label holds the whole export. Most storages take it with the
    first byte of an object, when the figures are not known; those are None then.

    :param export_id: the export.
    :param shape: how its rows are stored and how far they were checked.
    :param compressed_bytes: size of the export's gzip file.
    :param rows: rows of the export.
    :param bytes: size of its plain ndjson.
    :param crc32: CRC-32 of the plain ndjson as eight hexadecimal digits.
    :param months: rows by ``reference_date``.
    """

    export_id: str
    shape: str
    compressed_bytes: _Count | None = None
    rows: _Count | None = None
    bytes: _Count | None = None
    crc32: str | None = None
    months: dict[str, _Count] | None = None

    @property
    def is_full(self) -> bool:
        """Whether the figures are known."""
        return None not in (self.rows, self.bytes, self.crc32, self.months, self.compressed_bytes)

    def to_text(self) -> str:
        """Return the label as one line of ASCII."""
        return json.dumps({name: value for name, value in msgspec.structs.asdict(self).items() if value is not None})

    @classmethod
    def from_text(cls, text: object) -> Label | None:
        """Read a label; None for anything else: one of a later version, or whatever others have stored in its place."""
        if not isinstance(text, str | bytes) or len(text) > _LONGEST:
            return None
        try:
            return msgspec.json.decode(text, type=cls)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return None
