# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What the asset events of a writing task say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_isvapp.lineage.published_object import PublishedObject
from airflow_provider_isvapp.version_compat import Asset, AssetAlias, Context, alias_extra


def announce(
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
