# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import tests.airflow_connections  # noqa: F401 (imports Airflow 2.11 without its warnings)
