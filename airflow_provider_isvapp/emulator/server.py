# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The emulator as an object: a real HTTP server in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from airflow_provider_isvapp.emulator.clock import Clock, SystemClock
from airflow_provider_isvapp.emulator.config import EmulatorConfig
from airflow_provider_isvapp.emulator.control import ControlEndpoints
from airflow_provider_isvapp.emulator.faults import Fault
from airflow_provider_isvapp.emulator.isvapp import IsvappEndpoints
from airflow_provider_isvapp.emulator.pipeline import Call, Pipeline
from airflow_provider_isvapp.emulator.productiv import ProductivEndpoints
from airflow_provider_isvapp.emulator.requests import Endpoint, RequestRecord
from airflow_provider_isvapp.emulator.responses import ErrorResponse, Response
from airflow_provider_isvapp.emulator.state import State

_BACKLOG = 1024
_SHUTDOWN_SECONDS = 0.5
"""How long responses in flight may take when the server ends; then their connections are closed."""


class Emulator:
    """Both vendors on one port. A context manager: entering starts the server, leaving ends it.

    :param config: what the emulator is like.
    :param clock: its time; the machine's by default.
    :param on_request: called, in the server's thread, with each request that is finished.
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
        """Start the server and return once it accepts connections.

        :raises OSError: the port is taken.
        """
        if self._server is None:
            self._server = _Server(_application(self._state), self.config.host, self._port)
            self._port = self._server.port

    def stop(self) -> None:
        """End the server but keep what it knows: :meth:`start` continues on the same port, as after an outage."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def close(self) -> None:
        """End the server and remove its files. The request log can still be read."""
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
        """ISVapp API key that may retrieve metrics."""
        return self.config.api_key

    @property
    def api_key_without_scope(self) -> str:
        """ISVapp API key that lacks the permission."""
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
        """A text in each access and download token that this emulator hands out: where it is found, a token was."""
        return self._state.token_mark

    @property
    def requests(self) -> list[RequestRecord]:
        """All requests in the order of their arrival."""
        return self._state.log.records()

    def request_counts(self) -> Counter[str]:
        """Arrivals by endpoint, refused ones included; an endpoint that was never asked counts 0."""
        return self._state.log.counts()

    @property
    def exports(self) -> dict[str, dict[str, Any]]:
        """Every export's record by id, in the order of creation, with what was requested as ``request``."""
        return self._state.export_records(self.url)

    @property
    def exports_created(self) -> int:
        """How many create requests were accepted."""
        return self._state.exports.created

    def export_bytes(self, export_id: str) -> bytes:
        """Return the plain ndjson of an export exactly as a download holds it.

        :raises KeyError: there is no such export.
        """
        return b"".join(self._state.export_content(export_id))

    def inject(self, fault: Fault) -> None:
        """Let something go wrong from the next request on."""
        self._state.faults.inject(fault)

    def rotate_credentials(self, *, client_secret: str, api_key: str) -> None:
        """Accept these for ISVapp from now on, and neither the ones from before nor any token."""
        self.config = replace(self.config, client_secret=client_secret, api_key=api_key)
        self._state.tokens.rotate(self.config)

    def clear_faults(self) -> None:
        """Let nothing go wrong any more."""
        self._state.faults.clear()

    def reset(self) -> None:
        """Forget faults, exports, tokens and the request log; the configuration stays."""
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
    """An event loop in a thread, with one application in it."""

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
        """Close all connections and end the thread."""
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        asyncio.run_coroutine_threadsafe(self._loop.shutdown_default_executor(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
