# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A small JSON file beside an object that says what it holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from airflow_provider_isvapp.api.isvapp.export import Export
from airflow_provider_isvapp.transfer.destination import Destination
from airflow_provider_isvapp.transfer.label import Label
from airflow_provider_isvapp.transfer.result import WrittenObject
from airflow_provider_isvapp.transfer.shape import PLACEHOLDER, Shape

SUFFIX = ".manifest.json"


def write_manifests(
    destination: Destination,
    objects: Sequence[WrittenObject],
    *,
    export: Export,
    label: Label,
    shape: Shape,
    request: Mapping[str, Any] | None,
) -> tuple[str, ...]:
    """Write one manifest for each object, after all objects are published.

    So a manifest that names an export is proof that its object was published whole. An object that is replaced by
    something else keeps the manifest of the one before: compare the checksum when in doubt.

    :param request: what the export was asked for with, as the caller knows it.
    :return: their addresses.
    """
    written = []
    for item in objects:
        content = {
            "version": 1,
            "object": asdict(item),
            "format": asdict(shape),
            "export": asdict(label)
            | {"created_at": _iso(export.created_at), "completed_at": _iso(export.completed_at)},
            "request": None if request is None else dict(request),
            "written_at": _iso(datetime.now(UTC)),
        }
        place = destination if item.reference_date is None else destination.filled(PLACEHOLDER, item.reference_date)
        manifest = place.beside(SUFFIX)
        with manifest.staged() as staged:
            staged.write(json.dumps(content, indent=2).encode() + b"\n")
        written.append(manifest.uri)
    return tuple(written)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
