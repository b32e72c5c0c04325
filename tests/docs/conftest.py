# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

from tests.airflow_connections import logs, set_connection
from tests.dags.conftest import emulator

__all__ = ["emulator", "logs", "set_connection"]
