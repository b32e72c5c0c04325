# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What a vendor has that a task reads, as a lineage event names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from airflow_provider_isvapp.api.isvapp.settings import DEFAULT_BASE_URL as ISVAPP
from airflow_provider_isvapp.api.isvapp.settings import IsvappSettings
from airflow_provider_isvapp.api.origin import origin
from airflow_provider_isvapp.api.productiv.settings import DEFAULT_BASE_URL as PRODUCTIV
from airflow_provider_isvapp.api.productiv.settings import ProductivSettings
from airflow_provider_isvapp.hooks.stored_connection import fields_of, look_up
from airflow_provider_isvapp.lineage.documented_fields import Fields


@dataclass(frozen=True, kw_only=True)
class Source:
    """A dataset of a vendor.

    :param namespace: the origin of the vendor's API, as the connection has it.
    :param name: of the dataset therein.
    :param fields: the documented ones.
    """

    namespace: str
    name: str
    fields: Fields

    @classmethod
    def in_isvapp(cls, conn_id: str, name: str, fields: Fields) -> Source:
        """Name a dataset of ISVapp."""
        return cls(namespace=_origin(conn_id, IsvappSettings.from_connection, ISVAPP), name=name, fields=fields)

    @classmethod
    def in_productiv(cls, conn_id: str, name: str, fields: Fields) -> Source:
        """Name a dataset of Productiv."""
        return cls(namespace=_origin(conn_id, ProductivSettings.from_connection, PRODUCTIV), name=name, fields=fields)


def _origin(conn_id: str, settings: Callable[..., Any], default: str) -> str:
    try:
        address = settings(**fields_of(look_up(conn_id))).transport.base_url
    except Exception:  # noqa: BLE001 (a failed look must not take the whole event away; the task says what is wrong)
        address = default
    return origin(address).removesuffix(":443" if address.startswith("https:") else ":80")
