# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""How patient a request is that somebody in front of a browser waits for, and one of the API server's threads."""

from __future__ import annotations

from dataclasses import replace

from airflow_provider_isvapp.api.transport import TransportSettings

SECONDS_IN_QUEUE = 20.0
"""For a turn under the shared limit."""

_ATTEMPTS = 2
_SECONDS_TO_CONNECT = 5.0
_SECONDS_TO_READ = 20.0


def impatient(transport: TransportSettings) -> TransportSettings:
    """Shorten a connection's patience where it is longer."""
    return replace(
        transport,
        attempts=min(transport.attempts, _ATTEMPTS),
        connect_timeout=min(transport.connect_timeout, _SECONDS_TO_CONNECT),
        read_timeout=min(transport.read_timeout, _SECONDS_TO_READ),
    )
