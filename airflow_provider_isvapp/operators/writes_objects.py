# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The part of an operator that tells others what it has written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_isvapp.lineage.asset_events import announce
from airflow_provider_isvapp.lineage.documented_fields import Fields
from airflow_provider_isvapp.lineage.object_name import name_of
from airflow_provider_isvapp.lineage.published_object import PublishedObject
from airflow_provider_isvapp.lineage.source import Source
from airflow_provider_isvapp.links.written_object import WrittenObjectLink, console_address
from airflow_provider_isvapp.version_compat import BaseOperator, BaseOperatorLink, Context

if TYPE_CHECKING:
    from airflow_provider_isvapp.transfer.destination import Destination
    from airflow_provider_isvapp.transfer.result import WriteResult


class WritesObjects(BaseOperator):
    """Base of the operators that write: asset events, the link to the storage's console, lineage."""

    operator_extra_links: Sequence[BaseOperatorLink] = (WrittenObjectLink(),)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._published: tuple[PublishedObject, ...] = ()
        self._read_export: str | None = None

    def get_openlineage_facets_on_start(self) -> Any:
        """Say what will be read. Nothing is written yet."""
        return self._lineage()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Say what was read and written."""
        return self._lineage()

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> Any:
        """Say what was read, and what was published before the failure, if anything was."""
        return self._lineage()

    def _lineage(self) -> Any:
        from airflow_provider_isvapp.lineage.openlineage import lineage_of  # needs OpenLineage's provider

        return lineage_of(self._source(), self._published, export_id=self._read_export)

    def _source(self) -> Source:
        """Name what is read."""
        raise NotImplementedError

    def _fields(self) -> Fields:
        """Return the documented fields of the rows that are read."""
        raise NotImplementedError

    def _tell(
        self,
        context: Context,
        destination: Destination,
        published: Sequence[PublishedObject],
        metadata: dict[str, Any],
        *,
        placeholder: str | None = None,
    ) -> None:
        """Tell Airflow what is there now.

        :param metadata: of all objects together.
        :param placeholder: of the destination, if there is an object for each of several values.
        """
        self._published = tuple(published)
        announce(context, self.outlets, published, metadata)
        address = console_address(destination, placeholder=placeholder) if published else None
        # Empty if there is none: Airflow 3 asks for it when the task ends, and logs an error if nothing is stored.
        WrittenObjectLink.store(context, address or "")

    def _tell_of_list(
        self, context: Context, destination: Destination, result: WriteResult, metadata: dict[str, Any]
    ) -> None:
        """Tell Airflow of one object of lines."""
        written = PublishedObject(
            name=name_of(destination), rows=result.rows, size=result.bytes, fields=self._fields(), metadata=metadata
        )
        self._tell(context, destination, [written], metadata)
