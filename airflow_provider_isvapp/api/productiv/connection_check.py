# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The test of a Productiv connection."""

from __future__ import annotations

from airflow_provider_isvapp.api.connection_check import Finding, failure, refused_at_once, success
from airflow_provider_isvapp.api.productiv.client import ProductivClient
from airflow_provider_isvapp.errors import AuthenticationRefused, ProviderError

VENDOR = "Productiv"


def check_connection(client: ProductivClient, *, scope: str) -> Finding:
    """Ask for a token and for the list of active apps.

    The token endpoint is on another host: the list alone shows that the connection's own is right. Productiv has no
    smaller request that every client may make.

    :param scope: the connection's, for the message.
    """
    try:
        client.check_credentials()
    except ProviderError as error:
        return failure(error, vendor=VENDOR, clock_ahead=client.clock_ahead)
    try:
        apps = client.list_apps()
    except AuthenticationRefused as refused:
        return refused_at_once(refused, vendor=VENDOR, clock_ahead=client.clock_ahead)
    except ProviderError as error:
        return failure(error, vendor=VENDOR, clock_ahead=client.clock_ahead)
    message = f"Connected to Productiv with the scope {scope}: {len(apps)} active apps as of {apps.as_of_date}."
    return success(message, vendor=VENDOR, clock_ahead=client.clock_ahead)
