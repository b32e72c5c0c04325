# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Clients of the hostile vendors; their pauses take no time."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.api.productiv import ProductivClient
from airflow_provider_isvapp.api.settings import IsvappSettings, ProductivSettings
from tests.support.doubles import FakeTime, RecordingLimiter
from tests.support.hostile.vendors import (
    ACCESS_TOKEN,
    API_KEY,
    CLIENT_ID,
    CLIENT_SECRET,
    DOWNLOAD_TOKEN,
    ENDPOINTS,
    STORAGE_PASSWORD,
    Endpoint,
    Vendors,
)

ATTEMPTS = 2
READ_TIMEOUT = 0.3


def open_client(
    endpoint: Endpoint, vendors: Vendors, *, api_key: bool = False, read_timeout: float = READ_TIMEOUT
) -> Any:
    """Open the client that reaches an endpoint."""
    fake = FakeTime(now=time.time())
    shared = {"limiter": RecordingLimiter(), "clock": fake, "sleep": fake.sleep}
    extra: dict[str, object] = {"attempts": ATTEMPTS, "read_timeout": read_timeout, "connect_timeout": 0.7}
    if endpoint.vendor is ProductivClient:
        extra |= {"auth_url": f"{vendors.url}{ENDPOINTS['productiv_token'].path}"}
        fields = {"login": CLIENT_ID, "password": CLIENT_SECRET, "host": vendors.url, "extra": extra}
        return ProductivClient(ProductivSettings.from_connection(**fields), **shared)
    extra |= {"rate_limit_storage": f"redis://:{quote(STORAGE_PASSWORD, safe='')}@localhost/0"}
    login, password = (None, API_KEY) if api_key else (CLIENT_ID, CLIENT_SECRET)
    settings = IsvappSettings.from_connection(login=login, password=password, host=vendors.url, extra=extra)
    return IsvappClient(settings, **shared)


def secrets_of(endpoint: Endpoint, *, api_key: bool = False) -> tuple[str, ...]:
    """Return the secrets that a client holds when it calls an endpoint. A vendor may know those of others."""
    if endpoint.vendor is ProductivClient:
        known = [CLIENT_SECRET]
    else:
        known = [API_KEY if api_key else CLIENT_SECRET, STORAGE_PASSWORD]
    if not api_key and not endpoint.is_token:
        known.append(ACCESS_TOKEN)
    if endpoint.is_file:
        known.append(DOWNLOAD_TOKEN)
    return tuple(known)
