# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Values that a DAG leaks on purpose, one for each place, to prove that the search finds them."""

from __future__ import annotations

from tests.support.spelling import AWKWARD

# The name of the place, and where the search must find its value.
PLACES = {
    "serialized DAG": "database: serialized_dag.data",
    "rendered field": "database: rendered_task_instance_fields.rendered_fields",
    "XCom": "database: xcom.value",
    "task state": "database: task_state_store.value",
    "asset event": "database: asset_event.extra",
    "trigger": "while deferred, database: trigger.kwargs",
    "URL in a log": "file: logs/dag_id=planted",
    "header in a log": "file: logs/dag_id=planted",
    "triggerer's log": "file: logs/dag_id=planted",
    "standard output": "file: logs/dag_id=planted",
    "shared storage": "limiter's storage: planted",
}
PLANTED = {place: f"planted-{number}{AWKWARD}" for number, place in enumerate(PLACES)}
