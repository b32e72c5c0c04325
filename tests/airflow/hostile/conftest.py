# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

from tests.support.hostile.fixtures import elsewhere, logged, vendors

__all__ = ["elsewhere", "logged", "vendors"]
