# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Keeps every process that uses one account within the vendor's requests per second, together."""

from airflow_provider_isvapp.limiter.interfaces import Limiter
from airflow_provider_isvapp.limiter.open import open_limiter

__all__ = ["Limiter", "open_limiter"]
