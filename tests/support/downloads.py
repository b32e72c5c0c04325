# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A download with default options, of which a test changes a few."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from airflow_provider_isvapp.transfer.destination import Destination
from airflow_provider_isvapp.transfer.download import download_export
from airflow_provider_isvapp.transfer.options import WriteOptions
from airflow_provider_isvapp.transfer.results import WriteResult
from airflow_provider_isvapp.transfer.resume import ExportSource

_OPTIONS = {field.name for field in fields(WriteOptions)}


def download_with(source: ExportSource, destination: Destination, **arguments: Any) -> WriteResult:
    """Download with arguments of :func:`download_export` or fields of its options."""
    options = WriteOptions(**{name: value for name, value in arguments.items() if name in _OPTIONS})
    others = {name: value for name, value in arguments.items() if name not in _OPTIONS}
    return download_export(source, destination, options=options, **others)
