# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A small JSON file beside an object that says what it holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import msgspec

from airflow_provider_isvapp.errors import StorageFailed
from airflow_provider_isvapp.transfer.destination import Destination
from airflow_provider_isvapp.transfer.options import MONTH_PLACEHOLDER, WriteOptions
from airflow_provider_isvapp.transfer.results import WrittenObject
from airflow_provider_isvapp.transfer.staging.base import Provenance, StagedObject

# Of a manifest that is read; one of a year with every month and a long request has some thousand bytes.
_LONGEST = 1024 * 1024


class _Source(msgspec.Struct):
    export_id: str | None = None
    sha256: str | None = None
    snapshot_date: str | None = None


class _Manifest(msgspec.Struct):
    """What is read of an existing manifest."""

    source: _Source


def manifest_of(destination: Destination) -> Destination:
    """Return where the manifest of an object is.

    Its name begins with an underscore: Spark, Hive and pyarrow skip such a file when they read a folder as a table.
    """
    return destination.sibling(prefix="_", suffix=".manifest.json")


def check_targets(destinations: Iterable[Destination], options: WriteOptions) -> None:
    """Check that objects and their manifests can be written, as far as that can be known without writing.

    :raises InvalidArgument: if a path can never name one.
    :raises StorageFailed: if the storage refuses.
    """
    for item in destinations:
        item.target().check()
        if options.manifest:
            manifest_of(item).target().check()


@contextmanager
def staged_manifests(
    destination: Destination,
    objects: Sequence[WrittenObject],
    *,
    provenance: Provenance,
    dates: Mapping[str, str | None],
    options: WriteOptions,
    request: Mapping[str, Any] | None,
) -> Iterator[tuple[str, ...]]:
    """Hand one manifest for each object to the storage, and publish them at the end of the block.

    The block publishes the objects. So a manifest proves that its object was published whole, and a storage that takes
    no manifest refuses it before anything is published. An object that another program replaces keeps the manifest of
    the one before: compare the checksum when in doubt.

    :param dates: what else is known of the source.
    :param request: the parameters that the vendor was asked for the rows with.
    :return: their URIs.
    :raises StorageFailed: saying that the objects are published, if only their manifests are not.
    """
    staged: list[StagedObject] = []
    try:
        manifests = []
        for item in objects:
            content = {
                "version": 1,
                "object": asdict(item),
                "format": options.describe_format(),
                "source": provenance.to_dict() | dict(dates),
                "request": None if request is None else dict(request),
                "written_at": datetime.now(UTC).isoformat(),
            }
            month = item.reference_date
            described = destination if month is None else destination.with_value(MONTH_PLACEHOLDER, month)
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
                f"The object is published, but its manifest {uri} is not: {error} The next run writes it."
            )
        else:
            continue
        raise failure


def find_manifests(
    destination: Destination, provenance: Provenance, options: WriteOptions, *, snapshot_date: str | None = None
) -> tuple[str, ...] | None:
    """Return the URIs of the manifests of existing objects, or None if one is missing or describes other content.

    A run that was killed between an object and its manifest leaves the one without the other.
    """
    destinations = [destination]
    if options.partition_by is not None:
        destinations = [destination.with_value(MONTH_PLACEHOLDER, month) for month in provenance.months or ()]
    manifests = [manifest_of(item) for item in destinations]
    source = _Source(export_id=provenance.export_id, sha256=provenance.sha256, snapshot_date=snapshot_date)
    return tuple(item.uri for item in manifests) if all(_describes(item, source) for item in manifests) else None


def _describes(manifest: Destination, source: _Source) -> bool:
    target = manifest.target()
    if not target.exists():
        return False
    with target.open() as stored:
        text = stored.read(_LONGEST + 1)
    if len(text) > _LONGEST:
        return False
    try:
        return msgspec.json.decode(text, type=_Manifest).source == source
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
