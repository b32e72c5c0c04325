# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Model of every object that the documentation of ISVapp's REST API describes."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from airflow_provider_isvapp.api.schema.fields import (
    Bytes,
    CountText,
    Identifier,
    Month,
    Object,
    SalesforceId,
    Time,
    facts,
    response_object,
)


class ExportStatus(StrEnum):
    """Documented states of an export."""

    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    ERRORED = "ERRORED"


class ExportType(StrEnum):
    """The data types that can be exported."""

    TAXONOMY_ITEM = "TAXONOMY_ITEM"


class Aggregation(StrEnum):
    """Periods that a row can cover."""

    MONTHLY = "MONTHLY"


class TimeframeKeyword(StrEnum):
    """Timeframes that the vendor resolves itself."""

    LATEST_COMPLETED_MONTH = "LATEST_COMPLETED_MONTH"
    LATEST_12_COMPLETED_MONTHS = "LATEST_12_COMPLETED_MONTHS"


class TokenResponse(Object, kw_only=True):
    """The response of the token endpoint."""

    access_token: Annotated[str, facts(note="secret")]
    token_type: Literal["Bearer"]
    expires_in: Annotated[int, facts(unit="seconds")]
    scope: Annotated[str, facts(note="space-separated")]


class TokenRequest(Object, kw_only=True):
    """A request to the token endpoint."""

    scope: Annotated[Literal["identity", "exports", "salesforce_accounts"], facts(place="form")]
    grant_type: Annotated[Literal["client_credentials"], facts(place="form")]
    Authorization: Annotated[str, facts(unit="Basic", place="header", note="client id and client secret")]


class Envelope(Object, kw_only=True):
    """The envelope of every response except those of the token endpoint and of downloads."""

    data: Annotated[Any | UnsetType, facts(absent="after a failure")] = UNSET
    success: bool
    error: Annotated[str | UnsetType, facts(absent="after a success")] = UNSET


class Account(Object, kw_only=True):
    """The account behind the credentials."""

    id: Annotated[str | int, facts(key=True, note="type not stated")]
    company_name: str


_SELECTION = "unless it is the one of the three that selects the rows"


class ExportRequest(Object, kw_only=True):
    """A request that creates an export."""

    type: Annotated[ExportType, facts(note="the vendor announces more")]
    aggregation: Aggregation
    timeframe: Annotated[
        str,
        Meta(pattern=rf"\A([0-9]{{4}}-(0[1-9]|1[0-2])|{'|'.join(TimeframeKeyword)})\Z"),
        facts(unit=f"YYYY-MM, {' or '.join(TimeframeKeyword)}", note="completed months only"),
    ]
    taxonomy_ids: Annotated[list[str] | UnsetType, facts(absent=_SELECTION)] = UNSET
    taxonomy_level_ids: Annotated[list[str] | UnsetType, facts(absent=_SELECTION)] = UNSET
    taxonomy_item_ids: Annotated[list[str] | UnsetType, facts(absent=_SELECTION)] = UNSET
    salesforce_account_ids: Annotated[list[SalesforceId] | UnsetType, facts(absent="for the rows of all accounts")] = (
        UNSET
    )


_FEWER = "the examples show fewer fields than the list"
_PENDING = "until the export is completed"
_FINE = "unless the export errored"


