# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Hook for ISVapp's REST API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_isvapp.api.isvapp.export_state import is_ready_or_raise, may_appear
from airflow_provider_isvapp.api.isvapp.models import Account, Export, ExportRequest
from airflow_provider_isvapp.api.schema.isvapp import Aggregation, ExportType
from airflow_provider_isvapp.api.settings import IsvappSettings
from airflow_provider_isvapp.errors import NotFound, ProviderError
from airflow_provider_isvapp.hooks.base import (
    VendorHook,
    fetch_connection,
    fetch_connection_async,
    fetch_connection_in_loop,
    isvapp_settings,
    raise_airflow_errors,
)
from airflow_provider_isvapp.hooks.connection_form import ISVAPP_FORM
from airflow_provider_isvapp.log_messages import Log
from airflow_provider_isvapp.metrics import record

if TYPE_CHECKING:
    from airflow_provider_isvapp.api.connection_check import Finding
    from airflow_provider_isvapp.api.isvapp.client import IsvappClient
    from airflow_provider_isvapp.ratelimit import Limiter


class IsvappHook(VendorHook["IsvappClient", IsvappSettings]):
    """Call ISVapp with the credentials of an Airflow connection, within its shared limit of requests.

    A context manager that closes its network connections; not thread-safe. The methods raise
    ``AirflowFailException`` if a retry cannot help and ``AirflowException`` otherwise; the ``__context__`` is the
    error from :mod:`airflow_provider_isvapp.errors`.

    :param isvapp_conn_id: an Airflow connection of type ``isvapp``, by position or by name.
    """

    conn_name_attr = "isvapp_conn_id"
    default_conn_name = "isvapp_default"
    conn_type = "isvapp"
    hook_name = "ISVapp"

    def __init__(self, isvapp_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.isvapp_conn_id = isvapp_conn_id

    # Airflow 2.11 to 3.1 take the next two only from the class itself, not from a base.
    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Describe Airflow's own fields of the connection form, for Airflow 2.11 to 3.1."""
        return ISVAPP_FORM.ui_field_behaviour()

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Describe the further fields of the connection form, for Airflow 2.11 to 3.1."""
        return ISVAPP_FORM.widgets()

    async def aget_conn(self) -> IsvappClient:
        """Return the client, for code on an event loop. Its methods block, so call them in a thread.

        Its tokens are not registered with ``mask_secret``: a triggerer runs for months, tokens change every hour, and
        each registered secret slows down every log line.

        :raises InvalidConnection: naming the field of the connection that is wrong.
        """
        if self._client is None:
            connection = await fetch_connection_async(self.isvapp_conn_id)
            loop = asyncio.get_running_loop()

            def reload_settings() -> IsvappSettings:
                return isvapp_settings(fetch_connection_in_loop(self.isvapp_conn_id, loop))

            self._client = await asyncio.to_thread(
                lambda: self._open(isvapp_settings(connection), reload_settings=reload_settings)
            )
        return self._client

    def _read_settings(self) -> IsvappSettings:
        return isvapp_settings(fetch_connection(self.isvapp_conn_id))

    def _client_type(self) -> type[IsvappClient]:
        from airflow_provider_isvapp.api.isvapp.client import IsvappClient  # HTTP is not needed to parse a DAG

        return IsvappClient

    def _limiter(self, settings: IsvappSettings, *, wait_timeout: float) -> Limiter:
        from airflow_provider_isvapp.ratelimit import open_limiter  # storage back ends are not needed to parse a DAG

        return open_limiter(
            settings.rate_limit_storage,
            key=settings.limiter_key,
            requests_per_second=settings.requests_per_second,
            wait_timeout=wait_timeout,
            on_wait=self.log.info,
            observe=record,
        )

    def _storage_url(self, settings: IsvappSettings) -> str:
        return settings.rate_limit_storage

    @raise_airflow_errors()
    def get_account(self) -> Account:
        """Get the ISVapp account that the connection belongs to."""
        return self.get_conn().get_account()

    @raise_airflow_errors()
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
        extra_request: Mapping[str, Any] | None = None,
    ) -> Export:
        """Request an export. Not retried if no response arrives, to avoid a second export.

        :param timeframe: a month as ``YYYY-MM``, ``LATEST_COMPLETED_MONTH`` or ``LATEST_12_COMPLETED_MONTHS``.
        :param taxonomy_ids: export all items of these taxonomies. Exactly one of the three id lists is needed.
        :param taxonomy_level_ids: export all items of these taxonomy levels.
        :param taxonomy_item_ids: export these items.
        :param salesforce_account_ids: limit the rows to these accounts (ids of 15 or 18 characters).
        :param export_type: the type of data.
        :param aggregation: the period that a row covers.
        :param extra_request: further fields of the request, sent as they are. With it, even an empty one, a type and an
            aggregation that this version does not know pass with a warning.
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
            extra_request=extra_request,
        )
        return self.get_conn().create_export(request)

    @raise_airflow_errors()
    def get_export(self, export_id: str) -> Export:
        """Get one export."""
        return self.get_conn().get_export(export_id)

    @raise_airflow_errors()
    def list_exports(self) -> list[Export]:
        """List the 1000 most recent exports: ISVapp's list has no more."""
        return self.get_conn().list_exports()

    @raise_airflow_errors()
    def list_salesforce_accounts(
        self, *, include_health_scores: bool = False, include_subscriber_orgs: bool = False
    ) -> list[dict[str, Any]]:
        """List the active Salesforce accounts that ISVapp knows, as the vendor sent them.

        :param include_health_scores: add ``health_scores`` to each account.
        :param include_subscriber_orgs: add ``subscriber_orgs`` to each account.
        """
        return self.get_conn().list_salesforce_accounts(
            include_health_scores=include_health_scores, include_subscriber_orgs=include_subscriber_orgs
        )

    def poll_export(self, export_id: str, *, known_since: datetime) -> PollResult:
        """Poll an export once, to wait in a worker. A transient polling error is not a failed export.

        :param known_since: when the task first had the export's id, timezone-aware.
        :raises ProviderError: unconverted, if the wait is over: the export errored or expired, or the error is
            permanent.
        """
        try:
            export = self.get_conn().get_export(export_id)
            now = datetime.now(UTC)
            if is_ready_or_raise(export, now=now):
                return PollResult(ready=export, seen="ready")
        except ProviderError as error:
            new = isinstance(error, NotFound) and may_appear(known_since=known_since, now=datetime.now(UTC))
            if error.permanent and not new:
                raise
            self.log.warning("Polling export %s failed; will retry: %s", export_id, error)
            return PollResult(ready=None, seen=f"the last poll failed: {error}")
        return PollResult(
            ready=None, seen=f"last seen {export.status} at {now:%H:%M:%S} UTC", waiting=str(export.status)
        )

    def _check(self, client: IsvappClient, settings: IsvappSettings) -> Finding:
        # Only the Test button needs them.
        from airflow_provider_isvapp.api.connection_check import check_api_key, check_client_credentials

        return check_api_key(client) if settings.client_id is None else check_client_credentials(client)


@dataclass(frozen=True, kw_only=True)
class PollResult:
    """The result of a poll.

    :param ready: the export, if it can be downloaded.
    :param seen: a phrase for the message of a timeout.
    :param waiting: the export's status while it is processed; None if it is ready or the poll failed.
    """

    ready: Export | None
    seen: str
    waiting: str | None = None


SECONDS_BETWEEN_POLLS = 2.0
"""The interval while the vendor may not know a new export yet."""

Result = TypeVar("Result")


def retry_until_known(call: Callable[[], Result], *, known_since: datetime, log: Log) -> Result:
    """Call a function for an export; repeat the call while the vendor may not know the export yet.

    :param known_since: when the task first had the export's id, timezone-aware.
    """
    while True:
        try:
            return call()
        except NotFound as error:
            if not may_appear(known_since=known_since, now=datetime.now(UTC)):
                raise
            log.warning("Trying again in %.0f s, since the export may be new: %s", SECONDS_BETWEEN_POLLS, error)
        time.sleep(SECONDS_BETWEEN_POLLS)
