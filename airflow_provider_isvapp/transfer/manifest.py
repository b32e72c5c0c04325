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
from airflow_provider_isvapp.transfer.staging.base import Provenance, StagedObject, commit_staged

# Of a manifest that is read; one of a year with every month and a long request has some thousand bytes.
_LONGEST = 1024 * 1024


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
) -> Iterator[StagedManifests]:
    """Hand one manifest for each object to the storage, so that one which takes no manifest refuses it by now.

    What the block does not publish is removed. An object that another program replaces keeps the manifest of the one
    before: compare the checksum when in doubt.

    :param dates: what else is known of the source.
    :param request: the parameters that the vendor was asked for the rows with.
    """
    manifests = StagedManifests()
    try:
        for item in objects:
            described = asdict(item)
            # What the storage says of the object is known only when it is published.
            del described["version"], described["checksum"]
            content = {
                "version": 1,
                "object": described,
                "format": options.describe_format(),
                "source": provenance.to_dict() | dict(dates),
                "request": None if request is None else dict(request),
                "written_at": datetime.now(UTC).isoformat(),
            }
            month = item.reference_date
            place = destination if month is None else destination.with_value(MONTH_PLACEHOLDER, month)
            manifests.stage(item.path, manifest_of(place), json.dumps(content, indent=2).encode() + b"\n")
        yield manifests
    finally:
        manifests.abort()


class StagedManifests:
    """Manifests that are staged and not yet visible."""

    def __init__(self) -> None:
        self._staged: dict[str, tuple[Destination, StagedObject]] = {}

    def stage(self, path: str, manifest: Destination, content: bytes) -> None:
        """Hand the manifest of an object to the storage.

        :param path: URI of the object.
        """
        staged = manifest.target().stage(exclusive=False, content_type="application/json", provenance=None)
        self._staged[path] = (manifest, staged)
        staged.write(content)
        staged.flush()

    def publish(self, objects: Sequence[WrittenObject]) -> tuple[str, ...]:
        """Publish the manifests of these objects, which are published: so a manifest proves that its object is whole.

        :return: their URIs.
        :raises StorageFailed: saying that the objects are published.
        """
        return tuple(self._publish(*self._staged[item.path]) for item in objects)

    def _publish(self, manifest: Destination, staged: StagedObject) -> str:
        try:
            commit_staged(staged, manifest.target(), uri=manifest.uri, if_exists="overwrite")
        except StorageFailed as error:
            failure = StorageFailed(
                f"The object is published, but its manifest {manifest.uri} is not: {error} The next run writes it."
            )
        else:
            return manifest.uri
        raise failure

    def abort(self) -> None:
        """Remove the manifests that are not published."""
        for _, staged in self._staged.values():
            staged.abort()


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
    wanted = {"export_id": provenance.export_id, "sha256": provenance.sha256, "snapshot_date": snapshot_date}
    for manifest in manifests:
        source = _source_in(manifest)
        if source is None or any(source.get(name) != value for name, value in wanted.items()):
            return None
    return tuple(item.uri for item in manifests)


def provenance_in_manifest(destination: Destination) -> Provenance | None:
    """Return the provenance that the manifest of an object has: it is written last, so it has the figures."""
    source = _source_in(manifest_of(destination)) or {}
    known = {name: value for name, value in source.items() if name in Provenance.__struct_fields__}
    try:
        return msgspec.convert(known, Provenance)
    except msgspec.ValidationError:
        return None


def _source_in(manifest: Destination) -> dict[str, Any] | None:
    target = manifest.target()
    if target.info() is None:
        return None
    with target.open() as stored:
        text = stored.read(_LONGEST + 1)
    if len(text) > _LONGEST:
        return None
    try:
        content = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    source = content.get("source")
    return source if isinstance(source, dict) else None
