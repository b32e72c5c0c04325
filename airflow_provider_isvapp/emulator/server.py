# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The emulator as an object: a real HTTP server in a separate thread, with a control API under ``/_emulator/``."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from airflow_provider_isvapp.emulator.config import Clock, EmulatorConfig, SystemClock
from airflow_provider_isvapp.emulator.faults import Fault
from airflow_provider_isvapp.emulator.http import Endpoint, ErrorResponse, RequestRecord, Response
from airflow_provider_isvapp.emulator.isvapp import IsvappEndpoints
from airflow_provider_isvapp.emulator.pipeline import Call, Pipeline, State
from airflow_provider_isvapp.emulator.productiv import ProductivEndpoints

_BACKLOG = 1024
_SHUTDOWN_SECONDS = 0.5
"""How long responses in flight may take when the server stops; then their connections are closed."""


class Emulator:
    """Both vendors on one port. A context manager that starts and closes the server.

    :param config: the options.
    :param clock: the clock; the system's by default.
    :param on_request: called with each finished request, in the server's thread.
    """

    def __init__(
        self,
        config: EmulatorConfig | None = None,
        *,
        clock: Clock | None = None,
        on_request: Callable[[RequestRecord], None] | None = None,
    ) -> None:
        self.config = config or EmulatorConfig()
        self._state = State(self.config, clock or SystemClock(), on_request)
        self._port = self.config.port
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the server, and return when it accepts connections.

        :raises OSError: the port is in use.
        """
        if self._server is None:
            self._server = _Server(_application(self._state), self.config.host, self._port)
            self._port = self._server.port

    def stop(self) -> None:
        """Stop the server but keep its state: :meth:`start` continues on the same port, as after an outage."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def close(self) -> None:
        """Stop the server and remove its files. The request log stays readable."""
        self.stop()
        self._state.spool.close()

    @property
    def url(self) -> str:
        """Base URL of both vendors."""
        host = "127.0.0.1" if self.config.host == "0.0.0.0" else self.config.host  # noqa: S104 - compared only
        return f"http://{host}:{self._port}"

    @property
    def client_id(self) -> str:
        """ISVapp OAuth2 client id."""
        return self.config.client_id

    @property
    def client_secret(self) -> str:
        """ISVapp OAuth2 client secret."""
        return self.config.client_secret

    @property
    def api_key(self) -> str:
        """ISVapp API key with permission to retrieve metrics."""
        return self.config.api_key

    @property
    def api_key_without_scope(self) -> str:
        """ISVapp API key without that permission."""
        return self.config.api_key_without_scope

    @property
    def productiv_client_id(self) -> str:
        """Productiv client id."""
        return self.config.productiv_client_id

    @property
    def productiv_client_secret(self) -> str:
        """Productiv client secret."""
        return self.config.productiv_client_secret

    @property
    def productiv_token_url(self) -> str:
        """Productiv's token endpoint."""
        return f"{self.url}/oauth2/token"

    @property
    def token_mark(self) -> str:
        """A string in each access and download token of this emulator: text that contains it contains a token."""
        return self._state.token_mark

    @property
    def requests(self) -> list[RequestRecord]:
        """All requests in the order of their arrival."""
        return self._state.log.records()

    def request_counts(self) -> Counter[str]:
        """Arrivals by endpoint, including rejected requests; 0 for an endpoint without requests."""
        return self._state.log.counts()

    @property
    def exports(self) -> dict[str, dict[str, Any]]:
        """The record of each export by id, in the order of creation, with the create request as ``request``."""
        return self._state.exports.records(self.url)

    @property
    def exports_created(self) -> int:
        """The number of accepted create requests."""
        return self._state.exports.created

    def export_bytes(self, export_id: str) -> bytes:
        """Return the plain ndjson of an export, exactly as in a download.

        :raises KeyError: there is no such export.
        """
        return b"".join(self._state.exports.content(export_id))

    def inject(self, fault: Fault) -> None:
        """Inject a fault, from the next request on."""
        self._state.faults.inject(fault)

    def rotate_credentials(self, *, client_secret: str, api_key: str) -> None:
        """Replace the credentials of ISVapp, and revoke all tokens."""
        self.config = replace(self.config, client_secret=client_secret, api_key=api_key)
        self._state.tokens.rotate(self.config)

    def clear_faults(self) -> None:
        """Remove all faults."""
        self._state.faults.clear()

    def reset(self) -> None:
        """Remove faults, exports, tokens and the request log; keep the configuration."""
        self._state.reset()


