# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Recognises an export that a run before has written to the same place."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TypeGuard

import msgspec

from airflow_provider_isvapp.errors import DamagedDownload
from airflow_provider_isvapp.transfer.destination import Destination
from airflow_provider_isvapp.transfer.label import Label
from airflow_provider_isvapp.transfer.months import month_problem
from airflow_provider_isvapp.transfer.read_back import footer_label, read_back
from airflow_provider_isvapp.transfer.shape import PLACEHOLDER, Shape

_LOG = logging.getLogger(__name__)


def find_export(
    destination: Destination, export_id: str, shape: Shape, *, expected_months: Collection[str] | int | None
) -> Label | None:
    """Return the label of what is there if it is this export, whole and in this shape.

    The label says so; it was made with the object and goes with it, and only verified objects are published. Where the
    figures could not be added to it (a multipart upload to S3 takes metadata with its first byte), a Parquet file has
    them in its footer, and ndjson is read back and counted, which asks nothing of the vendor.

    :param expected_months: as for the download. Tells whether a divided export is complete where no label says which
        months it has.
    """
    if shape.partition_by is None:
        label = _label(destination, export_id, shape)
        if label is None or label.is_full:
            return label
        return _counted(destination, label, shape)
    labels = {}
    for month in destination.values_of(PLACEHOLDER):
        label = _label(destination.filled(PLACEHOLDER, month), export_id, shape)
        if label is not None:
            labels[month] = label
    for label in labels.values():
        if label.is_full:
            return label if set(label.months or ()) <= set(labels) else None
    return _counted_months(destination, labels, shape, expected_months)


def _label(destination: Destination, export_id: str, shape: Shape) -> Label | None:
    place = destination.place()
    label = place.label()
    if not _is_of(label, export_id, shape):
        return None
    if not label.is_full and shape.output_format == "parquet":
        label = footer_label(place)
    return label if _is_of(label, export_id, shape) else None


def _is_of(label: Label | None, export_id: str, shape: Shape) -> TypeGuard[Label]:
    return label is not None and (label.export_id, label.shape) == (export_id, str(shape))


def _counted(destination: Destination, label: Label, shape: Shape) -> Label | None:
    if label.compressed_bytes is None:
        return None
    _LOG.info("%s says that it holds export %s: reading it to count its rows", destination.uri, label.export_id)
    try:
        return read_back(destination.place(), label, compressed=shape.compression == "gzip")
    except DamagedDownload as damage:
        _LOG.warning(
            "%s says that it holds export %s, but %s: writing it again", destination.uri, label.export_id, damage
        )
        return None


def _counted_months(
    destination: Destination, labels: dict[str, Label], shape: Shape, expected: Collection[str] | int | None
) -> Label | None:
    """Count large months one by one; which there must be only the request can tell."""
    if not labels or expected is None or month_problem(dict.fromkeys(labels, 1), expected, required=True) is not None:
        return None
    months = {}
    for month, label in labels.items():
        counted = _counted(destination.filled(PLACEHOLDER, month), label, shape)
        if counted is None:
            return None
        months[month] = counted.rows or 0
    # Size and checksum of the undivided export are not to be had from its months.
    return msgspec.structs.replace(label, rows=sum(months.values()), months=months)
