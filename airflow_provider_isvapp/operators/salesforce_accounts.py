# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Operator for ISVapp's list of Salesforce accounts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_isvapp.api.schema.fields import Object, lineage_fields
from airflow_provider_isvapp.api.schema.isvapp import SalesforceAccount, salesforce_account
from airflow_provider_isvapp.hooks.base import raise_airflow_errors
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.lineage import Source
from airflow_provider_isvapp.operators.base import WriteOperator
from airflow_provider_isvapp.operators.download import ListSnapshot
from airflow_provider_isvapp.operators.storage_clients import PathArgument
from airflow_provider_isvapp.version_compat import Context

if TYPE_CHECKING:
    from airflow_provider_isvapp.transfer.options import Check, IfExists, OnDrift, OutputFormat


class IsvappFetchSalesforceAccountsOperator(WriteOperator):
    """Write ISVapp's active Salesforce accounts as newline-delimited JSON, with each row as the vendor sent it.

    The list describes the time of the response, regardless of the run's date. The XCom is that of
    ``IsvappDownloadExportOperator``, with ``snapshot_date``.

    :param path: where to write, as in ``IsvappDownloadExportOperator`` (templated); the literal ``{snapshot_date}`` in
        it becomes the date of the response in UTC.
    :param allow_late_snapshot: let a backfill or a late run write today's data to a path without
        ``{snapshot_date}``.
    :param include_health_scores: add ``health_scores`` to each account.
    :param include_subscriber_orgs: add ``subscriber_orgs`` to each account.
    :param if_exists: what to do about an existing object: ``overwrite`` it, ``skip`` the write, or ``fail``. An object
        that already holds the same rows in this format is ``unchanged`` in any case, even with ``fail``.
    :param output_format: ``ndjson``, the vendor's own bytes, or ``parquet`` (needs the extra ``parquet``).
    :param compression: ``gzip`` to store ndjson compressed.
    :param exclude_fields: fields to leave out: a name at every depth, or a path such as ``Instances[].AppContacts``.
    :param on_drift: what to do about accounts that differ from their documentation: ``report`` them, or ``fail``.
    :param manifest: after publishing, write ``_<name>.manifest.json`` beside each object, which describes it.
    :param min_rows: refuse a result with fewer rows; 0 accepts an empty list.
    :param checks: checks that a result must pass before it is published: some of :mod:`airflow_provider_isvapp.checks`,
        or your own functions. They parse each row, and a manifest is written.
    :param baseline: the path of the object that the checks compare with, instead of the one at ``path`` (templated).
    :param skip_checks: names of checks to skip in this run, or True for all (templated).
    :param rejected_path: where a refused result is kept for inspection (templated).
    :param storage_options: further arguments for the storage's client when it creates an object (templated), such as
        ``{"ServerSideEncryption": "aws:kms"}``.
    :param isvapp_conn_id: an Airflow connection of type ``isvapp`` (templated).
    """

    template_fields: Sequence[str] = (
        "path",
        "baseline",
        "skip_checks",
        "rejected_path",
        "storage_options",
        "isvapp_conn_id",
    )

    def __init__(
        self,
        *,
        path: PathArgument,
        allow_late_snapshot: bool = False,
        include_health_scores: bool = False,
        include_subscriber_orgs: bool = False,
        if_exists: IfExists = "overwrite",
        output_format: OutputFormat = "ndjson",
        compression: Literal["gzip"] | None = None,
        exclude_fields: Sequence[str] = (),
        on_drift: OnDrift = "report",
        manifest: bool = False,
        min_rows: int = 1,
        checks: Sequence[Check] = (),
        baseline: PathArgument | None = None,
        skip_checks: bool | str | Sequence[str] | None = False,
        rejected_path: PathArgument | None = None,
        storage_options: Mapping[str, Any] | None = None,
        isvapp_conn_id: str = IsvappHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            path=path,
            storage_options=storage_options,
            checks=checks,
            baseline=baseline,
            skip_checks=skip_checks,
            rejected_path=rejected_path,
            **kwargs,
        )
        self.allow_late_snapshot = allow_late_snapshot
        self.include_health_scores = include_health_scores
        self.include_subscriber_orgs = include_subscriber_orgs
        self.if_exists = if_exists
        self.output_format = output_format
        self.compression = compression
        self.exclude_fields = exclude_fields
        self.on_drift = on_drift
        self.manifest = manifest
        self.min_rows = min_rows
        self.isvapp_conn_id = isvapp_conn_id

    @raise_airflow_errors()
    def execute(self, context: Context) -> dict[str, Any]:
        """Fetch, publish, and return what was written."""
        snapshot = ListSnapshot(self, allow_late=self.allow_late_snapshot)
        with IsvappHook(isvapp_conn_id=self.isvapp_conn_id) as hook:
            self.log.info(
                "Fetching Salesforce accounts %s health scores and %s subscriber organizations",
                "with" if self.include_health_scores else "without",
                "with" if self.include_subscriber_orgs else "without",
            )
            accounts = hook.get_conn().salesforce_account_lines(
                include_health_scores=self.include_health_scores,
                include_subscriber_orgs=self.include_subscriber_orgs,
            )
        publication = snapshot.write(
            context,
            accounts.lines,
            dataset="salesforce_accounts",
            row_type=self._row_type(),
            whole_type=SalesforceAccount,
            taken_at=accounts.responded_at,
            request=accounts.request,
        )
        return self._publish_events(context, publication)

    def _source(self) -> Source:
        return Source.in_isvapp(self.isvapp_conn_id, "salesforce_accounts", lineage_fields(self._row_type()))

    def _row_type(self) -> type[Object]:
        return salesforce_account(
            health_scores=self.include_health_scores, subscriber_orgs=self.include_subscriber_orgs
        )
