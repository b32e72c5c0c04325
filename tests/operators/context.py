# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The parts of a task's context that the operators read."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any


def task_context() -> Any:
    """A context with Airflow's shape of outlet events: an accessor with an ``extra`` for each asset."""
    return {"outlet_events": defaultdict(lambda: SimpleNamespace(extra={}))}
