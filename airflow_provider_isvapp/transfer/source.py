# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Where the bytes come from, as this package sees it."""

from __future__ import annotations

from typing import Protocol

from airflow_provider_isvapp.api.isvapp.download import DownloadBody


class ExportSource(Protocol):
    """Opens the file of one export, each time at a fresh address.

    ``functools.partial(client.open_download, export_id)`` is one.
    """

    def __call__(self, *, offset: int = 0, validator: str | None = None) -> DownloadBody:
        """Open the whole file, or its rest from ``offset`` if it still is the one that ``validator`` names."""
        ...
