# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What the layers tell whoever wants to count it: facts without ids, addresses or secrets.

``api/``, ``ratelimit/`` and ``transfer/`` take an :data:`Observer` and know nothing of Airflow's metrics, which
:mod:`airflow_provider_isvapp.metrics` makes of these facts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, kw_only=True)
class RequestSent:
    """A request went out, and its answer's headers came, or did not.

    :param endpoint: the endpoint's name, one of about ten.
    :param status: the HTTP status; None if there was no answer.
    """

    endpoint: str
    status: int | None


@dataclass(frozen=True, kw_only=True)
class TurnAwaited:
    """A request has waited for its turn under the shared limit, be it for nothing.

    :param seconds: how long.
    """

    seconds: float


@dataclass(frozen=True)
class ExportCreated:
    """The vendor has taken a request for an export."""


@dataclass(frozen=True)
class ExportReattached:
    """A retry goes on with the export that an earlier try created."""


@dataclass(frozen=True, kw_only=True)
class ExportEnded:
    """A task has learned what became of its export.

    :param how: as it says.
    :param waited: of a completed one, the seconds from its creation until it was seen to be ready.
    """

    how: Literal["completed", "errored", "expired"]
    waited: float | None = None


@dataclass(frozen=True, kw_only=True)
class DownloadInterrupted:
    """A download goes on after a trouble.

    :param then: ``resumed`` where the connection broke; ``restarted`` from the first byte where it broke and the rest
        could not be had; ``retried`` because the file was damaged.
    """

    then: Literal["resumed", "restarted", "retried"]


@dataclass(frozen=True, kw_only=True)
class DownloadFinished:
    """An export was downloaded, verified and published.

    :param rows: rows of the export.
    :param bytes: size of its plain ndjson.
    :param compressed_bytes: size of its file.
    :param seconds: how long it took in all.
    """

    rows: int
    bytes: int
    compressed_bytes: int
    seconds: float


Fact: TypeAlias = (
    RequestSent | TurnAwaited | ExportCreated | ExportReattached | ExportEnded | DownloadInterrupted | DownloadFinished
)

Observer: TypeAlias = Callable[[Fact], None]
"""Gets each fact once, in the thread where it happened; must neither block nor raise."""


def unobserved(fact: Fact) -> None:
    """Let nobody know."""
