# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What the emulator remembers, shared by the endpoints, the control API and the object that tests hold."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from airflow_provider_isvapp.emulator.auth import TokenIssuer
from airflow_provider_isvapp.emulator.config import Clock, EmulatorConfig
from airflow_provider_isvapp.emulator.data import ndjson
from airflow_provider_isvapp.emulator.exports import Exports, Spool
from airflow_provider_isvapp.emulator.faults import Faults
from airflow_provider_isvapp.emulator.http import RequestLog, RequestRecord, SlidingWindow


class State:
    """One emulator's parts, wired together."""

    def __init__(
        self, config: EmulatorConfig, clock: Clock, on_request: Callable[[RequestRecord], None] | None
    ) -> None:
        self.config = config
        self.clock = clock
        self.log = RequestLog(on_request)
        self.faults = Faults()
        self.token_mark = secrets.token_hex(8)
        self.tokens = TokenIssuer(config, clock, self.token_mark)
        self.window = SlidingWindow(config.requests_per_second)
        self.spool = Spool(config)
        self.exports = Exports(config, clock, self.spool, self.token_mark)

    def export_records(self, base_url: str) -> dict[str, dict[str, Any]]:
        """Return every export's record by id, in the order of creation, with the request that led to it."""
        return {
            export.id: self.exports.record(export, base_url) | {"request": asdict(export.request)}
            for export in self.exports.all()
        }

    def export_content(self, export_id: str) -> Iterator[bytes]:
        """Return an export's plain ndjson in blocks.

        :raises KeyError: there is no such export.
        """
        return ndjson(self.config, self.exports.request(export_id))

    def reset(self) -> None:
        """Forget faults, exports, tokens and requests."""
        self.faults.clear()
        self.exports.clear()
        self.tokens.clear()
        self.window.clear()
        self.log.clear()
