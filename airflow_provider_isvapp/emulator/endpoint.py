# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The names of the endpoints, as faults, counts and the request log use them."""

from __future__ import annotations

from enum import StrEnum


class Endpoint(StrEnum):
    """Every endpoint of both vendors; ``UNKNOWN`` is any other address."""

    TOKEN = "token"  # noqa: S105 - the name of an endpoint
    ACCOUNT = "account"
    CREATE_EXPORT = "create_export"
    LIST_EXPORTS = "list_exports"
    SHOW_EXPORT = "show_export"
    DOWNLOAD = "download"
    SALESFORCE_ACCOUNTS = "salesforce_accounts"
    PRODUCTIV_TOKEN = "productiv_token"  # noqa: S105 - the name of an endpoint
    PRODUCTIV_APPS = "productiv_apps"
    PRODUCTIV_APP = "productiv_app"
    UNKNOWN = "unknown"

    @property
    def is_productiv(self) -> bool:
        """Whether Productiv serves it: no rate limit and another error format."""
        return self.startswith("productiv")
