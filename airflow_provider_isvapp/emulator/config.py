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
    """What the emulator asks about time."""

    def now(self) -> datetime:
        """Wall-clock time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...


class SystemClock:
    """The machine's own time."""

    def now(self) -> datetime:
        """Wall-clock time, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never go back; the same for all processes of one Linux machine."""
        return time.monotonic()


class ManualClock:
    """Time that stands still until :meth:`advance` moves it.

    :param start: the wall-clock time to begin with; must be aware.
    """

    def __init__(self, start: datetime) -> None:
        if start.tzinfo is None:
            raise ValueError("start must be an aware datetime")
        self._start = start
        self._elapsed = 0.0

    def now(self) -> datetime:
        """Wall-clock time, aware, in UTC."""
        return (self._start + timedelta(seconds=self._elapsed)).astimezone(UTC)

    def monotonic(self) -> float:
        """Seconds advanced so far."""
        return self._elapsed

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        if seconds < 0:
            raise ValueError("time does not go back")
        self._elapsed += seconds


MONTH = re.compile(r"[1-9]\d{3}-(0[1-9]|1[0-2])")
MAX_ROWS_PER_ACCOUNT = 1000
"""Keeps the taxonomy, which is held in memory, small whatever the size of an export."""


def _option(default: Any, help_text: str) -> Any:
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True, kw_only=True)
class EmulatorConfig:
    """Everything that can be chosen before the emulator starts; faults come on top while it runs."""

    host: str = _option("127.0.0.1", "IP address to listen on; 0.0.0.0 for containers")
    port: int = _option(0, "port to listen on; 0 takes a free one")

    client_id: str = _option("demo-client", "ISVapp OAuth2 client id")
    client_secret: str = _option("demo-client-secret", "ISVapp OAuth2 client secret")
    client_scopes: str = _option(
        "identity exports salesforce_accounts", "ISVapp scopes that the client may have, separated by blanks"
    )
    api_key: str = _option("demo-api-key", "ISVapp API key with the permission to retrieve metrics")
    api_key_without_scope: str = _option("demo-api-key-without-scope", "ISVapp API key that may do nothing")
    productiv_client_id: str = _option("demo-productiv-client", "Productiv client id")
    productiv_client_secret: str = _option("demo-productiv-secret", "Productiv client secret")
    token_seconds: float = _option(3600.0, "how long an access token of either vendor is good for")

    requests_per_second: int | None = _option(
        2, "ISVapp requests accepted in any second and credential; none: no limit"
    )
    retry_after: Literal["none", "seconds", "date"] = _option("none", "form of Retry-After when that is exceeded")

    export_seconds: float = _option(5.0, "how long an export is PENDING")
    expires_seconds: float = _option(3600.0, "how long a completed export can be downloaded")
    download_url_seconds: float | None = _option(None, "how long a download_url is good for; none: as the export")
    month_complete_day: int = _option(5, "day of the following month on which a month is complete")
    taxonomy_ids: str | None = _option(None, "taxonomy ids that exist, separated by blanks; none: any")
    first_month: str = _option("2015-01", "oldest month that has data, YYYY-MM")

    seed: int = _option(1, "other seed, other data")
    rows: int = _option(1000, "rows of each month in an export that no account filter narrows")
    salesforce_accounts: int | None = _option(None, "Salesforce accounts; none: one for 40 rows, at least 50")
    apps: int = _option(60, "Productiv apps, every fifth of them inactive")
    pretty: bool = _option(False, "write JSON responses over several lines")

    row_keys: Literal["documented", "sorted"] = _option("documented", "order of the keys in a row of an export")
    row_blanks: bool = _option(False, "blanks after the colons and commas of a row, as on the vendor's page")
    row_order: Literal["month", "account"] = _option("month", "what the rows of an export are in order of")
    line_end: Literal["lf", "crlf"] = _option("lf", "what ends a row")
    final_newline: bool = _option(True, "the last row has an end, too")

    content_encoding: bool = _option(True, "download with Content-Encoding: gzip")
    framing: Literal["length", "chunked", "close"] = _option(
        "length", "what ends a download: Content-Length, chunks, or the end of the connection"
    )
    ranges: bool = _option(False, "download honours Range and If-Range")
    etag: Literal["strong", "weak", "none"] = _option("strong", "kind of ETag on a download")
    gzip_members: int = _option(1, "gzip members in an export's file")
    empty_file: Literal["gzip", "nothing"] = _option("gzip", "an export without rows: a gzip of nothing, or no byte")
    spool_dir: str | None = _option(None, "where export files are kept while the emulator runs; none: temporary")

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        :raises ValueError: names the option.
        """
        if not MONTH.fullmatch(self.first_month):
            raise ValueError(f"first_month must be YYYY-MM, not {self.first_month!r}")
        if not 1 <= self.month_complete_day <= 28:
            raise ValueError("month_complete_day must be 1 to 28")
        if self.requests_per_second is not None and self.requests_per_second < 1:
            raise ValueError("requests_per_second must be at least 1, or none")
        if self.rows < 0 or self.apps < 0 or self.gzip_members < 1:
            raise ValueError("rows and apps cannot be negative, and gzip_members is at least 1")
        if self.account_count < 1 or self.rows > self.account_count * MAX_ROWS_PER_ACCOUNT:
            raise ValueError(f"salesforce_accounts must be at least 1, and one for {MAX_ROWS_PER_ACCOUNT} rows")

    @property
    def account_count(self) -> int:
        """How many Salesforce accounts there are."""
        if self.salesforce_accounts is not None:
            return self.salesforce_accounts
        return max(50, -(-self.rows // 40))
