# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The emulator as an object: a real HTTP server in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from airflow_provider_isvapp.emulator.answer import Answer, Refusal
from airflow_provider_isvapp.emulator.auth import Authority
from airflow_provider_isvapp.emulator.clock import Clock, SystemClock
from airflow_provider_isvapp.emulator.config import EmulatorConfig
from airflow_provider_isvapp.emulator.endpoint import Endpoint
from airflow_provider_isvapp.emulator.exports import Exports
from airflow_provider_isvapp.emulator.faults import Fault, Faults
from airflow_provider_isvapp.emulator.isvapp_app import IsvappEndpoints
from airflow_provider_isvapp.emulator.pipeline import Call, Pipeline
from airflow_provider_isvapp.emulator.productiv_app import ProductivEndpoints
from airflow_provider_isvapp.emulator.request_log import RequestLog, RequestRecord
from airflow_provider_isvapp.emulator.rows import ndjson
from airflow_provider_isvapp.emulator.spool import Spool

_BACKLOG = 1024


class Emulator:
    """Both vendors on one address. A context manager: entering starts the server, leaving ends it.

    :param config: what the emulator is like.
    :param clock: its time; the machine's by default.
    :param on_request: called, in the server's thread, with each request that was answered.
    """

    def __init__(
        self,
        config: EmulatorConfig | None = None,
        *,
        clock: Clock | None = None,
        on_request: Callable[[RequestRecord], None] | None = None,
    ) -> None:
        self.config = config or EmulatorConfig()
        self._clock = clock or SystemClock()
        self._log = RequestLog(on_request)
        self._faults = Faults()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started: threading.Event = threading.Event()
        self._failure: BaseException | None = None
        self._stop: asyncio.Event
        self._port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and return once it answers.

        :raises OSError: the port is taken.
        """
        self._spool = Spool(self.config)
        self._authority = Authority(self.config, self._clock)
        self._exports = Exports(self.config, self._clock, self._spool)
        self._pipeline = Pipeline(
            config=self.config, clock=self._clock, authority=self._authority, faults=self._faults, log=self._log
        )
        self._thread = threading.Thread(target=self._run, name="isvapp-emulator", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            self._spool.close()
            raise self._failure

    def stop(self) -> None:
        """End the server and remove its files."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
            self._spool.close()
            self._loop = self._thread = None

    @property
    def url(self) -> str:
        """Base address of both vendors."""
        host = "127.0.0.1" if self.config.host in ("0.0.0.0", "") else self.config.host  # noqa: S104 - compared only
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
    def requests(self) -> list[RequestRecord]:
        """All requests in the order of their arrival."""
        return self._log.records()

    def request_counts(self) -> dict[str, int]:
        """Arrivals by endpoint, refused ones included; endpoints that were never asked are missing."""
        return self._log.counts()

    @property
    def exports(self) -> dict[str, dict[str, Any]]:
        """Every export's record by id, in the order of creation."""
        return {export.id: self._exports.record(export, self.url) for export in self._exports.all()}

    def export_bytes(self, export_id: str) -> bytes:
        """Return the plain ndjson of an export exactly as a download holds it.

        :raises KeyError: there is no such export.
        """
        for export in self._exports.all():
            if export.id == export_id:
                return b"".join(ndjson(self.config, export.order))
        raise KeyError(export_id)

    def inject(self, fault: Fault) -> None:
        """Let something go wrong from the next request on."""
        self._faults.inject(fault)

    def reset(self) -> None:
        """Forget faults, exports, tokens and the request log; the configuration stays."""
        self._faults.clear()
        self._exports.clear()
        self._authority.clear()
        self._pipeline.window.clear()
        self._log.clear()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that called start()
            self._failure = error
            self._started.set()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self.config.host, self.config.port, backlog=_BACKLOG)
            await site.start()
            self._port = runner.addresses[0][1]
            self._loop = asyncio.get_running_loop()
            self._started.set()
            await self._stop.wait()
        finally:
            await runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=16 << 20)
        IsvappEndpoints(
            config=self.config, clock=self._clock, authority=self._authority, exports=self._exports
        ).add_routes(app.router, self._pipeline)
        ProductivEndpoints(config=self.config, clock=self._clock, authority=self._authority).add_routes(
            app.router, self._pipeline
        )
        app.router.add_route("*", "/{path:.*}", self._pipeline.serve(Endpoint.UNKNOWN, _unknown))
        return app


async def _unknown(call: Call) -> Answer:
    raise Refusal(404, f"There is nothing at {call.request.method} {call.request.path}.")
