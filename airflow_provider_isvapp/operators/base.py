# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What the operators that write share: the destination, asset events, links, lineage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_provider_isvapp.errors import InvalidArgument
from airflow_provider_isvapp.lineage.datasets import Fields, PublishedObject, Source, name_of
from airflow_provider_isvapp.links.isvapp import WrittenObjectLink, console_url
from airflow_provider_isvapp.version_compat import (
    Asset,
    AssetAlias,
    BaseOperator,
    BaseOperatorLink,
    Context,
    ObjectStoragePath,
    alias_extra,
    has_file_system,
)

if TYPE_CHECKING:
    from airflow_provider_isvapp.transfer.destination import Destination
    from airflow_provider_isvapp.transfer.results import WriteResult


PathArgument: TypeAlias = ObjectStoragePath | str

# The extra of this package that brings the file system of a scheme.
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}


def resolve_destination(path: object) -> Destination:
    """Understand a path without touching the storage.

    :param path: an ``ObjectStoragePath``, a URI such as ``s3://conn_id@bucket/key``, or an absolute local path.
    :raises InvalidArgument: if it names no object, or is on a storage that this Airflow does not know.
    """
    from airflow_provider_isvapp.transfer.destination import open_destination  # only a running task needs it

    text = str(path) if isinstance(path, ObjectStoragePath) else _checked_text(path)
    scheme = text.partition("://")[0] if "://" in text else "file"
    problem = _no_file_system(text, scheme)
    # What an ObjectStoragePath of an unknown scheme does depends on Airflow's version, so it is made afterwards.
    if has_file_system(scheme):
        storage_path = path if isinstance(path, ObjectStoragePath) else ObjectStoragePath(text)
        try:
            storage_path.fs  # noqa: B018 (imports and opens the file system)
        except ImportError:
            pass  # a provider can be there without the library that it needs for this
        else:
            return open_destination(storage_path)
    raise problem


def _checked_text(path: object) -> str:
    if not isinstance(path, str) or not path.strip():
        raise InvalidArgument(f"path: must be a URI, an absolute local path or an ObjectStoragePath, not {path!r}.")
    scheme, separator, rest = path.partition("://")
    # Airflow would drop the slash, and write an object in the place of the folder.
    if path.endswith("/"):
        raise InvalidArgument(f"path {path!r} names a folder; add the name of the object to write.")
    local = rest if scheme in ("file", "local") else None if separator else path
    # Relative to what? Each worker has its own working directory, and Airflow 2.11 takes the root.
    if local is not None and not local.startswith("/"):
        raise InvalidArgument(f"path {path!r} is relative; give an absolute path, or a URI such as s3://bucket/key.")
    return path


def _no_file_system(path: str, scheme: str) -> InvalidArgument:
    extra = _EXTRAS.get(scheme)
    step = f"Install it with: pip install 'airflow-provider-isvapp[{extra}]'" if extra else "Use file, s3, gs or abfs."
    return InvalidArgument(f"path {path!r}: this Airflow has no file system for {scheme}://. {step}")


def _add_asset_events(
    context: Context, outlets: Sequence[Any], published: Sequence[PublishedObject], metadata: dict[str, Any]
) -> None:
    """Describe what was written in the events of the task's outlets.

    :param outlets: of the task. The event of an asset gets ``metadata``. An alias gets the asset of each published
        object, with that object's own metadata.
    :param metadata: of all objects together, as JSON values; a consumer finds them in the event's ``extra``.
    """
    for outlet in outlets:
        if isinstance(outlet, Asset):
            event = context["outlet_events"][outlet]
            event.extra = {**event.extra, **metadata}
        elif isinstance(outlet, AssetAlias):
            for item in published:
                context["outlet_events"][outlet].add(Asset(uri=item.name.uri), extra=alias_extra(item.metadata))


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What is at a destination once a task has written there.

    :param objects: those that are there; none if something else was left in place.
    :param xcom: of all objects together, as JSON values.
    :param placeholder: of the destination, if there is an object for each of several values.
    """

    destination: Destination
    objects: tuple[PublishedObject, ...]
    xcom: dict[str, Any]
    placeholder: str | None = None

    @classmethod
    def of_list(
        cls, destination: Destination, result: WriteResult, *, fields: Fields, xcom: dict[str, Any]
    ) -> Publication:
        """Describe one object of lines."""
        written = PublishedObject(
            name=name_of(destination),
            rows=result.rows,
            size=result.bytes,
            written=result.outcome == "written",
            fields=fields,
            metadata=xcom,
        )
        return cls(destination=destination, objects=(written,), xcom=xcom)


class WriteOperator(BaseOperator):
    """Base of the operators that write: asset events, the link to the storage's console, lineage."""

    operator_extra_links: Sequence[BaseOperatorLink] = (WrittenObjectLink(),)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._published: tuple[PublishedObject, ...] = ()
        self._read_export: str | None = None

    def get_openlineage_facets_on_start(self) -> Any:
        """Name what the task reads. Nothing is written yet."""
        return self._lineage()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Name what the task read and wrote."""
        return self._lineage()

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> Any:
        """Name what the task read, and what it published before the failure, if anything."""
        return self._lineage()

    def _lineage(self) -> Any:
        from airflow_provider_isvapp.lineage.openlineage import lineage_of  # needs OpenLineage's provider

        return lineage_of(self._source(), self._published, export_id=self._read_export)

    def _source(self) -> Source:
        """Name what the task reads."""
        raise NotImplementedError

    def _publish_events(self, context: Context, publication: Publication) -> dict[str, Any]:
        """Tell Airflow which objects are at the destination now, and return the task's XCom."""
        self._published = publication.objects
        _add_asset_events(context, self.outlets, publication.objects, publication.xcom)
        url = None
        if publication.objects:
            url = console_url(publication.destination, placeholder=publication.placeholder)
        # Empty if there is none: Airflow 3 asks for it when the task ends, and logs an error if nothing is stored.
        WrittenObjectLink.persist(context, url or "")
        return publication.xcom