class Export(Object, kw_only=True):
    """One export."""

    id: Annotated[str, facts(key=True)]
    type: ExportType
    status: ExportStatus
    url: Annotated[str | UnsetType, facts(unit="URL of this record", absent=_FEWER)] = UNSET
    download_url: Annotated[str | UnsetType | None, facts(unit="URL", absent=_PENDING, null=_PENDING)] = UNSET
    created_at: Annotated[Time | UnsetType, facts(absent=_FEWER)] = UNSET
    completed_at: Annotated[Time | UnsetType | None, facts(absent=_PENDING, null=_PENDING)] = UNSET
    expires_at: Annotated[Time | UnsetType | None, facts(absent=_PENDING, null=_PENDING)] = UNSET
    is_expired: Annotated[bool | UnsetType, facts(absent=_FEWER)] = UNSET
    download_size_compressed_bytes: Annotated[Bytes | UnsetType | None, facts(absent=_PENDING, null=_PENDING)] = UNSET
    download_size_uncompressed_bytes: Annotated[Bytes | UnsetType | None, facts(absent=_PENDING, null=_PENDING)] = UNSET
    error_message: Annotated[str | UnsetType | None, facts(absent=_FEWER, null=_FINE)] = UNSET
    errored_at: Annotated[Time | UnsetType | None, facts(absent=_FEWER, null=_FINE)] = UNSET


class TaxonomyItemRow(Object, kw_only=True):
    """A row of a feature usage export, for one account, taxonomy item and month."""

    type: ExportType
    aggregation: Aggregation
    reference_date: Annotated[Month, facts(key=True)]
    salesforce_account_id: Annotated[SalesforceId, facts(key=True)]
    salesforce_account_name: Annotated[str, facts(label=True, personal=True, note="name of a company or a person")]
    taxonomy_id: str
    taxonomy_item_id: Annotated[Identifier, facts(key=True)]
    taxonomy_item_label: Annotated[str, facts(label=True)]
    taxonomy_item_parent_item_id: Annotated[str | None, facts(null="at the top of the taxonomy")]
    taxonomy_label: Annotated[str, facts(label=True)]
    taxonomy_level_id: str
    taxonomy_level_label: Annotated[str, facts(label=True)]
    unique_users: CountText
    unique_users_external: CountText
    unique_users_internal: CountText
    operations: CountText
    operations_external: CountText
    operations_internal: CountText


class SalesforceAccountsRequest(Object, kw_only=True):
    """The query of the list of accounts."""

    includeHealthScores: Annotated[Literal["1"] | UnsetType, facts(place="query", absent="unless requested")] = UNSET
    includeSubscriberOrgs: Annotated[Literal["1"] | UnsetType, facts(place="query", absent="unless requested")] = UNSET


class HealthScore(Object, kw_only=True):
    """A score of an account."""

    score: Annotated[float, facts(unit="points")]
    is_primary: bool
    label: str


class SubscriberOrg(Object, kw_only=True):
    """A Salesforce organization of a subscriber."""

    name: str
    salesforce_id: Annotated[SalesforceId, facts(note="of the organization")]


class SalesforceAccount(Object, kw_only=True):
    """An active account of the partner business organization."""

    isvapp_id: Annotated[str | int, facts(note="for debugging; type not stated")]
    salesforce_id: Annotated[SalesforceId, facts(key=True)]
    name: Annotated[str, facts(personal=True, note="for debugging; name of a company or a person")]
    health_scores: Annotated[
        list[HealthScore] | UnsetType,
        facts(absent="unless includeHealthScores=1", parameter="includeHealthScores"),
    ] = UNSET
    subscriber_orgs: Annotated[
        list[SubscriberOrg] | UnsetType,
        facts(absent="unless includeSubscriberOrgs=1", parameter="includeSubscriberOrgs"),
    ] = UNSET


def salesforce_account(*, health_scores: bool, subscriber_orgs: bool) -> type[Object]:
    """Return the account object that a list with or without these parameters has."""
    parameters = {"includeHealthScores": health_scores, "includeSubscriberOrgs": subscriber_orgs}
    return response_object(SalesforceAccount, frozenset(name for name, is_sent in parameters.items() if is_sent))


OBJECTS: tuple[type[Object], ...] = (
    TokenRequest,
    TokenResponse,
    Envelope,
    Account,
    ExportRequest,
    Export,
    TaxonomyItemRow,
    SalesforceAccountsRequest,
    SalesforceAccount,
)
"""All top-level objects; nested objects are reached through them."""
