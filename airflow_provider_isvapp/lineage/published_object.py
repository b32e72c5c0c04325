# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What a task tells of an object that it published."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from airflow_provider_isvapp.lineage.documented_fields import Fields
from airflow_provider_isvapp.lineage.object_name import ObjectName


@dataclass(frozen=True, kw_only=True)
class PublishedObject:
    """One object that is there now, whole.

    :param rows: rows in it; None if not known.
    :param size: its size as it is stored, in bytes; None if not known.
    :param fields: of its rows, as far as they are documented.
    :param written: whether this task wrote it; it may have found it there, written by an earlier try.
    :param metadata: JSON values for its asset event.
    """

    name: ObjectName
    rows: int | None
    size: int | None
    fields: Fields
    written: bool = True
    metadata: dict[str, Any] = field(default_factory=dict)
