# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The events that the layers report, for metrics: without IDs, URLs or secrets.

``api/``, ``ratelimit/`` and ``transfer/`` take an :data:`Observer` and know nothing of Airflow's metrics, which
:mod:`airflow_provider_isvapp.metrics` makes of these events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, kw_only=True)
class RequestSent:
    """A request was sent, and the headers of its response arrived, or did not.

    :param endpoint: the endpoint's name, one of about ten.
    :param status: the HTTP status; None if there was no response.
    """

    endpoint: str
    status: int | None


@dataclass(frozen=True, kw_only=True)
class PermitAcquired:
    """A request acquired a permit of the shared limit, possibly without waiting, or gave up waiting for one.

    :param seconds: how long it waited.
    """

    seconds: float


@dataclass(frozen=True)
class ExportCreated:
    """The vendor accepted a request for an export."""


@dataclass(frozen=True)
class ExportReattached:
    """A retry continues with the export that an earlier try created."""


@dataclass(frozen=True, kw_only=True)
class ExportEnded:
    """A task learned how its export ended.

    :param outcome: the state it ended in.
    :param waited: for a completed one, the seconds from its creation until it was found ready.
    """

    outcome: Literal["completed", "errored", "expired"]
    waited: float | None = None


@dataclass(frozen=True)
class MonthLate:
    """A month has not landed by its deadline."""


@dataclass(frozen=True, kw_only=True)
class DownloadInterrupted:
    """A download continues after a failure.

    :param then: ``resumed`` after a broken connection; ``restarted`` from the first byte where the rest could not be
        fetched; ``retried`` because the file was damaged.
    """

    then: Literal["resumed", "restarted", "retried"]


@dataclass(frozen=True, kw_only=True)
class DownloadFinished:
    """An export or a list was downloaded, verified and published.

    :param rows: its rows.
    :param bytes: size of its plain ndjson.
    :param compressed_bytes: size of the export's file; None for a list, which is no file.
    :param seconds: how long it took in total.
    :param drifted_fields: how many fields differ from their documentation.
    :param restated_months: how many months of an export have other rows than those that they replace.
    """

    rows: int
    bytes: int
    compressed_bytes: int | None
    seconds: float
    drifted_fields: int = 0
    restated_months: int = 0


@dataclass(frozen=True, kw_only=True)
class ResultRefused:
    """Checks refused a result, so it was not published.

    :param checks: how many did.
    """

    checks: int


Event: TypeAlias = (
    RequestSent
    | PermitAcquired
    | ExportCreated
    | ExportReattached
    | ExportEnded
    | MonthLate
    | DownloadInterrupted
    | DownloadFinished
    | ResultRefused
)

Observer: TypeAlias = Callable[[Event], None]
"""Gets each event once, in the thread where it happens; must neither block nor raise."""


def no_op_observer(event: Event) -> None:
    """Discard the event."""
