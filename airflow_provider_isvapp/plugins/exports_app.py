# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The API server's responses to the exports page.

Airflow does not protect a plugin's routes. This application requires a user who may read connections for every route,
including the page's files, and has no routes without dependencies.
"""

# Without postponed annotations: FastAPI evaluates those of the routes outside the functions that define them.

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import ConnectionDetails
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_connection
from airflow.models.connection import Connection
from fastapi import Depends, FastAPI, HTTPException, Response
from fastapi.responses import FileResponse, JSONResponse

from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.plugins.export_list import (
    ConnectionReader,
    ExportListCache,
    ExportTask,
    Reading,
    ids_in_environment,
    shown,
    stored_ids,
    tasks_of,
    to_rows,
)

_PAGE = Path(__file__).parent / "page"
_MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css"}


def build_app() -> FastAPI:
    """Build the application: one per API server process, as it caches the latest readings."""
    app = FastAPI(
        title="ISVapp exports",
        # Airflow checks the right to the ``connection_id`` in the path, or else to connections in general.
        dependencies=[Depends(requires_access_connection("GET"))],
        # These routes would not have the dependency.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    recent = ExportListCache(ConnectionReader())
    files = {path.name: path for path in _PAGE.iterdir() if path.suffix in _MEDIA_TYPES}

    @app.get("/page/{name}")
    def page_file(name: str) -> FileResponse:
        """Serve a file of the page."""
        if name not in files:
            raise HTTPException(404, f"The page has no file {name!r}.")
        path = files[name]
        # Parts of the page must not come from another version of the provider or another user's session.
        headers = {"Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"}
        return FileResponse(path, media_type=_MEDIA_TYPES[path.suffix], headers=headers)

    @app.get("/connections")
    def connections(user: GetUserDep, response: Response) -> dict[str, Any]:
        """List the ids of the connections that the user may read."""
        response.headers["Cache-Control"] = "no-store"
        known = sorted({*stored_ids(), *ids_in_environment()})
        return {"connections": [conn_id for conn_id in known if _may_read(user, conn_id)]}

    @app.get("/connections/{connection_id}/exports")
    async def exports(connection_id: str, user: GetUserDep) -> Response:
        """Show the exports of a connection; what hinders that is in ``error``.

        The status is 200 nevertheless: proxies replace a 502 by their own page, and the message would be lost.
        Asynchronous, as it only waits: a thread reads, one for all viewers of a connection, and for each viewer another
        one does the rest, down to the bytes of the response. What the vendor sends must not cost the event loop time:
        all of Airflow's UI would stand still.
        """
        reading = await recent.of(connection_id)
        return await asyncio.to_thread(_response, connection_id, reading, user)

    return app


def _response(conn_id: str, reading: Reading, user: BaseUser) -> JSONResponse:
    """Make the response for one viewer, as not every user may see every DAG."""
    tasks = _tasks(conn_id, reading.exports, user)
    content = {
        "read_at": reading.read_at.isoformat(),
        "error": reading.error and shown(reading.error),
        "exports": [
            asdict(row) | {"task": asdict(tasks[row.id]) if row.id in tasks else None}
            for row in to_rows(reading.exports, now=reading.read_at)
        ],
    }
    return JSONResponse(content, headers={"Cache-Control": "no-store"})


def _may_read(user: BaseUser, conn_id: str) -> bool:
    """Check the same right as ``requires_access_connection`` does for a connection in the path."""
    details = ConnectionDetails(conn_id=conn_id, team_name=Connection.get_team_name(conn_id))
    return get_auth_manager().is_authorized_connection(method="GET", details=details, user=user)


def _tasks(conn_id: str, exports: Sequence[Export], user: BaseUser) -> dict[str, ExportTask]:
    if not exports:
        return {}
    readable = get_auth_manager().get_authorized_dag_ids(user=user, method="GET")
    return tasks_of(exports, conn_id=conn_id, dag_ids=readable)
