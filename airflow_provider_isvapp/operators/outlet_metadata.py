# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What the asset events of a writing task say about what was written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_isvapp.airflow_compat import Asset, Context


def describe_outlets(context: Context, outlets: Sequence[Any], metadata: dict[str, Any]) -> None:
    """Add facts about the written object to the events of the task's asset outlets.

    :param outlets: of the task; those that are no assets (such as aliases) are left alone.
    :param metadata: JSON values; a consumer finds them in the event's ``extra``.
    """
    for outlet in outlets:
        if isinstance(outlet, Asset):
            event = context["outlet_events"][outlet]
            event.extra = {**event.extra, **metadata}
