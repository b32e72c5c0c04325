# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""From what a task has read and published to the facets of OpenLineage.

Only the provider ``apache-airflow-providers-openlineage`` calls this, so it is there then. It adds the facets of the
task itself and, when a task fails, the error's message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.providers.openlineage.extractors import OperatorLineage
from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.generated.external_query_run import ExternalQueryRunFacet
from openlineage.client.generated.output_statistics_output_dataset import OutputStatisticsOutputDatasetFacet
from openlineage.client.generated.schema_dataset import SchemaDatasetFacet, SchemaDatasetFacetFields

from airflow_provider_isvapp.lineage.datasets import Fields, PublishedObject, Source


def lineage_of(
    source: Source, published: Sequence[PublishedObject], *, export_id: str | None
) -> OperatorLineage[Any, Any]:
    """Build what the provider wants to know.

    :param published: what is there for sure. There is always an input: with neither inputs nor outputs, the provider
        would report the outlets of the DAG file, written or not.
    :param export_id: the export that was read, if it is one and known.
    """
    run_facets = {}
    if export_id is not None:
        run_facets["externalQuery"] = ExternalQueryRunFacet(externalQueryId=export_id, source=source.namespace)
    return OperatorLineage(
        inputs=[InputDataset(namespace=source.namespace, name=source.name, facets=_schema(source.fields))],
        outputs=[_output(item) for item in published],
        run_facets=run_facets,
    )


def _output(item: PublishedObject) -> OutputDataset:
    statistics: dict[str, Any] = {}
    if item.written:
        facet = OutputStatisticsOutputDatasetFacet(rowCount=item.rows, size=item.size, fileCount=1)
        statistics["outputStatistics"] = facet
    return OutputDataset(
        namespace=item.name.namespace, name=item.name.name, facets=_schema(item.fields), outputFacets=statistics
    )


def _schema(fields: Fields) -> dict[str, Any]:
    columns = [SchemaDatasetFacetFields(name=name, type=kind) for name, kind in fields]
    return {"schema": SchemaDatasetFacet(fields=columns)}
