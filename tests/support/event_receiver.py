# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A server that receives lineage events."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.http_server import HttpServer, QuietHandler


class EventReceiver(HttpServer):
    """An HTTP server that records each POST."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        super().__init__()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        bodies = self.bodies

        class Handler(QuietHandler):
            def do_POST(self) -> None:
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self.send_response(201)
                self.send_header("Content-Length", "0")
                self.end_headers()

        return Handler

    def events(self, job: str, kind: str | None = None) -> list[dict[str, Any]]:
        """Return the events of a task.

        :param job: DAG and task, as in ``dag.task``.
        :param kind: ``START``, ``COMPLETE`` or ``FAIL``.
        """
        events = [json.loads(body) for body in self.bodies]
        return [event for event in events if event["job"]["name"] == job and kind in (None, event["eventType"])]
