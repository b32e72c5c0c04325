# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Hook for ISVapp's REST API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from airflow_provider_isvapp.api.connection_check import check_api_key, check_client_credentials
from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.api.isvapp.models import Account, Aggregation, Export, ExportRequest, ExportType
from airflow_provider_isvapp.api.isvapp.settings import IsvappSettings
from airflow_provider_isvapp.errors import ProviderError
from airflow_provider_isvapp.hooks.base import (
    SECONDS_IN_QUEUE,
    airflow_errors,
    impatient,
    look_up,
    look_up_async,
    look_up_in_loop,
)
from airflow_provider_isvapp.hooks.connection_form import ISVAPP_FORM
from airflow_provider_isvapp.hooks.rate_limit import isvapp_settings
from airflow_provider_isvapp.metrics import record
from airflow_provider_isvapp.version_compat import BaseHook, mask_secret


class IsvappHook(BaseHook):
    """Call ISVapp with the credentials of an Airflow connection, within its shared limit of requests.

    A context manager that closes its network connections; not for several threads at once. The methods raise
    ``AirflowFailException`` where a retry cannot help and ``AirflowException`` otherwise; the ``__cause__`` is the
    error from :mod:`airflow_provider_isvapp.errors`.

    :param isvapp_conn_id: an Airflow connection of type ``isvapp``.
    """

    conn_name_attr = "isvapp_conn_id"
    default_conn_name = "isvapp_default"
    conn_type = "isvapp"
    hook_name = "ISVapp"

    def __init__(self, *, isvapp_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.isvapp_conn_id = isvapp_conn_id
        self._client: IsvappClient | None = None

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Describe Airflow's own fields of the connection form, for Airflow 2.11 to 3.1."""
        return ISVAPP_FORM.ui_field_behaviour()

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Describe the further fields of the connection form, for Airflow 2.11 to 3.1."""
        return ISVAPP_FORM.widgets()

    def __enter__(self) -> IsvappHook:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the network connections; the hook can still be used and opens new ones then."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def get_client(self) -> IsvappClient:
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

    def get_conn(self) -> IsvappClient:
        """Return the client, under the name that Airflow's hooks have for it."""
        return self.get_client()

    async def aget_client(self) -> IsvappClient:
        """Return the client, for code on an event loop. Calls on the client block: they belong in a thread.

        Its tokens are not registered with ``mask_secret``: a triggerer runs for months, each registered secret makes
        every one of its log lines dearer, and a token is new every hour.

        :raises InvalidConnection: naming the field of the connection that is wrong.
        """
        if self._client is None:
            connection = await look_up_async(self.isvapp_conn_id)
            loop = asyncio.get_running_loop()

            def reload_settings() -> IsvappSettings:
                return isvapp_settings(look_up_in_loop(self.isvapp_conn_id, loop))

            self._client = await asyncio.to_thread(
                lambda: self._open(isvapp_settings(connection), reload_settings=reload_settings)
            )
        return self._client

    def _read_settings(self) -> IsvappSettings:
        return isvapp_settings(look_up(self.isvapp_conn_id))

    def _open(
        self,
        settings: IsvappSettings,
        *,
        on_new_token: Callable[[str], object] = lambda _: None,
        reload_settings: Callable[[], IsvappSettings] | None = None,
        **limit: float,
    ) -> IsvappClient:
        from airflow_provider_isvapp.ratelimit import open_limiter  # storage back ends are not needed to parse a DAG

        limiter = open_limiter(
            settings.rate_limit_storage,
            key=settings.limiter_key,
            requests_per_second=settings.requests_per_second,
            on_wait=self.log.info,
            observe=record,
            **limit,
        )
        return IsvappClient(
            settings, limiter=limiter, observe=record, on_new_token=on_new_token, reload_settings=reload_settings
        )

    @airflow_errors()
    def get_account(self) -> Account:
        """Show the ISVapp account that the connection belongs to."""
        return self.get_client().get_account()

    @airflow_errors()
    def create_export(
        self,
        *,
        timeframe: str,
        taxonomy_ids: Sequence[str] | None = None,
        taxonomy_level_ids: Sequence[str] | None = None,
        taxonomy_item_ids: Sequence[str] | None = None,
        salesforce_account_ids: Sequence[str] | None = None,
        export_type: str = ExportType.TAXONOMY_ITEM,
        aggregation: str = Aggregation.MONTHLY,
    ) -> Export:
        """Request an export. Sent once: if no answer comes, that is an error and not a second export.

        :param timeframe: a month as ``YYYY-MM``, ``LATEST_COMPLETED_MONTH`` or ``LATEST_12_COMPLETED_MONTHS``.
        :param taxonomy_ids: export all items of these taxonomies. Exactly one of the three id lists is needed.
        :param taxonomy_level_ids: export all items of these taxonomy levels.
        :param taxonomy_item_ids: export these items.
        :param salesforce_account_ids: limit the rows to these accounts (ids of 15 or 18 characters).
        :return: the new export, usually PENDING.
        """
        request = ExportRequest.checked(
            timeframe=timeframe,
            taxonomy_ids=taxonomy_ids,
            taxonomy_level_ids=taxonomy_level_ids,
            taxonomy_item_ids=taxonomy_item_ids,
            salesforce_account_ids=salesforce_account_ids,
            export_type=export_type,
            aggregation=aggregation,
        )
        return self.get_client().create_export(request)

    @airflow_errors()
    def get_export(self, export_id: str) -> Export:
        """Show one export."""
        return self.get_client().get_export(export_id)

    @airflow_errors()
    def list_exports(self) -> list[Export]:
        """List the 1000 most recent exports."""
        return self.get_client().list_exports()

    @airflow_errors()
    def list_salesforce_accounts(
        self, *, include_health_scores: bool = False, include_subscriber_orgs: bool = False
    ) -> list[dict[str, Any]]:
        """List the active Salesforce accounts that ISVapp knows, as the vendor sent them.

        :param include_health_scores: add ``health_scores`` to each account.
        :param include_subscriber_orgs: add ``subscriber_orgs`` to each account.
        """
        return self.get_client().list_salesforce_accounts(
            include_health_scores=include_health_scores, include_subscriber_orgs=include_subscriber_orgs
        )

    def test_connection(self) -> tuple[bool, str]:
        """Try the connection, for the Test button: whose account it is and what it may do, or what is wrong."""
        try:
            settings = self._read_settings()
            patience = replace(settings, transport=impatient(settings.transport))
            with self._open(patience, wait_timeout=SECONDS_IN_QUEUE) as client:
                finding = check_api_key(client) if settings.client_id is None else check_client_credentials(client)
        except ProviderError as error:
            return False, str(error)
        return finding.works, finding.message
