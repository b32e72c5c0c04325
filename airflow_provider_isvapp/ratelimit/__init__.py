# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Keeps all processes of an account within the vendor's limit of requests per second."""

from airflow_provider_isvapp.ratelimit.limiter import Limiter, open_limiter
from airflow_provider_isvapp.ratelimit.storage import open_storage

__all__ = ["Limiter", "open_limiter", "open_storage"]
