# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A task in a separate process that fetches a list and is killed when all of it is staged.

Arguments: name of the list; path.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from airflow_provider_isvapp.operators.isvapp import IsvappFetchSalesforceAccountsOperator
from airflow_provider_isvapp.operators.productiv import ProductivFetchAppsOperator
from airflow_provider_isvapp.transfer.writers import StoredObject
from tests.support import airflow_connections  # noqa: F401 (imports what Airflow 2.11 warns about)
from tests.support.task_context import task_context


def main(name: str, path: str) -> None:
    flush = StoredObject.flush

    def flush_and_die(self: StoredObject, *args: Any, **kwargs: Any) -> Any:
        flush(self, *args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    StoredObject.flush = flush_and_die  # type: ignore[method-assign]
    operator = ProductivFetchAppsOperator if name == "apps" else IsvappFetchSalesforceAccountsOperator
    operator(task_id="fetch", path=path).execute(task_context())


if __name__ == "__main__":
    main(*sys.argv[1:])
