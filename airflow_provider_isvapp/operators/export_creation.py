# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The part of an operator that has an export created: once, in the month's time, and not again after a crash."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from airflow_provider_isvapp.airflow_errors import airflow_errors
from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.api.isvapp.export import Export
from airflow_provider_isvapp.api.isvapp.export_request import Aggregation, ExportRequest, ExportType
from airflow_provider_isvapp.errors import InvalidArgument, NotFound, RequestRefused
from airflow_provider_isvapp.hooks.export_look import when_known
from airflow_provider_isvapp.hooks.export_outcome import count_if_lost
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.links.isvapp import EXPORT_LINKS, link_to_export
from airflow_provider_isvapp.metrics import record
from airflow_provider_isvapp.observer import ExportReattached
from airflow_provider_isvapp.operators.month import MONTH_OF_RUN, ask_again_at, checked_timeframe
from airflow_provider_isvapp.operators.remembered_export import (
    ExportMemory,
    fingerprint_of,
    reason_to_replace,
    reason_to_start_afresh,
)
from airflow_provider_isvapp.task_log import log_request
from airflow_provider_isvapp.triggers.moment import MomentTrigger
from airflow_provider_isvapp.version_compat import BaseOperator, BaseOperatorLink, Context, conf

# Airflow ends a deferral by itself this many seconds after its moment, if no triggerer could.
_TRIGGERER_GRACE = 3600.0


class CreatesExport(BaseOperator):
    """Base of the operators that have an export created; the fields are described there."""

    template_fields: Sequence[str] = (
        "timeframe",
        "taxonomy_ids",
        "taxonomy_level_ids",
        "taxonomy_item_ids",
        "salesforce_account_ids",
        "isvapp_conn_id",
    )
    operator_extra_links: Sequence[BaseOperatorLink] = EXPORT_LINKS

    def __init__(
        self,
        *,
        timeframe: str = MONTH_OF_RUN,
        taxonomy_ids: Sequence[str] | None = None,
        taxonomy_level_ids: Sequence[str] | None = None,
        taxonomy_item_ids: Sequence[str] | None = None,
        salesforce_account_ids: Sequence[str] | None = None,
        export_type: str = ExportType.TAXONOMY_ITEM.value,
        aggregation: str = Aggregation.MONTHLY.value,
        wait_for_month: timedelta | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        isvapp_conn_id: str = IsvappHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.timeframe = timeframe
        self.taxonomy_ids = taxonomy_ids
        self.taxonomy_level_ids = taxonomy_level_ids
        self.taxonomy_item_ids = taxonomy_item_ids
        self.salesforce_account_ids = salesforce_account_ids
        self.export_type = export_type
        self.aggregation = aggregation
        self.wait_for_month = wait_for_month
        self.deferrable = deferrable
        self.isvapp_conn_id = isvapp_conn_id

    @airflow_errors()
    def execute(self, context: Context) -> Any:
        """Check the arguments, have the export created and go on with it."""
        return self._start(context)

    @airflow_errors()
    def ask_again(self, context: Context, event: Any = None) -> Any:
        """Start once more, after a wait for the month."""
        return self._start(context)

    def _start(self, context: Context) -> Any:
        raise NotImplementedError

    def _checked_request(self) -> ExportRequest:
        if self.wait_for_month is not None and not isinstance(self.wait_for_month, timedelta):
            raise InvalidArgument(f"wait_for_month: must be a timedelta, not {self.wait_for_month!r}.")
        return ExportRequest.checked(
            timeframe=checked_timeframe(self.timeframe),
            taxonomy_ids=self.taxonomy_ids,
            taxonomy_level_ids=self.taxonomy_level_ids,
            taxonomy_item_ids=self.taxonomy_item_ids,
            salesforce_account_ids=self.salesforce_account_ids,
            export_type=self.export_type,
            aggregation=self.aggregation,
        )

    def _obtain_export(
        self, context: Context, request: ExportRequest, client: IsvappClient, memory: ExportMemory
    ) -> Export:
        """Return the export of an earlier try, or a new one; it is on record then."""
        fingerprint = fingerprint_of(request)
        export = self._export_of_earlier_try(fingerprint, client, memory)
        if export is None:
            export = self._create(request, client)
            memory.keep(export.id, fingerprint=fingerprint)
            self.log.info("Export %s is created and %s", export.id, export.status)
        link_to_export(context, conn_id=self.isvapp_conn_id, export_id=export.id)
        return export

    def _export_of_earlier_try(self, fingerprint: str, client: IsvappClient, memory: ExportMemory) -> Export | None:
        remembered = memory.recall()
        if remembered is None:
            return None
        reason = reason_to_start_afresh(remembered, fingerprint=fingerprint, max_tries=memory.max_tries)
        if reason is None:
            export: Export | None
            try:
                export = when_known(
                    partial(client.get_export, remembered.export_id),
                    known_since=datetime.fromtimestamp(remembered.known_since, UTC),
                    log=self.log,
                )
            except NotFound:
                export = None
            reason = reason_to_replace(export, now=datetime.now(UTC))
            if reason is None and export is not None:
                self.log.info("Export %s of an earlier try is %s: going on with it", export.id, export.status)
                record(ExportReattached())
                return export
            if export is not None:
                count_if_lost(export)
        self.log.info("Export %s of an earlier try is not used: %s", remembered.export_id, reason)
        memory.forget()
        return None

    def _create(self, request: ExportRequest, client: IsvappClient) -> Export:
        log_request(self.log, request)
        while True:
            try:
                return client.create_export(request)
            except RequestRefused as refusal:
                if self.wait_for_month is None:
                    raise
                moment = ask_again_at(
                    request.timeframe, refusal, wait_for_month=self.wait_for_month, now=datetime.now(UTC)
                )
                said = str(refusal)
            self.log.info(
                "%s is taken as not complete yet, since it ended less than %s ago; asking again at %s UTC. %s",
                request.timeframe,
                self.wait_for_month,
                f"{moment:%Y-%m-%d %H:%M:%S}",
                said,
            )
            self._wait_until(moment)

    def _wait_until(self, moment: datetime) -> None:
        seconds = max(moment.timestamp() - time.time(), 0.0)
        if self.deferrable:
            self.defer(
                trigger=MomentTrigger(moment=moment.timestamp()),
                method_name="ask_again",
                timeout=timedelta(seconds=seconds + _TRIGGERER_GRACE),
            )
        time.sleep(seconds)
