# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""How the emulator behaves, as one frozen value that the command line mirrors, and its clock."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol


class Clock(Protocol):
    """The time of the emulator."""

    def now(self) -> datetime:
        """The current time in UTC, timezone-aware."""
        ...

    def monotonic(self) -> float:
        """Monotonic seconds."""
        ...


class SystemClock:
    """The system's time."""

    def now(self) -> datetime:
        """The current time in UTC, timezone-aware."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Monotonic seconds, the same for all processes of a Linux machine."""
        return time.monotonic()


class ManualClock:
    """A clock that only :meth:`advance` moves.

    :param start: the initial time; must be timezone-aware.
    """

    def __init__(self, start: datetime) -> None:
        if start.tzinfo is None:
            raise ValueError("start must be a timezone-aware datetime")
        self._start = start
        self._elapsed = 0.0

    def now(self) -> datetime:
        """The current time in UTC, timezone-aware."""
        return (self._start + timedelta(seconds=self._elapsed)).astimezone(UTC)

    def monotonic(self) -> float:
        """Seconds advanced so far."""
        return self._elapsed

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        if seconds < 0:
            raise ValueError("seconds must not be negative")
        self._elapsed += seconds


MONTH = re.compile(r"[1-9]\d{3}-(0[1-9]|1[0-2])")
MAX_ROWS_PER_ACCOUNT = 1000
"""Keeps the taxonomy, which is held in memory, small in exports of any size."""


def _option(default: Any, help_text: str) -> Any:
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True, kw_only=True)
class EmulatorConfig:
    """The emulator's options. Faults are injected while it runs."""

    host: str = _option("127.0.0.1", "host to listen on; 0.0.0.0 for containers")
    port: int = _option(0, "port to listen on; 0 picks a free one")

    client_id: str = _option("demo-client", "ISVapp OAuth2 client id")
    client_secret: str = _option("demo-client-secret", "ISVapp OAuth2 client secret")
    client_scopes: str = _option(
        "identity exports salesforce_accounts", "ISVapp scopes that the client may request, separated by spaces"
    )
    api_key: str = _option("demo-api-key", "ISVapp API key with permission to retrieve metrics")
    api_key_without_scope: str = _option("demo-api-key-without-scope", "ISVapp API key without any permission")
    productiv_client_id: str = _option("demo-productiv-client", "Productiv client id")
    productiv_client_secret: str = _option("demo-productiv-secret", "Productiv client secret")
    token_seconds: float = _option(3600.0, "lifetime of an access token of either vendor")

    requests_per_second: int | None = _option(2, "ISVapp requests accepted per second and credential; none: no limit")
    retry_after: Literal["none", "seconds", "date"] = _option("none", "format of Retry-After on a 429")

    export_seconds: float = _option(5.0, "seconds for which an export is PENDING")
    expires_seconds: float = _option(3600.0, "seconds for which a completed export can be downloaded")
    download_url_seconds: float | None = _option(None, "lifetime of a download_url; none: as the export")
    month_complete_day: int = _option(5, "day of the next month on which a month is complete")
    taxonomy_ids: str | None = _option(None, "taxonomy ids that exist, separated by spaces; none: any")
    first_month: str = _option("2015-01", "first month with data, YYYY-MM")

    seed: int = _option(1, "seed of the generated data")
    rows: int = _option(1000, "rows per month in an export without an account filter")
    salesforce_accounts: int | None = _option(None, "number of Salesforce accounts; none: one per 40 rows, at least 50")
    apps: int = _option(60, "number of Productiv apps; every fifth is inactive")
    pretty: bool = _option(False, "indent JSON responses")

    row_keys: Literal["documented", "sorted"] = _option("documented", "order of the keys in the rows of an export")
    row_blanks: bool = _option(False, "spaces after the colons and commas of a row, as on the vendor's page")
    row_order: Literal["month", "account"] = _option("month", "sort order of the rows of an export")
    line_end: Literal["lf", "crlf"] = _option("lf", "line ending of a row")
    final_newline: bool = _option(True, "end the last row with a line ending, too")

    content_encoding: bool = _option(True, "download with Content-Encoding: gzip")
    framing: Literal["length", "chunked", "close"] = _option(
        "length", "how a download is delimited: by Content-Length, by chunks, or by closing the connection"
    )
    ranges: bool = _option(False, "support Range and If-Range in downloads")
    etag: Literal["strong", "weak", "none"] = _option("strong", "kind of ETag of a download")
    gzip_members: int = _option(1, "number of gzip members in the file of an export")
    empty_file: Literal["gzip", "nothing"] = _option(
        "gzip", "file of an export without rows: an empty gzip member, or no bytes"
    )
    spool_dir: str | None = _option(
        None, "folder for the files of exports while the emulator runs; none: a temporary one"
    )

    def __post_init__(self) -> None:
        """Validate the options.

        :raises ValueError: naming the option.
        """
        if not MONTH.fullmatch(self.first_month):
            raise ValueError(f"first_month must be YYYY-MM, not {self.first_month!r}")
        if not 1 <= self.month_complete_day <= 28:
            raise ValueError("month_complete_day must be 1 to 28")
        if self.requests_per_second is not None and self.requests_per_second < 1:
            raise ValueError("requests_per_second must be at least 1, or none")
        if self.rows < 0 or self.apps < 0 or self.gzip_members < 1:
            raise ValueError("rows and apps must not be negative, and gzip_members must be at least 1")
        if self.account_count < 1 or self.rows > self.account_count * MAX_ROWS_PER_ACCOUNT:
            raise ValueError(
                f"salesforce_accounts must be at least 1, and at least one per {MAX_ROWS_PER_ACCOUNT} rows"
            )

    @property
    def account_count(self) -> int:
        """The number of Salesforce accounts."""
        if self.salesforce_accounts is not None:
            return self.salesforce_accounts
        return max(50, -(-self.rows // 40))
