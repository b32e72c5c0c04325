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


def find_manifests(destination: Destination, label: Label, shape: Shape) -> tuple[str, ...] | None:
    """Return the addresses of the manifests of an export that is there, or None if one is missing.

    A run that was killed between an object and its manifest leaves the one without the other.
    """
    places = [destination]
    if shape.partition_by is not None:
        places = [destination.filled(PLACEHOLDER, month) for month in label.months or ()]
    manifests = [place.beside(SUFFIX) for place in places]
    return tuple(item.uri for item in manifests) if all(_is_of(item, label.export_id) for item in manifests) else None


def _is_of(manifest: Destination, export_id: str) -> bool:
    place = manifest.place()
    if not place.exists():
        return False
    try:
        with place.open() as stored:
            content = json.load(stored)
        return bool(content["export"]["export_id"] == export_id)
    except (ValueError, KeyError, TypeError):
        return False


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
