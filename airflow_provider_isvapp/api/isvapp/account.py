# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The ISVapp account that a connection belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from airflow_provider_isvapp.api.redaction import Redactor
from airflow_provider_isvapp.errors import API_CHANGED, ContractBroken


@dataclass(frozen=True, kw_only=True)
class Account:
    """The account behind the credentials (endpoint "account").

    :param id: the vendor's id; a string, also where the vendor sends a number.
    :param extra: fields that the documentation does not name.
    """

    id: str
    company_name: str | None
    extra: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    @classmethod
    def from_record(cls, record: object, *, redact: Redactor) -> Account:
        """Read the endpoint's answer.

        :param redact: removes secrets from the texts in it.
        """
        if not isinstance(record, Mapping) or record.get("id") is None:
            raise ContractBroken(f"ISVapp answered with an account without an id. {API_CHANGED}")
        name = record.get("company_name")
        return cls(
            id=redact(str(record["id"])),
            company_name=None if name is None else redact(str(name)),
            extra=MappingProxyType({key: value for key, value in record.items() if key not in ("id", "company_name")}),
        )
