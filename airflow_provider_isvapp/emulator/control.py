# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The emulator's own API under ``/_emulator/``: look inside, let things go wrong, start afresh."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import asdict
from typing import Any

from aiohttp import web

from airflow_provider_isvapp.emulator.faults import Fault
from airflow_provider_isvapp.emulator.state import State


class ControlEndpoints:
    """One method per path. Nothing here is rate-limited, logged or authenticated."""

    def __init__(self, state: State) -> None:
        self._state = state

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Publish the endpoints."""
        router.add_get("/_emulator/health", self.health)
        router.add_get("/_emulator/state", self.state)
        router.add_get("/_emulator/requests", self.requests)
        router.add_get("/_emulator/exports", self.exports)
        router.add_get("/_emulator/exports/{export_id}/content", self.export_content)
        router.add_post("/_emulator/faults", self.inject)
        router.add_delete("/_emulator/faults", self.clear_faults)
        router.add_post("/_emulator/reset", self.reset)

    async def health(self, request: web.Request) -> web.Response:
        """Say that the server is up."""
        return web.json_response({"status": "ok"})

    async def state(self, request: web.Request) -> web.Response:
        """Sum up: the configuration, counts, and the faults still to happen."""
        state = self._state
        config = {name: value for name, value in asdict(state.config).items() if name not in _SECRETS}
        statuses = Counter(record["status"] for record in state.export_records("").values())
        return web.json_response(
            {
                "config": config,
                "requests": state.log.counts(),
                "in_flight": sum(record.seconds is None for record in state.log.records()),
                "exports_created": state.exports.created,
                "exports": dict(statuses),
                "faults": [asdict(fault) | {"left": left} for fault, left in state.faults.pending()],
            }
        )

    async def requests(self, request: web.Request) -> web.Response:
        """List all requests, or those of ``?endpoint=``."""
        wanted = request.query.get("endpoint")
        records = [record for record in self._state.log.records() if wanted in (None, record.endpoint)]
        return web.json_response([asdict(record) for record in records])

    async def exports(self, request: web.Request) -> web.Response:
        """List all exports, however old, without download URLs, which hold a token."""
        records = self._state.export_records(f"{request.scheme}://{request.host}")
        for record in records.values():
            del record["download_url"]
        return web.json_response(list(records.values()))

    async def export_content(self, request: web.Request) -> web.StreamResponse:
        """Send an export's plain rows, for comparison with what was downloaded."""
        try:
            blocks = self._state.export_content(request.match_info["export_id"])
        except KeyError:
            return _problem(404, "There is no such export.")
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        while block := await asyncio.to_thread(next, blocks, b""):
            await response.write(block)
        await response.write_eof()
        return response

    async def inject(self, request: web.Request) -> web.Response:
        """Let something go wrong: a JSON object with the fields of a fault."""
        try:
            values: Any = await request.json()
            if not isinstance(values, dict):
                return _problem(422, "A fault is a JSON object.")
            self._state.faults.inject(Fault.from_mapping(values))
        except ValueError as error:  # JSON's own error is one too
            return _problem(422, str(error))
        return web.json_response({"status": "ok"}, status=201)

    async def clear_faults(self, request: web.Request) -> web.Response:
        """Let nothing go wrong any more."""
        self._state.faults.clear()
        return web.json_response({"status": "ok"})

    async def reset(self, request: web.Request) -> web.Response:
        """Forget faults, exports, tokens and requests."""
        self._state.reset()
        return web.json_response({"status": "ok"})


_SECRETS = frozenset({"client_secret", "api_key", "api_key_without_scope", "productiv_client_secret"})


def _problem(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)
