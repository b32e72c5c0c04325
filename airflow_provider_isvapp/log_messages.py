# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Log messages that several tasks share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from airflow_provider_isvapp.api.isvapp.models import ExportRequest

# Messages name up to this many ids; more are counted, and listed separately.
_MOST_NAMED_IDS = 3
# How often a wait without a change is logged.
_SECONDS_BETWEEN_REPEATS = 60.0

_SELECTED = {
    "taxonomy_ids": ("all items of taxonomy", "all items of {} taxonomies"),
    "taxonomy_level_ids": ("all items of taxonomy level", "all items of {} taxonomy levels"),
    "taxonomy_item_ids": ("taxonomy item", "{} taxonomy items"),
}
_TIMEFRAMES = {
    "LATEST_COMPLETED_MONTH": "the latest completed month",
    "LATEST_12_COMPLETED_MONTHS": "the latest 12 completed months",
}


class Log(Protocol):
    """A logger; those of Airflow 3 are not of the standard library's type."""

    def info(self, message: str, /, *args: object) -> object:
        """Log a message at level INFO."""

    def warning(self, message: str, /, *args: object) -> object:
        """Log a message at level WARNING."""


def log_folded(log: Log, title: str, lines: Sequence[str]) -> None:
    """Log lines as a group, which the UI shows collapsed under this title."""
    log.info("::group::%s", title)
    for line in lines:
        log.info("%s", line)
    log.info("::endgroup::")


def log_request(log: Log, request: ExportRequest) -> None:
    """Log a summary of a request for an export."""
    one, several = _SELECTED.get(request.selection or "", ("item", "all items"))
    accounts = request.salesforce_account_ids
    log.info(
        "Requesting an export (%s, %s) of %s: %s; %s",
        request.export_type,
        request.aggregation,
        _TIMEFRAMES.get(request.timeframe, request.timeframe),
        _counted(request.selected_ids, one, several),
        "all accounts" if accounts is None else _counted(accounts, "only account", "only {} accounts"),
    )
    for ids, several_of in ((request.selected_ids, several), (accounts or (), "only {} accounts")):
        if len(ids) > _MOST_NAMED_IDS:
            log_folded(log, several_of.format(len(ids)), ids)


def _counted(ids: Sequence[str], one: str, several: str) -> str:
    if len(ids) == 1:
        return f"{one} {ids[0]}"
    listed = f" ({', '.join(ids)})" if len(ids) <= _MOST_NAMED_IDS else ""
    return several.format(len(ids)) + listed


def log_ready(log: Log, details: Mapping[str, Any]) -> None:
    """Log that an export is ready, with its duration, sizes and expiry.

    :param details: the record, as :meth:`~airflow_provider_isvapp.api.isvapp.models.Export.details` returns it.
    """
    facts = []
    created, completed, expires = (
        _parse_time(details.get(f"{what}_at")) for what in ("created", "completed", "expires")
    )
    if created is not None and completed is not None:
        facts.append(f"generated in {(completed - created).total_seconds():.0f} s")
    for kind, words in (("compressed", "compressed"), ("uncompressed", "as ndjson")):
        size = details.get(f"download_size_{kind}_bytes")
        if isinstance(size, int):
            facts.append(f"{size:,} bytes {words}")
    if expires is not None:
        facts.append(f"available until {expires:%Y-%m-%d %H:%M:%S} UTC")
    log.info("Export %s is ready%s", details.get("id"), f": {', '.join(facts)}" if facts else "")


def log_deferral(log: Log, *, deadline: float, poll_interval: float) -> None:
    """Log that the wait continues in the triggerer.

    :param deadline: seconds since the epoch.
    """
    log.info(
        "Waiting in the triggerer for at most %.0f s, until %s UTC, polling at least every %.0f s",
        deadline - time.time(),
        f"{datetime.fromtimestamp(deadline, UTC):%Y-%m-%d %H:%M:%S}",
        poll_interval,
    )


class StatusLogger:
    """Logs the state of a polled export when it changes, and once per minute.

    :param clock: monotonic seconds.
    """

    def __init__(self, export_id: str, log: Log, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._export_id = export_id
        self._log = log
        self._clock = clock
        self._state = ""
        self._since = self._logged = 0.0

    def update(self, state: str) -> None:
        """Process the state of the latest poll."""
        now = self._clock()
        if state != self._state:
            self._log.info("Export %s is %s", self._export_id, state)
            self._state, self._since, self._logged = state, now, now
        elif now - self._logged >= _SECONDS_BETWEEN_REPEATS:
            self._log.info("Export %s is still %s after %.0f s", self._export_id, state, now - self._since)
            self._logged = now


def _parse_time(text: object) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if isinstance(text, str) else None
