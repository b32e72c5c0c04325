# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Manifests: a small JSON file beside each object that describes it, published after the object."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from airflow_provider_isvapp.errors import StorageFailed
from airflow_provider_isvapp.transfer.destination import Destination
from airflow_provider_isvapp.transfer.drift import DriftReport
from airflow_provider_isvapp.transfer.options import MONTH_PLACEHOLDER, WriteOptions
from airflow_provider_isvapp.transfer.restatements import MonthChange
from airflow_provider_isvapp.transfer.results import CheckResult, WrittenObject
from airflow_provider_isvapp.transfer.staging.base import Provenance, StagedObject, commit_staged
from airflow_provider_isvapp.transfer.summary import Summary

# The longest manifest to read. One of twelve months with a long request has a few thousand bytes.
_LONGEST = 1024 * 1024


def manifest_of(destination: Destination) -> Destination:
    """Return the location of an object's manifest.

    Its name begins with an underscore: Spark, Hive and pyarrow skip such files when they read a folder as a table.
    """
    return destination.sibling(prefix="_", suffix=".manifest.json")


def check_targets(destinations: Iterable[Destination], options: WriteOptions) -> None:
    """Check, without writing, that objects and their manifests can be written.

    :raises InvalidArgument: if a path cannot name an object.
    :raises StorageFailed: if the storage refuses.
    """
    for item in destinations:
        item.target().check()
        if options.writes_manifest:
            manifest_of(item).target().check()


@dataclass(frozen=True, kw_only=True)
class Description:
    """The content that the manifests of one write share.

    :param provenance: the provenance with all figures.
    :param dates: further dates of the source, by name.
    :param request: the parameters of the request to the vendor.
    :param drift: the differences from the documentation; None if rows were not compared with it.
    :param summary: the figures of the rows; None if none were computed.
    :param changes: how each month compares with the stored one; None if they were not compared.
    :param task_run: identifies the task instance across its tries; None outside Airflow.
    :param checks: the checks that passed or were skipped.
    """

    provenance: Provenance
    dates: Mapping[str, str | None]
    request: Mapping[str, Any] | None
    drift: DriftReport | None = None
    summary: Summary | None = None
    changes: Mapping[str, MonthChange] | None = None
    task_run: str | None = None
    checks: Sequence[CheckResult] = ()

    def manifest(self, item: WrittenObject, options: WriteOptions) -> bytes:
        """Return the manifest of an object."""
        summary = self.summary
        if summary is not None and item.reference_date is not None and summary.months:
            summary = summary.of_month(item.reference_date)
        content = {
            "version": 1,
            "object": asdict(item),
            "format": options.describe_format(),
            "source": self.provenance.to_dict() | dict(self.dates),
            "request": None if self.request is None else dict(self.request),
            "drift": None if self.drift is None else self.drift.as_json(),
            "summary": None if summary is None else summary.as_json(),
            "change": None if self.changes is None else self.changes[item.reference_date or ""].as_json(),
            "task_run": self.task_run,
            "checks": {item.check: item.outcome for item in self.checks},
            "written_at": datetime.now(UTC).isoformat(),
        }
        return json.dumps(content, indent=2).encode() + b"\n"


def publish_with_manifests(
    commit: Callable[[Sequence[WrittenObject]], Sequence[WrittenObject]],
    objects: Sequence[WrittenObject],
    *,
    destination: Destination,
    options: WriteOptions,
    description: Description,
) -> tuple[tuple[WrittenObject, ...], tuple[str, ...]]:
    """Publish staged objects that passed the audit, and then their manifests.

    A manifest names the version that the storage gave its object, which is known only after publication. Each manifest
    is therefore staged twice: first without the version, so that a storage that accepts no manifest refuses it before
    anything is published, and then with it. A process that dies in between leaves an object whose manifest describes
    another one; the next run writes both.

    :param commit: publishes objects and returns the published ones; another object that appeared meanwhile may stay.
    :param objects: the objects to publish.
    :return: the published objects, and the URIs of their manifests.
    :raises StorageFailed: if the storage refused; the message says what is published.
    """
    if not options.writes_manifest:
        return tuple(commit(objects)), ()
    trials: list[StagedObject] = []
    try:
        for item in objects:
            staged = _stage(_manifest_for(item, destination), trials)
            staged.write(description.manifest(item, options))
            staged.flush()
        published = tuple(commit(objects))
    finally:
        for staged in trials:
            staged.abort()
    return published, tuple(_publish_manifest(item, destination, options, description) for item in published)


