# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Operator for Productiv: fetch the app portfolio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_isvapp.api.productiv.settings import checked_api_version
from airflow_provider_isvapp.hooks.base import airflow_errors
from airflow_provider_isvapp.hooks.productiv import ProductivHook
from airflow_provider_isvapp.lineage.datasets import Fields, Source, app_fields
from airflow_provider_isvapp.operators.base import PathArgument, Publication, WriteOperator, resolve_destination
from airflow_provider_isvapp.transfer.options import WriteOptions
from airflow_provider_isvapp.version_compat import Context


class ProductivFetchAppsOperator(WriteOperator):
    """Write the app portfolio from Productiv as newline-delimited JSON, rows as the vendor sent them.

    XCom: a dict with ``path``, ``rows``, ``bytes`` and ``as_of_date``, the date that the rows are for.

    :param path: where to write: an ``ObjectStoragePath``, a URI such as ``s3://conn_id@bucket/key``, or an absolute
        local path (templated). An existing object is replaced when the new one is complete.
    :param include_inactive: also fetch inactive apps.
    :param verbose: fetch all attributes of each app instead of the summary.
    :param api_version: ``v1``, ``v2`` or ``v3`` instead of the connection's (templated).
    :param min_rows: publish nothing that has fewer rows; 0 accepts an empty list.
    :param productiv_conn_id: an Airflow connection of type ``productiv`` (templated).
    """

    template_fields: Sequence[str] = ("path", "api_version", "productiv_conn_id")

    def __init__(
        self,
        *,
        path: PathArgument,
        include_inactive: bool = False,
        verbose: bool = False,
        api_version: str | None = None,
        min_rows: int = 1,
        productiv_conn_id: str = ProductivHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.include_inactive = include_inactive
        self.verbose = verbose
        self.api_version = api_version
        self.min_rows = min_rows
        self.productiv_conn_id = productiv_conn_id

    @airflow_errors()
    def execute(self, context: Context) -> dict[str, Any]:
        """Fetch, publish, and return what was written."""
        from airflow_provider_isvapp.transfer.lists import check_list, write_list  # not needed to parse a DAG

        destination = resolve_destination(self.path)
        options = WriteOptions(min_rows=self.min_rows)
        check_list(destination, options)
        api_version = None if self.api_version is None else checked_api_version(self.api_version)
        with ProductivHook(productiv_conn_id=self.productiv_conn_id) as hook:
            self.log.info(
                "Fetching %s apps, %s the inactive ones",
                "all attributes of" if self.verbose else "summaries of",
                "with" if self.include_inactive else "without",
            )
            apps = hook.get_conn().list_apps(
                include_inactive=self.include_inactive, verbose=self.verbose, api_version=api_version
            )
        result = write_list(apps.lines, destination, dataset="apps", options=options, snapshot_date=apps.as_of_date)
        if result.outcome == "written":
            self.log.info(
                "Wrote %s: %s apps as of %s, %s bytes",
                result.path,
                f"{result.rows:,}",
                apps.as_of_date,
                f"{result.bytes:,}",
            )
        written = {
            "path": result.path,
            "rows": result.rows,
            "bytes": result.bytes,
            "as_of_date": apps.as_of_date,
        }
        publication = Publication.of_list(destination, result, fields=self._fields(), xcom=written)
        return self._publish_events(context, publication)

    def _source(self) -> Source:
        return Source.in_productiv(self.productiv_conn_id, "apps", self._fields())

    def _fields(self) -> Fields:
        return app_fields(verbose=self.verbose)
