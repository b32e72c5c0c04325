# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Which months are complete."""

from __future__ import annotations

from datetime import datetime

from airflow_provider_isvapp.emulator.config import EmulatorConfig


def earlier(month: str, count: int) -> str:
    """Return the month ``count`` months before ``YYYY-MM``."""
    year, number = map(int, month.split("-"))
    index = year * 12 + number - 1 - count
    return f"{index // 12:04d}-{index % 12 + 1:02d}"


def latest_complete(config: EmulatorConfig, now: datetime) -> str:
    """Return the latest month whose data is complete: last month, from a certain day of this one on."""
    return earlier(f"{now.year:04d}-{now.month:02d}", 1 if now.day >= config.month_complete_day else 2)
