# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Runs DAGs in a process whose Airflow sends metrics: reads ids from its input, writes the runs' states.

``python run_dags.py FILE_DESCRIPTOR`` writes them there, since Airflow logs to the standard streams.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime

from airflow import __version__ as airflow_version


def main() -> None:
    responses = os.fdopen(int(sys.argv[1]), "w", buffering=1)
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # before Airflow 3.2
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef]
    bag = DagBag()
    for dag_id in map(str.strip, sys.stdin):
        when = {"execution_date" if airflow_version.startswith("2.") else "logical_date": datetime.now(UTC)}
        print(bag.dags[dag_id].test(**when).state, file=responses)


if __name__ == "__main__":
    main()
