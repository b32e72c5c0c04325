# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Hook for Productiv's app endpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from airflow_provider_isvapp.api.connection_check import check_connection
from airflow_provider_isvapp.api.productiv.client import AppDetails, AppList, ProductivClient
from airflow_provider_isvapp.api.productiv.settings import ProductivSettings
from airflow_provider_isvapp.errors import ProviderError
from airflow_provider_isvapp.hooks.base import airflow_errors, fields_of, impatient, look_up
from airflow_provider_isvapp.hooks.connection_form import PRODUCTIV_FORM
from airflow_provider_isvapp.metrics import record
from airflow_provider_isvapp.version_compat import BaseHook, mask_secret

# Productiv documents no limit, so there is none to share between processes: this one only paces a single task.
_REQUESTS_PER_SECOND = 10.0


class ProductivHook(BaseHook):
    """Call Productiv with the credentials of an Airflow connection.

    A context manager that closes its network connections; not for several threads at once. The methods raise
    ``AirflowFailException`` where a retry cannot help and ``AirflowException`` otherwise; the ``__cause__`` is the
    error from :mod:`airflow_provider_isvapp.errors`.

    :param productiv_conn_id: an Airflow connection of type ``productiv``.
    """

    conn_name_attr = "productiv_conn_id"
    default_conn_name = "productiv_default"
    conn_type = "productiv"
    hook_name = "Productiv"

    def __init__(self, *, productiv_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.productiv_conn_id = productiv_conn_id
        self._client: ProductivClient | None = None

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Describe Airflow's own fields of the connection form, for Airflow 2.11 to 3.1."""
        return PRODUCTIV_FORM.ui_field_behaviour()

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Describe the further fields of the connection form, for Airflow 2.11 to 3.1."""
        return PRODUCTIV_FORM.widgets()

    def __enter__(self) -> ProductivHook:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the network connections; the hook can still be used and opens new ones then."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def get_client(self) -> ProductivClient:
        """Return the client below the hook; always the same one, so that tokens are used again.

        Its methods raise the errors of :mod:`airflow_provider_isvapp.errors` as they are.

        :raises InvalidConnection: naming the field of the connection that is wrong.
        """
        if self._client is None:
            # Nothing of ours logs a token; this is for whatever else writes to the task's log.
            self._client = self._open(
                self._read_settings(), on_new_token=mask_secret, reload_settings=self._read_settings
            )
        return self._client

    def get_conn(self) -> ProductivClient:
        """Return the client, under the name that Airflow's hooks have for it."""
        return self.get_client()

    def _read_settings(self) -> ProductivSettings:
        return ProductivSettings.from_connection(**fields_of(look_up(self.productiv_conn_id)))

    def _open(
        self,
        settings: ProductivSettings,
        *,
        on_new_token: Callable[[str], object] = lambda _: None,
        reload_settings: Callable[[], ProductivSettings] | None = None,
    ) -> ProductivClient:
        from airflow_provider_isvapp.ratelimit import open_limiter  # storage back ends are not needed to parse a DAG

        limiter = open_limiter(
            "memory://", key=settings.limiter_key, requests_per_second=_REQUESTS_PER_SECOND, on_wait=self.log.info
        )
        return ProductivClient(
            settings, limiter=limiter, observe=record, on_new_token=on_new_token, reload_settings=reload_settings
        )

    @airflow_errors()
    def list_apps(self, *, include_inactive: bool = False, verbose: bool = False) -> AppList:
        """List the app portfolio, rows as the vendor sent them.

        :param include_inactive: also list inactive apps.
        :param verbose: list all attributes of each app instead of the summary.
        :return: a sequence of apps that also has the ``as_of_date`` of the information.
        """
        return self.get_client().list_apps(include_inactive=include_inactive, verbose=verbose)

    @airflow_errors()
    def get_app(self, application_id: str) -> AppDetails:
        """Show one app with all its attributes.

        :param application_id: ``ApplicationId`` of a listed app.
        """
        return self.get_client().get_app(application_id)

    def test_connection(self) -> tuple[bool, str]:
        """Try the connection, for the Test button: lists the apps, or says what is wrong."""
        try:
            settings = self._read_settings()
            with self._open(replace(settings, transport=impatient(settings.transport))) as client:
                finding = check_connection(client, scope=settings.scope)
        except ProviderError as error:
            return False, str(error)
        return finding.works, finding.message
