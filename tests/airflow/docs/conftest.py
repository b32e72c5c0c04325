# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

from tests.airflow.dags.conftest import emulator

__all__ = ["emulator"]
