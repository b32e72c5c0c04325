# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What a create request asks for, after it has been checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from airflow_provider_isvapp.emulator.config import EmulatorConfig
from airflow_provider_isvapp.emulator.responses import ErrorResponse

SELECTIONS = ("taxonomy_ids", "taxonomy_level_ids", "taxonomy_item_ids")
MONTH = re.compile(r"[1-9]\d{3}-(0[1-9]|1[0-2])")
SALESFORCE_ID = re.compile(r"[0-9A-Za-z]{15}([0-9A-Za-z]{3})?")


class Restatement(StrEnum):
    """How the rows of a month differ from those that earlier exports had."""

    COUNTERS = "counters"  # every tenth account has other counters
    ROWS_LOST = "rows_lost"  # every second row is gone
    ROWS_DOUBLED = "rows_doubled"  # every tenth account has each row twice
    ACCOUNTS_RENAMED = "accounts_renamed"  # every tenth account has another name
    ORDER = "order"  # the same rows, the last one first
    SERIALIZER = "serializer"  # the same rows with sorted keys and with blanks


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """Everything that the rows of an export depend on, besides the emulator's configuration.

    ``accounts`` holds the 15-character form of the account filter. ``version`` is 0 until a fault changes the file, and
    ``restated`` has the changes that faults make to single months, each as a month and a :class:`Restatement`.
    """

    type: str
    aggregation: str
    months: tuple[str, ...]
    selection: str
    ids: tuple[str, ...]
    accounts: tuple[str, ...] | None = None
    version: int = 0
    restated: tuple[tuple[str, Restatement], ...] = ()

    def restatements(self, month: str) -> frozenset[Restatement]:
        """Return how the rows of a month differ from those of an export without this fault."""
        return frozenset(change for name, change in self.restated if name == month)


def parse_export_request(body: Any, *, config: EmulatorConfig, now: datetime) -> ExportRequest:
    """Check the JSON body of a create request.

    :raises ErrorResponse: 422 with a message that names the field.
    """
    if not isinstance(body, dict):
        raise ErrorResponse(422, "The request body must be a JSON object.")
    for name, allowed in (("type", "TAXONOMY_ITEM"), ("aggregation", "MONTHLY")):
        if name not in body:
            raise ErrorResponse(422, f"{name} is required.")
        if body[name] != allowed:
            raise ErrorResponse(422, f"{name} must be {allowed}.")
    months = _months(body.get("timeframe"), config, now)
    given = [name for name in SELECTIONS if body.get(name) is not None]
    if len(given) != 1:
        raise ErrorResponse(422, f"Exactly one of {', '.join(SELECTIONS)} is required.")
    ids = _strings(given[0], body[given[0]])
    if given[0] == "taxonomy_ids" and config.taxonomy_ids is not None:
        unknown = [name for name in ids if name not in config.taxonomy_ids.split()]
        if unknown:
            raise ErrorResponse(422, f"taxonomy_ids: there is no taxonomy {unknown[0]!r}.")
    accounts = None
    if body.get("salesforce_account_ids") is not None:
        wanted = _strings("salesforce_account_ids", body["salesforce_account_ids"])
        for account in wanted:
            if not SALESFORCE_ID.fullmatch(account):
                raise ErrorResponse(422, f"salesforce_account_ids: {account!r} is not an id of 15 or 18 characters.")
        accounts = tuple(sorted({account[:15] for account in wanted}))
    return ExportRequest(
        type=body["type"],
        aggregation=body["aggregation"],
        months=months,
        selection=given[0],
        ids=ids,
        accounts=accounts,
    )


def _months(timeframe: Any, config: EmulatorConfig, now: datetime) -> tuple[str, ...]:
    latest = latest_complete(config, now)
    if timeframe is None:
        raise ErrorResponse(422, "timeframe is required.")
    if timeframe == "LATEST_COMPLETED_MONTH":
        return (latest,)
    if timeframe == "LATEST_12_COMPLETED_MONTHS":
        return tuple(earlier(latest, count) for count in range(11, -1, -1))
    if not isinstance(timeframe, str) or not MONTH.fullmatch(timeframe):
        raise ErrorResponse(422, "timeframe must be YYYY-MM, LATEST_COMPLETED_MONTH or LATEST_12_COMPLETED_MONTHS.")
    if timeframe > latest:
        raise month_incomplete(timeframe, latest=latest)
    if timeframe < config.first_month:
        raise ErrorResponse(422, f"timeframe: no data for {timeframe}; the first month is {config.first_month}.")
    return (timeframe,)


def month_incomplete(month: str, *, latest: str) -> ErrorResponse:
    """Refuse a month whose data retrieval is not finished."""
    return ErrorResponse(422, f"timeframe: {month} is not complete yet. The latest completed month is {latest}.")


def _strings(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
        raise ErrorResponse(422, f"{name} must be a non-empty array of strings.")
    return tuple(value)


def earlier(month: str, count: int) -> str:
    """Return the month ``count`` months before ``YYYY-MM``."""
    year, number = map(int, month.split("-"))
    index = year * 12 + number - 1 - count
    return f"{index // 12:04d}-{index % 12 + 1:02d}"


def latest_complete(config: EmulatorConfig, now: datetime) -> str:
    """Return the latest month whose data is complete: last month, from a certain day of this one on."""
    return earlier(f"{now.year:04d}-{now.month:02d}", 1 if now.day >= config.month_complete_day else 2)