def _manifest_for(item: WrittenObject, destination: Destination) -> Destination:
    month = item.reference_date
    return manifest_of(destination if month is None else destination.with_value(MONTH_PLACEHOLDER, month))


def _stage(manifest: Destination, opened: list[StagedObject]) -> StagedObject:
    staged = manifest.target().stage(exclusive=False, content_type="application/json", provenance=None)
    opened.append(staged)
    return staged


def _publish_manifest(
    item: WrittenObject, destination: Destination, options: WriteOptions, description: Description
) -> str:
    """Publish the manifest of a published object: its presence proves that the object is complete."""
    manifest = _manifest_for(item, destination)
    opened: list[StagedObject] = []
    try:
        staged = _stage(manifest, opened)
        staged.write(description.manifest(item, options))
        staged.flush()
        commit_staged(staged, manifest.target(), uri=manifest.uri, if_exists="overwrite")
    except StorageFailed as error:
        failure = StorageFailed(
            f"The object is published, but its manifest {manifest.uri} is not: {error} The next run writes it."
        )
    else:
        return manifest.uri
    finally:
        for staged_object in opened:
            staged_object.abort()
    raise failure


def find_manifests(
    destination: Destination, provenance: Provenance, options: WriteOptions, *, snapshot_date: str | None = None
) -> tuple[str, ...] | None:
    """Return the URIs of the manifests of existing objects, or None if one is missing or describes other content.

    A run that was killed between an object and its manifest leaves the object without the manifest. An object written
    without a check that is requested now is written again, so that the check runs.
    """
    destinations = [destination]
    if options.partition_by is not None:
        destinations = [destination.with_value(MONTH_PLACEHOLDER, month) for month in provenance.months or ()]
    wanted = {"export_id": provenance.export_id, "sha256": provenance.sha256, "snapshot_date": snapshot_date}
    checks = {name for name, _ in options.named_checks} - set(options.skipped_checks)
    for item in destinations:
        manifest = read_manifest(item)
        if manifest is None or any(manifest.source.get(name) != value for name, value in wanted.items()):
            return None
        if not checks <= set(manifest.checks):
            return None
    return tuple(manifest_of(item).uri for item in destinations)


def provenance_in_manifest(destination: Destination) -> Provenance | None:
    """Return the provenance in an object's manifest, which is written last and has all figures."""
    manifest = read_manifest(destination)
    if manifest is None:
        return None
    known = {name: value for name, value in manifest.source.items() if name in Provenance.__struct_fields__}
    try:
        return msgspec.convert(known, Provenance)
    except msgspec.ValidationError:
        return None


def read_baseline(destination: Destination) -> Summary | None:
    """Return the summary of the existing object; None if there is no object, or no summary in its manifest."""
    manifest = read_manifest(destination)
    return None if manifest is None else Summary.from_json(manifest.summary)


def find_baseline(destination: Destination, months: Iterable[str]) -> Summary | None:
    """Return the summary of the object at a path, or of these months if each has a separate object."""
    if MONTH_PLACEHOLDER not in destination.key:
        return read_baseline(destination)
    found = [read_baseline(destination.with_value(MONTH_PLACEHOLDER, month)) for month in months]
    present = [summary for summary in found if summary is not None]
    return Summary.of_months(present) if present else None


class _Object(msgspec.Struct, frozen=True):
    version: str


class Manifest(msgspec.Struct, frozen=True):
    """The fields of a manifest that are read."""

    object: _Object
    source: dict[str, Any]
    format: dict[str, Any] = {}
    summary: Any = None
    change: Any = None
    task_run: Any = None
    checks: dict[str, str] = {}


def read_manifest(destination: Destination) -> Manifest | None:
    """Return the manifest of an object; None unless it describes the existing object.

    Another program may have replaced the object, or a run may have been killed before it wrote the manifest.
    """
    target = manifest_of(destination).target()
    existing = destination.target().info()
    if existing is None or target.info() is None:
        return None
    with target.open() as stored:
        text = stored.read(_LONGEST + 1)
    if len(text) > _LONGEST:
        return None
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return manifest if manifest.object.version == existing.version else None