def _application(state: State) -> web.Application:
    app = web.Application()
    pipeline = Pipeline(state)
    ControlEndpoints(state).add_routes(app.router)
    IsvappEndpoints(state).add_routes(app.router, pipeline)
    ProductivEndpoints(state).add_routes(app.router, pipeline)
    app.router.add_route("*", "/{path:.*}", pipeline.serve(Endpoint.UNKNOWN, _unknown))
    return app


async def _unknown(call: Call) -> Response:
    raise ErrorResponse(404, f"There is nothing at {call.request.method} {call.request.path}.")


class _Server:
    """Runs one application in an event loop in a thread."""

    def __init__(self, app: web.Application, host: str, port: int) -> None:
        self._app = app
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="isvapp-emulator", daemon=True)
        self._thread.start()
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        try:
            self.port = asyncio.run_coroutine_threadsafe(self._listen(host, port), self._loop).result()
        except BaseException:
            self.stop()
            raise

    async def _listen(self, host: str, port: int) -> int:
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, backlog=_BACKLOG).start()
        number: int = self._runner.addresses[0][1]
        return number

    def stop(self) -> None:
        """Close all connections and stop the thread."""
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        asyncio.run_coroutine_threadsafe(self._loop.shutdown_default_executor(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class ControlEndpoints:
    """The control API, one method per path, without rate limit, log or authentication."""

    def __init__(self, state: State) -> None:
        self._state = state

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the endpoints to a router."""
        router.add_get("/_emulator/health", self.health)
        router.add_get("/_emulator/state", self.state)
        router.add_get("/_emulator/requests", self.requests)
        router.add_get("/_emulator/exports", self.exports)
        router.add_get("/_emulator/exports/{export_id}/content", self.export_content)
        router.add_post("/_emulator/faults", self.inject)
        router.add_delete("/_emulator/faults", self.clear_faults)
        router.add_post("/_emulator/reset", self.reset)

    async def health(self, request: web.Request) -> web.Response:
        """Report that the server is up."""
        return web.json_response({"status": "ok"})

    async def state(self, request: web.Request) -> web.Response:
        """Return the configuration, counts and pending faults."""
        state = self._state
        config = {name: value for name, value in asdict(state.config).items() if name not in _SECRETS}
        statuses = Counter(record["status"] for record in state.exports.records("").values())
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
        """List all exports, without download URLs, which contain a token."""
        records = self._state.exports.records(f"{request.scheme}://{request.host}")
        for record in records.values():
            del record["download_url"]
        return web.json_response(list(records.values()))

    async def export_content(self, request: web.Request) -> web.StreamResponse:
        """Send the plain rows of an export, to compare with a download."""
        try:
            blocks = self._state.exports.content(request.match_info["export_id"])
        except KeyError:
            return _problem(404, "There is no such export.")
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        while block := await asyncio.to_thread(next, blocks, b""):
            await response.write(block)
        await response.write_eof()
        return response

    async def inject(self, request: web.Request) -> web.Response:
        """Inject a fault: a JSON object with its fields."""
        try:
            values: Any = await request.json()
            if not isinstance(values, dict):
                return _problem(422, "A fault must be a JSON object.")
            self._state.faults.inject(Fault.from_mapping(values))
        except ValueError as error:  # JSONDecodeError is one
            return _problem(422, str(error))
        return web.json_response({"status": "ok"}, status=201)

    async def clear_faults(self, request: web.Request) -> web.Response:
        """Remove all faults."""
        self._state.faults.clear()
        return web.json_response({"status": "ok"})

    async def reset(self, request: web.Request) -> web.Response:
        """Remove faults, exports, tokens and the request log."""
        self._state.reset()
        return web.json_response({"status": "ok"})


_SECRETS = frozenset({"client_secret", "api_key", "api_key_without_scope", "productiv_client_secret"})


def _problem(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)
