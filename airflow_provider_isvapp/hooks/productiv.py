# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Hook for Productiv's app endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_isvapp.api.settings import ApiVersion, ProductivSettings, checked_api_version
from airflow_provider_isvapp.hooks.base import (
    VendorHook,
    configured_storage,
    fetch_connection,
    raise_airflow_errors,
    read_connection,
)
from airflow_provider_isvapp.hooks.connection_form import PRODUCTIV_FORM

if TYPE_CHECKING:
    from airflow_provider_isvapp.api.connection_check import Finding
    from airflow_provider_isvapp.api.productiv import AppDetails, AppList, ProductivClient
    from airflow_provider_isvapp.ratelimit import Limiter

# Productiv documents no limit, so processes share none: this one only paces a single task.
_REQUESTS_PER_SECOND = 10.0


def _checked(api_version: str | None) -> ApiVersion | None:
    return None if api_version is None else checked_api_version(api_version)


class ProductivHook(VendorHook["ProductivClient", ProductivSettings]):
    """Call Productiv with the credentials of an Airflow connection.

    A context manager that closes its network connections; not thread-safe. The methods raise
    ``AirflowFailException`` if a retry cannot help and ``AirflowException`` otherwise; the ``__context__`` is the
    error from :mod:`airflow_provider_isvapp.errors`.

    :param productiv_conn_id: an Airflow connection of type ``productiv``, by position or by name.
    """

    conn_name_attr = "productiv_conn_id"
    default_conn_name = "productiv_default"
    conn_type = "productiv"
    hook_name = "Productiv"

    def __init__(self, productiv_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.productiv_conn_id = productiv_conn_id

    # Airflow 2.11 to 3.1 take the next two only from the class itself, not from a base.
    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Describe Airflow's own fields of the connection form, for Airflow 2.11 to 3.1."""
        return PRODUCTIV_FORM.ui_field_behaviour()

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Describe the further fields of the connection form, for Airflow 2.11 to 3.1."""
        return PRODUCTIV_FORM.widgets()

    def _read_settings(self) -> ProductivSettings:
        connection = fetch_connection(self.productiv_conn_id)
        return read_connection(connection, ProductivSettings.from_connection, conn_type=self.conn_type)

    def _client_type(self) -> type[ProductivClient]:
        from airflow_provider_isvapp.api.productiv import ProductivClient  # HTTP is not needed to parse a DAG

        return ProductivClient

    def _limiter(self, settings: ProductivSettings, *, wait_timeout: float) -> Limiter:
        from airflow_provider_isvapp.ratelimit import open_limiter  # storage back ends are not needed to parse a DAG

        return open_limiter(
            "memory://",
            key=settings.limiter_key,
            requests_per_second=_REQUESTS_PER_SECOND,
            wait_timeout=wait_timeout,
            on_wait=self.log.info,
        )

    def _storage_url(self, settings: ProductivSettings) -> str:
        return configured_storage()

    @raise_airflow_errors()
    def list_apps(
        self, *, include_inactive: bool = False, verbose: bool = False, api_version: str | None = None
    ) -> AppList:
        """List the app portfolio, rows as the vendor sent them.

        :param include_inactive: also list inactive apps.
        :param verbose: list all attributes of each app instead of the summary.
        :param api_version: ``v1``, ``v2`` or ``v3``; overrides the connection's.
        :return: a sequence of apps, with the ``as_of_date`` of the information.
        """
        return self.get_conn().list_apps(
            include_inactive=include_inactive, verbose=verbose, api_version=_checked(api_version)
        )

    @raise_airflow_errors()
    def get_app(self, application_id: str, *, api_version: str | None = None) -> AppDetails:
        """Show one app with all its attributes.

        :param application_id: ``ApplicationId`` of a listed app.
        :param api_version: ``v1``, ``v2`` or ``v3``; overrides the connection's.
        """
        return self.get_conn().get_app(application_id, api_version=_checked(api_version))

    def _check(self, client: ProductivClient, settings: ProductivSettings) -> Finding:
        from airflow_provider_isvapp.api.connection_check import check_connection  # only the Test button needs it

        return check_connection(client, scope=settings.scope)
