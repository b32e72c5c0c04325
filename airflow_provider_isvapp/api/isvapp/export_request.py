# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A request for an export, checked before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from airflow_provider_isvapp.errors import InvalidArgument


class ExportType(StrEnum):
    """The data types that can be exported."""

    TAXONOMY_ITEM = "TAXONOMY_ITEM"


class Aggregation(StrEnum):
    """The periods that rows stand for."""

    MONTHLY = "MONTHLY"


class TimeframeKeyword(StrEnum):
    """Timeframes that the vendor resolves itself."""

    LATEST_COMPLETED_MONTH = "LATEST_COMPLETED_MONTH"
    LATEST_12_COMPLETED_MONTHS = "LATEST_12_COMPLETED_MONTHS"


_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
_SALESFORCE_ID = re.compile(r"[A-Za-z0-9]{15}(?:[A-Za-z0-9]{3})?")
_Choice = TypeVar("_Choice", bound=StrEnum)
_SELECTIONS = ("taxonomy_ids", "taxonomy_level_ids", "taxonomy_item_ids")


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """What to export. Made by :meth:`checked` only, so that an instance is always a valid request."""

    timeframe: str
    selection: str
    selected_ids: tuple[str, ...]
    salesforce_account_ids: tuple[str, ...] | None
    export_type: ExportType
    aggregation: Aggregation

    @classmethod
    def checked(
        cls,
        *,
        timeframe: str,
        taxonomy_ids: Sequence[str] | None = None,
        taxonomy_level_ids: Sequence[str] | None = None,
        taxonomy_item_ids: Sequence[str] | None = None,
        salesforce_account_ids: Sequence[str] | None = None,
        export_type: str = ExportType.TAXONOMY_ITEM,
        aggregation: str = Aggregation.MONTHLY,
    ) -> ExportRequest:
        """Check the arguments.

        :param timeframe: a month as ``YYYY-MM``, ``LATEST_COMPLETED_MONTH`` or ``LATEST_12_COMPLETED_MONTHS``.
        :param taxonomy_ids: export all items of these taxonomies. Exactly one of the three id lists is needed.
        :param taxonomy_level_ids: export all items of these taxonomy levels.
        :param taxonomy_item_ids: export these items.
        :param salesforce_account_ids: limit the rows to these accounts (ids of 15 or 18 characters).
        :raises InvalidArgument: naming the argument that is wrong.
        """
        lists = dict(zip(_SELECTIONS, (taxonomy_ids, taxonomy_level_ids, taxonomy_item_ids), strict=True))
        given = [name for name, value in lists.items() if value is not None]
        if len(given) != 1:
            what = "none was" if not given else f"{' and '.join(given)} were"
            raise InvalidArgument(f"Exactly one of {', '.join(_SELECTIONS)} is needed; {what} given.")
        accounts = None
        if salesforce_account_ids is not None:
            accounts = _ids("salesforce_account_ids", salesforce_account_ids)
            for account in accounts:
                if not _SALESFORCE_ID.fullmatch(account):
                    raise InvalidArgument(
                        f"salesforce_account_ids: {account!r} is no Salesforce id; it needs 15 or 18 letters "
                        "and digits."
                    )
        return cls(
            timeframe=_timeframe(timeframe),
            selection=given[0],
            selected_ids=_ids(given[0], lists[given[0]]),
            salesforce_account_ids=accounts,
            export_type=_choice("export_type", ExportType, export_type),
            aggregation=_choice("aggregation", Aggregation, aggregation),
        )

    def payload(self) -> dict[str, object]:
        """Return the JSON body that the vendor documents."""
        body: dict[str, object] = {
            "type": str(self.export_type),
            "aggregation": str(self.aggregation),
            "timeframe": self.timeframe,
            self.selection: list(self.selected_ids),
        }
        if self.salesforce_account_ids is not None:
            body["salesforce_account_ids"] = list(self.salesforce_account_ids)
        return body


def _timeframe(value: Any) -> str:
    if isinstance(value, str) and (value in set(TimeframeKeyword) or _MONTH.fullmatch(value)):
        return str(value)
    raise InvalidArgument(
        f"timeframe: {value!r} is neither a month (YYYY-MM, as in 2024-02) nor one of {', '.join(TimeframeKeyword)}."
    )


def _choice(name: str, choices: type[_Choice], value: Any) -> _Choice:
    if isinstance(value, str) and value in set(choices):
        return choices(value)
    raise InvalidArgument(f"{name}: {value!r} is not one of {', '.join(choices)}.")


def _ids(name: str, value: Any) -> tuple[str, ...]:
    # A string is a sequence of strings, too, and would be sent as a list of letters.
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise InvalidArgument(f"{name}: must be a list of ids, not {type(value).__name__} {value!r}.")
    if not value:
        raise InvalidArgument(f"{name}: the list is empty.")
    for number, item in enumerate(value):
        if not isinstance(item, str) or not item.strip():
            raise InvalidArgument(f"{name}: element {number} must be a non-empty string, not {item!r}.")
        if item != item.strip():
            raise InvalidArgument(f"{name}: element {number} has white space around it: {item!r}.")
    if len(set(value)) != len(value):
        doubled = next(item for item in value if value.count(item) > 1)
        raise InvalidArgument(f"{name}: {doubled!r} is listed twice.")
    return tuple(value)
