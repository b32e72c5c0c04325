# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

from tests.support.airflow_connections import clock, emulator, isvapp, logs, productiv, set_connection

__all__ = ["clock", "emulator", "isvapp", "logs", "productiv", "set_connection"]
