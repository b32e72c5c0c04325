# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The datasets that tasks read and write, as assets and OpenLineage name them, and OpenLineage's facets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from airflow_provider_isvapp.api.network import origin
from airflow_provider_isvapp.api.settings import ISVAPP_BASE_URL as ISVAPP
from airflow_provider_isvapp.api.settings import PRODUCTIV_BASE_URL as PRODUCTIV
from airflow_provider_isvapp.api.settings import IsvappSettings, ProductivSettings
from airflow_provider_isvapp.hooks.base import connection_fields, fetch_connection

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_isvapp.transfer.destination import Destination


Fields = tuple[tuple[str, str], ...]


# Characters that Airflow would parse as a query, a fragment or an encoding are encoded, and so are non-ASCII ones.
_SAFE = "/=:@!$&'()*+,;~[]"


class ObjectName(msgspec.Struct, frozen=True, kw_only=True):
    """The names of one object.

    :param namespace: the storage, by OpenLineage's naming conventions.
    :param name: the object in the namespace, by the same conventions.
    :param uri: the URI for Airflow's assets.
    """

    namespace: str
    name: str
    uri: str


def name_of(destination: Destination) -> ObjectName:
    """Return the names of the object at a destination. Sends no request."""
    namespace, key = destination.store.namespace, destination.key
    if destination.kind == "local":
        return ObjectName(namespace=namespace, name=key, uri=f"file://{_encoded(key)}")
    scheme, _, host = namespace.partition("://")
    container, at, account = host.partition("@")
    # Airflow 2.11 drops the part before an @ in the URI of an asset.
    folder = f"{account}/{container}" if at else host
    return ObjectName(namespace=namespace, name=key, uri=f"{scheme}://{folder}/{_encoded(key)}")


def _encoded(key: str) -> str:
    return quote(key, safe=_SAFE)


class PublishedObject(msgspec.Struct, frozen=True, kw_only=True):
    """One complete object at its destination.

    :param rows: the number of its rows; None if unknown.
    :param size: the size of the stored object in bytes; None if unknown.
    :param fields: the documented fields of its rows.
    :param written: whether this task wrote it; an earlier attempt may have written it.
    :param metadata: JSON values for its asset event.
    """

    name: ObjectName
    rows: int | None
    size: int | None
    fields: Fields
    written: bool = True
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset of a vendor.

    :param namespace: the origin of the vendor's API, from the connection.
    :param name: the dataset in the namespace.
    :param fields: the documented fields.
    """

    namespace: str
    name: str
    fields: Fields

    @classmethod
    def in_isvapp(cls, conn_id: str, name: str, fields: Fields) -> Source:
        """Name a dataset of ISVapp."""
        return cls(namespace=_origin(conn_id, IsvappSettings.from_connection, ISVAPP), name=name, fields=fields)

    @classmethod
    def in_productiv(cls, conn_id: str, name: str, fields: Fields) -> Source:
        """Name a dataset of Productiv."""
        return cls(namespace=_origin(conn_id, ProductivSettings.from_connection, PRODUCTIV), name=name, fields=fields)


def _origin(conn_id: str, settings: Callable[..., Any], default: str) -> str:
    try:
        url = settings(**connection_fields(fetch_connection(conn_id))).transport.base_url
    except Exception:  # noqa: BLE001 (a failure must not prevent the event; the task reports what is wrong)
        url = default
    return origin(url).removesuffix(":443" if url.startswith("https:") else ":80")


def operator_lineage(
    source: Source, published: Sequence[PublishedObject], *, export_id: str | None
) -> OperatorLineage[Any, Any]:
    """Build the facets of a task; the OpenLineage provider adds those of every task, and the error's message.

    Only that provider calls this, so its packages are imported here: parsing a DAG does not need them.

    :param published: the objects known to exist. There is always an input: without inputs and outputs, the provider
        would report the outlets of the DAG file, written or not.
    :param export_id: the export that was read, if it is known.
    """
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import InputDataset, OutputDataset
    from openlineage.client.generated.external_query_run import ExternalQueryRunFacet
    from openlineage.client.generated.output_statistics_output_dataset import OutputStatisticsOutputDatasetFacet
    from openlineage.client.generated.schema_dataset import SchemaDatasetFacet, SchemaDatasetFacetFields

    def schema(fields: Fields) -> dict[str, Any]:
        columns = [SchemaDatasetFacetFields(name=name, type=kind) for name, kind in fields]
        return {"schema": SchemaDatasetFacet(fields=columns)}

    def output(item: PublishedObject) -> OutputDataset:
        statistics: dict[str, Any] = {}
        if item.written:
            facet = OutputStatisticsOutputDatasetFacet(rowCount=item.rows, size=item.size, fileCount=1)
            statistics["outputStatistics"] = facet
        return OutputDataset(
            namespace=item.name.namespace, name=item.name.name, facets=schema(item.fields), outputFacets=statistics
        )

    run_facets = {}
    if export_id is not None:
        run_facets["externalQuery"] = ExternalQueryRunFacet(externalQueryId=export_id, source=source.namespace)
    return OperatorLineage(
        inputs=[InputDataset(namespace=source.namespace, name=source.name, facets=schema(source.fields))],
        outputs=[output(item) for item in published],
        run_facets=run_facets,
    )
