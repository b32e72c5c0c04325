# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A small JSON file beside an object that says what it holds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import msgspec

from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.errors import StorageFailed
from airflow_provider_isvapp.transfer.destination import Destination
from airflow_provider_isvapp.transfer.format import PLACEHOLDER, StorageFormat
from airflow_provider_isvapp.transfer.results import WrittenObject
from airflow_provider_isvapp.transfer.staging.base import Provenance, StagedObject

# Of a manifest that is read; one of a year with every month and a long request has some thousand bytes.
_LONGEST = 1024 * 1024


class _ExportOfManifest(msgspec.Struct):
    export_id: str


class _Manifest(msgspec.Struct):
    """What is read of a manifest that is there."""

    export: _ExportOfManifest


def manifest_of(destination: Destination) -> Destination:
    """Return where the manifest of an object is.

    Its name begins with an underscore: Spark, Hive and pyarrow skip such a file when they read a folder as a table.
    """
    return destination.sibling(prefix="_", suffix=".manifest.json")


@contextmanager
def staged_manifests(
    destination: Destination,
    objects: Sequence[WrittenObject],
    *,
    export: Export,
    provenance: Provenance,
    storage_format: StorageFormat,
    request: Mapping[str, Any] | None,
) -> Iterator[tuple[str, ...]]:
    """Hand one manifest for each object to the storage, and publish them at the end of the block.

    The block publishes the objects. So a manifest that names an export is proof that its object was published whole,
    and a storage that takes no manifest refuses it before anything is published. An object that is replaced by
    something else keeps the manifest of the one before: compare the checksum when in doubt.

    :param request: what the export was asked for with, as the caller knows it.
    :return: their addresses.
    :raises StorageFailed: saying that the objects are published, if only their manifests are not.
    """
    staged: list[StagedObject] = []
    try:
        manifests = []
        for item in objects:
            content = {
                "version": 1,
                "object": asdict(item),
                "format": asdict(storage_format),
                "export": msgspec.structs.asdict(provenance)
                | {"created_at": _iso(export.created_at), "completed_at": _iso(export.completed_at)},
                "request": None if request is None else dict(request),
                "written_at": _iso(datetime.now(UTC)),
            }
            described = (
                destination if item.reference_date is None else destination.with_value(PLACEHOLDER, item.reference_date)
            )
            manifest = manifest_of(described)
            staged.append(manifest.target().stage(exclusive=False, provenance=None))
            staged[-1].write(json.dumps(content, indent=2).encode() + b"\n")
            staged[-1].flush()
            manifests.append(manifest.uri)
        yield tuple(manifests)
        _publish(staged, manifests)
    finally:
        for unpublished in staged:
            unpublished.abort()


def _publish(staged: Sequence[StagedObject], manifests: Sequence[str]) -> None:
    for item, uri in zip(staged, manifests, strict=True):
        try:
            item.commit()
        except StorageFailed as error:
            failure = StorageFailed(
                f"The export is published, but its manifest {uri} is not: {error} The next run writes it."
            )
        else:
            continue
        raise failure


def find_manifests(
    destination: Destination, provenance: Provenance, storage_format: StorageFormat
) -> tuple[str, ...] | None:
    """Return the addresses of the manifests of an export that is there, or None if one is missing.

    A run that was killed between an object and its manifest leaves the one without the other.
    """
    destinations = [destination]
    if storage_format.partition_by is not None:
        destinations = [destination.with_value(PLACEHOLDER, month) for month in provenance.months or ()]
    manifests = [manifest_of(item) for item in destinations]
    return (
        tuple(item.uri for item in manifests) if all(_is_of(item, provenance.export_id) for item in manifests) else None
    )


def _is_of(manifest: Destination, export_id: str) -> bool:
    target = manifest.target()
    if not target.exists():
        return False
    with target.open() as stored:
        text = stored.read(_LONGEST + 1)
    if len(text) > _LONGEST:
        return False
    try:
        return msgspec.json.decode(text, type=_Manifest).export.export_id == export_id
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
