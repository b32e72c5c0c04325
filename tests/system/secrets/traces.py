# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Everything that a run of Airflow stores or sends: its database, its files, and the responses of its API."""

from __future__ import annotations

import itertools
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cryptography.fernet import Fernet
from redis import Redis

from tests.support.real_airflow import RealAirflow
from tests.support.services import RedisServer
from tests.support.spelling import spellings

TASK_INSTANCES = "/api/v2/dags/~/dagRuns/~/taskInstances"


@dataclass(frozen=True)
class Trace:
    """Some content and the place where it was."""

    place: str
    content: bytes

    def when(self, moment: str) -> Trace:
        """Return the trace with the time at which it was read."""
        return replace(self, place=f"{moment}, {self.place}")


def places_of(secret: str, traces: Iterable[Trace]) -> set[str]:
    """Return the places that have a secret in any spelling."""
    wanted = spellings(secret)
    return {trace.place for trace in traces if any(spelling in trace.content for spelling in wanted)}


def in_database(airflow: RealAirflow, fernet: Fernet) -> Iterator[Trace]:
    """Read each column of each table; decrypt the values that Airflow has encrypted.

    The values of connections are meant to be secret, so they stay encrypted.
    """
    with closing(sqlite3.connect(f"file:{airflow.home}/airflow.db?mode=ro", uri=True, timeout=30)) as database:
        tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
        for table in tables:
            rows = database.execute(f'select * from "{table}"')
            for column, values in zip((name for name, *_ in rows.description), zip(*rows, strict=True), strict=False):
                content = b"\n".join(_bytes(value) for value in values if value is not None)
                if table != "connection":
                    content += b"\n" + _decrypted(content, fernet)
                yield Trace(f"database: {table}.{column}", content)


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _decrypted(content: bytes, fernet: Fernet) -> bytes:
    # Version 0x80 and a time stamp, in base64.
    return b"\n".join(fernet.decrypt(token) for token in re.findall(rb"\bgAAAA[\w-]{70,}=*", content))


def in_files(home: Path) -> Iterator[Trace]:
    """Read all files of Airflow's home: logs, and those of the database with what was deleted from it."""
    for path in sorted(home.rglob("*")):
        if path.is_file():
            yield Trace(f"file: {path.relative_to(home)}", path.read_bytes())


def in_storage(server: RedisServer) -> Iterator[Trace]:
    """Read the limiter's storage, which also holds the shared tokens: its values, and the server's files."""
    with Redis.from_url(server.url) as client:
        client.config_set("rdbcompression", "no")
        client.save()
        for key in client.scan_iter():
            yield Trace(f"limiter's storage: {key.decode()}", client.get(key))
    for path in server.directory.iterdir():
        yield Trace(f"limiter's storage, file: {path.name}", path.read_bytes())


def in_api(airflow: RealAirflow) -> Iterator[Trace]:
    """Request every path of the API server and the exports page for every DAG, run, task, try and connection."""
    paths = [path for path, methods in _get(airflow, "/openapi.json")["paths"].items() if "get" in methods]
    requested: set[str] = set()
    for situation in _situations(airflow):
        for path in (*paths, *_OTHERS):
            if path.endswith("/wait") or not set(re.findall(r"{(\w+)", path)) <= set(situation):
                continue
            url = path.format_map({name: quote(str(value), safe="") for name, value in situation.items()})
            if url not in requested:
                requested.add(url)
                status, response = airflow.call("GET", f"{url}?limit=1000&full_content=true")
                yield Trace(f"api: {status} {path}", response.encode())


# This package's page, and the requests of Airflow's own pages beyond the public API.
_OTHERS = (
    "/isvapp-exports/connections",
    "/isvapp-exports/connections/{connection_id}/exports",
    "/ui/grid/structure/{dag_id}",
    "/ui/grid/runs/{dag_id}",
    "/ui/gantt/{dag_id}/{dag_run_id}",
    "/ui/connections/hook_meta",
    "/ui/config",
    "/ui/dags",
)


def _situations(airflow: RealAirflow) -> Iterator[dict[str, Any]]:
    """Yield values for the parameters in the paths: for all tries of all tasks, and for whatever else has an id."""
    for connection in _get(airflow, "/api/v2/connections")["connections"]:
        yield {"connection_id": connection["connection_id"]}
    for asset in _get(airflow, "/api/v2/assets")["assets"]:
        yield {"asset_id": asset["id"]}
    for error in _get(airflow, "/api/v2/importErrors")["import_errors"]:
        yield {"import_error_id": error["import_error_id"]}
    for task in _get(airflow, TASK_INSTANCES)["task_instances"]:
        known = {name: task[name] for name in ("dag_id", "dag_run_id", "task_id")}
        known |= {"map_index": task["map_index"], "version_number": 1}
        url = "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}".format(
            **{name: quote(str(value)) for name, value in known.items()}
        )
        xcoms = _get(airflow, f"{url}/xcomEntries")["xcom_entries"]
        states = _get(airflow, f"{url}/state-store").get("task_state_store", ())
        keys = [entry["key"] for entry in (*xcoms, *states)]
        for number, key in itertools.product(range(1, task["try_number"] + 1), keys or [None]):
            tries = {"try_number": number, "task_try_number": number}
            yield known | tries | ({} if key is None else {"xcom_key": key, "key": key})


def _get(airflow: RealAirflow, path: str) -> Any:
    status, response = airflow.call("GET", path)
    assert status == 200, f"{path}: {status} {response[:500]}"
    return json.loads(response)
