# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The events that metrics count, without IDs, URLs or secrets.

``api/``, ``ratelimit/`` and ``transfer/`` pass them to an :data:`Observer`;
:mod:`airflow_provider_isvapp.metrics` converts them into Airflow's metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec


class RequestSent(msgspec.Struct, frozen=True, kw_only=True):
    """A request was sent, with or without a response.

    :param endpoint: the endpoint's name, one of about ten.
    :param status: the HTTP status; None if there was no response.
    """

    endpoint: str
    status: int | None


class PermitAcquired(msgspec.Struct, frozen=True, kw_only=True):
    """A request acquired a permit of the shared limit, possibly without waiting, or timed out.

    :param seconds: how long it waited.
    """

    seconds: float


class ExportCreated(msgspec.Struct, frozen=True):
    """The vendor accepted a request for an export."""


class ExportReattached(msgspec.Struct, frozen=True):
    """A retry continues with the export of an earlier attempt."""


class ExportEnded(msgspec.Struct, frozen=True, kw_only=True):
    """A task learned the outcome of its export.

    :param waited: for a completed export, the seconds from its creation until it was found ready.
    """

    outcome: Literal["completed", "errored", "expired"]
    waited: float | None = None


class MonthLate(msgspec.Struct, frozen=True):
    """A month has not landed by its deadline."""


class DownloadInterrupted(msgspec.Struct, frozen=True, kw_only=True):
    """A download continues after a failure.

    :param then: ``resumed`` after a broken connection; ``restarted`` from the first byte if the server could not send
        the rest; ``retried`` because the file was damaged.
    """

    then: Literal["resumed", "restarted", "retried"]


class DownloadFinished(msgspec.Struct, frozen=True, kw_only=True):
    """An export or a list was downloaded, verified and published.

    :param bytes: the size of its uncompressed ndjson.
    :param compressed_bytes: the size of the export's file; None for a list.
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


class ChecksFailed(msgspec.Struct, frozen=True, kw_only=True):
    """A result failed its checks, so it was not published.

    :param checks: the number of failed checks.
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
    | ChecksFailed
)

Observer: TypeAlias = Callable[[Event], None]
"""Called once per event, in the thread where it happens; must neither block nor raise."""


def no_op_observer(event: Event) -> None:
    """Discard the event."""
