# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What an object says about itself: which export it holds and in what shape."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

# The name of the metadata entry of an object, and the last part of the extended attribute of a file.
LABEL_NAME = "isvapp_export"


@dataclass(frozen=True, kw_only=True)
class Label:
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
    compressed_bytes: int | None = None
    rows: int | None = None
    bytes: int | None = None
    crc32: str | None = None
    months: dict[str, int] | None = None

    @property
    def is_full(self) -> bool:
        """Whether the figures are known."""
        return None not in (self.rows, self.bytes, self.crc32, self.months, self.compressed_bytes)

    def to_text(self) -> str:
        """Return the label as one line of ASCII."""
        return json.dumps({name: value for name, value in asdict(self).items() if value is not None})

    @classmethod
    def from_text(cls, text: str) -> Label | None:
        """Read a label; None for anything else, such as one of a later version."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None
