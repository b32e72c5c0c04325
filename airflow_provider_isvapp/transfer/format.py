# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""In what form the rows of an export are stored."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from importlib.util import find_spec
from typing import Literal

from airflow_provider_isvapp.errors import InvalidArgument

OutputFormat = Literal["ndjson", "parquet"]
IfExists = Literal["overwrite", "skip", "fail"]
Validate = Literal["structure", "full"]

PLACEHOLDER = "{reference_date}"


@dataclass(frozen=True, kw_only=True)
class StorageFormat:
    """The form of the stored rows and how far they were checked.

    :param output_format: ``ndjson``, the vendor's own bytes, or ``parquet``.
    :param compression: None, or ``gzip`` to keep ndjson compressed.
    :param partition_by: None, or ``reference_date`` for one object a month.
    :param validate: ``structure`` or ``full``.
    """

    output_format: OutputFormat = "ndjson"
    compression: Literal["gzip"] | None = None
    partition_by: Literal["reference_date"] | None = None
    validate: Validate = "structure"

    def check(self, template: str) -> None:
        """See that the values exist and fit together and with the path.

        :param template: the path.
        :raises InvalidArgument: naming the argument.
        """
        if self.output_format not in ("ndjson", "parquet"):
            raise InvalidArgument(f"output_format must be 'ndjson' or 'parquet', not {self.output_format!r}.")
        if self.compression not in (None, "gzip"):
            raise InvalidArgument(f"compression must be None or 'gzip', not {self.compression!r}.")
        if self.partition_by not in (None, "reference_date"):
            raise InvalidArgument(f"partition_by must be None or 'reference_date', not {self.partition_by!r}.")
        if self.validate not in ("structure", "full"):
            raise InvalidArgument(f"validate must be 'structure' or 'full', not {self.validate!r}.")
        if self.output_format == "parquet" and self.compression is not None:
            raise InvalidArgument("compression is for ndjson: Parquet compresses its columns itself (zstd).")
        if (self.partition_by is not None) != (PLACEHOLDER in template):
            raise InvalidArgument(
                f"path {template!r}: with partition_by='reference_date' it must contain {PLACEHOLDER}, and only then."
            )
        if self.output_format == "parquet" and find_spec("pyarrow") is None:
            raise InvalidArgument(
                "output_format='parquet' needs pyarrow: install it with pip install 'airflow-provider-isvapp[parquet]'."
            )

    def __str__(self) -> str:
        return ",".join(part for part in astuple(self) if part)
