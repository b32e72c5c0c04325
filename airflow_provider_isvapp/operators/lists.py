# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Writes a list of a vendor in a task, under the date that the list describes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from airflow_provider_isvapp.lineage.datasets import Fields, documented_paths
from airflow_provider_isvapp.metrics import record
from airflow_provider_isvapp.operators.base import Publication
from airflow_provider_isvapp.operators.destinations import PathArgument, resolve_destination
from airflow_provider_isvapp.transfer.options import SNAPSHOT_PLACEHOLDER, WriteOptions


class ListSnapshot:
    """Writes one list to one destination.

    Made before the list is requested: the arguments are checked here.

    :param path: where to write, as the operators take it.
    :param options: how it is written.
    :raises InvalidArgument: naming the argument that is wrong.
    """

    def __init__(self, path: PathArgument, options: WriteOptions) -> None:
        from airflow_provider_isvapp.transfer.lists import check_list  # codecs are not needed to parse a DAG

        self._destination = resolve_destination(path)
        self._options = options
        check_list(self._destination, options)
        self._started = time.monotonic()

    def write(
        self,
        rows: Sequence[bytes],
        *,
        dataset: str,
        fields: Fields,
        taken_at: datetime,
        request: Mapping[str, Any],
    ) -> Publication:
        """Verify and publish the rows.

        :param rows: each the vendor's own bytes on one line.
        :param dataset: the list's name.
        :param fields: of the rows, as far as they are documented.
        :param taken_at: the time that the list describes, timezone-aware.
        :param request: what the list was requested with, for the manifest.
        """
        from airflow_provider_isvapp.transfer.lists import write_list  # codecs are not needed to parse a DAG

        date = taken_at.date().isoformat()
        destination = self._destination.with_value(SNAPSHOT_PLACEHOLDER, date)
        result = write_list(
            rows,
            destination,
            dataset=dataset,
            options=self._options,
            documented=documented_paths(dataset),
            snapshot_date=date,
            request=request,
            fetch_seconds=time.monotonic() - self._started,
            observe=record,
        )
        kept = tuple(item for item in fields if item[0] not in self._options.exclude_fields)
        return Publication(destination=destination, result=result, fields=kept)
