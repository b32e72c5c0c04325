# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Airflow's entry points with hostile responses: tasks, the sensor in its modes, hooks, the Test button, the page."""

from __future__ import annotations

import asyncio
import gzip
import importlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow import __version__ as airflow_version
from airflow.exceptions import AirflowRescheduleException

from airflow_provider_isvapp.errors import OutcomeUnknown, ProviderError
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.hooks.productiv import ProductivHook
from airflow_provider_isvapp.operators.isvapp import (
    IsvappCreateExportOperator,
    IsvappDownloadExportOperator,
    IsvappExportOperator,
    IsvappFetchSalesforceAccountsOperator,
)
from airflow_provider_isvapp.operators.productiv import ProductivFetchAppsOperator
from airflow_provider_isvapp.plugins.export_list import ConnectionReader, ExportListCache, to_rows
from airflow_provider_isvapp.sensors.isvapp import IsvappExportSensor
from airflow_provider_isvapp.version_compat import AirflowException, AirflowFailException, AirflowSensorTimeout
from tests.support.airflow_connections import SetConnection, forget_shared_tokens
from tests.support.hostile import responses
from tests.support.hostile.clients import secrets_of
from tests.support.hostile.oddities import ODDITIES, Oddity
from tests.support.hostile.responses import Fate, HostileResponse
from tests.support.hostile.vendors import (
    API_KEY,
    CLIENT_ID,
    CLIENT_SECRET,
    ENDPOINTS,
    EXPORT_ID,
    PLAIN_FILE,
    Vendors,
    export_record,
)
from tests.support.hostile.verdict import LogText, chain_of, problems_of_message, problems_of_text
from tests.support.hostile.wire_server import WireServer
from tests.support.task_context import TaskDeferred, task_context

READ_TIMEOUT = 0.3
LONGEST = 15.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """The environment of one test.

    :param folder: an empty folder for output.
    """

    vendors: Vendors
    folder: Path
    context: Any

    def path(self, name: str) -> str:
        return str(self.folder / name)


@dataclass(frozen=True, kw_only=True)
class EntryPoint:
    """An entry point that Airflow calls.

    :param endpoints: the endpoints that it requests.
    :param enter: calls it, and returns its result: an XCom, a message, the content of a page.
    :param waits: whether it polls again after a failed poll.
    """

    endpoints: tuple[str, ...]
    enter: Callable[[Place], Any]
    waits: bool = False


class TaskInstance:
    """The part of a task instance that a rescheduling sensor needs: the time of this try's first poll."""

    task_id, dag_id, run_id, map_index, try_number, max_tries = "wait", "dag", "run", -1, 1, 0

    def __init__(self) -> None:
        self.first_poll: datetime | None = None
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = json.loads(json.dumps(value))

    def get_first_reschedule_date(self, context: Any) -> datetime | None:
        return self.first_poll


def run_task(operator: Any, place: Place) -> Any:
    """Run a task as Airflow does: reschedule it, run its trigger, resume it."""
    ti = place.context["ti"]
    call: Callable[[], Any] = lambda: operator.execute(place.context)  # noqa: E731
    while True:
        try:
            return call()
        except AirflowRescheduleException as again:
            ti.first_poll = ti.first_poll or datetime.now(UTC)
            time.sleep(max((again.reschedule_date - datetime.now(UTC)).total_seconds(), 0))
        except TaskDeferred as deferral:
            event = event_of(deferral.trigger)
            method = deferral.method_name
            call = lambda: operator.resume_execution(method, {"event": event}, place.context)  # noqa: B023, E731


def event_of(trigger: Any) -> Any:
    path, arguments = json.loads(json.dumps(trigger.serialize()))
    module, _, name = path.rpartition(".")
    stored = getattr(importlib.import_module(module), name)(**arguments)

    async def all_events() -> list[Any]:
        return [event.payload async for event in stored.run()]

    (payload,) = asyncio.run(asyncio.wait_for(all_events(), timeout=20))
    return json.loads(json.dumps(payload))


def sensor(mode: str) -> Callable[[Place], Any]:
    waiting: dict[str, Any] = {"deferrable": True} if mode == "deferrable" else {"deferrable": False, "mode": mode}

    def enter(place: Place) -> Any:
        task = IsvappExportSensor(task_id="wait", export_id=EXPORT_ID, poke_interval=0.02, timeout=20, **waiting)
        return run_task(task, place)

    return enter


def deferred_at_once(place: Place) -> Any:
    pending = json.dumps({"data": export_record(place.vendors.url, status="PENDING"), "success": True}).encode()
    place.vendors.spoil("show", lambda _: responses.whole(200, pending), times=1)
    return sensor("deferrable")(place)


def export_task(place: Place) -> Any:
    return run_task(
        IsvappExportOperator(
            task_id="export",
            timeframe="2024-02",
            taxonomy_ids=["t1"],
            path=place.path("usage.jsonl"),
            poll_interval=0.02,
            timeout=20,
            deferrable=True,
        ),
        place,
    )


def with_hook(call: Callable[[IsvappHook], Any]) -> Callable[[Place], Any]:
    def enter(_: Place) -> Any:
        with IsvappHook() as hook:
            return repr(call(hook))

    return enter


def with_productiv_hook(call: Callable[[ProductivHook], Any]) -> Callable[[Place], Any]:
    def enter(_: Place) -> Any:
        with ProductivHook() as hook:
            return repr(call(hook))

    return enter


def page(_: Place) -> dict[str, Any]:
    reading = asyncio.run(ExportListCache(ConnectionReader()).of("isvapp_default"))
    rows = [asdict(row) for row in to_rows(reading.exports, now=reading.read_at)]
    return {"error": reading.error, "exports": json.loads(json.dumps(rows))}


_REQUEST: dict[str, Any] = {"timeframe": "2024-02", "taxonomy_ids": ["t1"]}
ENTRY_POINTS = {
    "task: create": EntryPoint(
        endpoints=("token", "create"),
        enter=lambda place: run_task(IsvappCreateExportOperator(task_id="create", **_REQUEST), place),
    ),
    "task: export": EntryPoint(endpoints=("create", "download"), enter=export_task),
    "task: download": EntryPoint(
        endpoints=("show", "download"),
        enter=lambda place: run_task(
            IsvappDownloadExportOperator(task_id="download", export_id=EXPORT_ID, path=place.path("usage.jsonl")), place
        ),
    ),
    "task: accounts": EntryPoint(
        endpoints=("accounts",),
        enter=lambda place: run_task(
            IsvappFetchSalesforceAccountsOperator(task_id="accounts", path=place.path("accounts.jsonl")), place
        ),
    ),
    "task: apps": EntryPoint(
        endpoints=("productiv_token", "productiv_apps"),
        enter=lambda place: run_task(ProductivFetchAppsOperator(task_id="apps", path=place.path("apps.jsonl")), place),
    ),
    "sensor: poke": EntryPoint(endpoints=("token", "show"), enter=sensor("poke"), waits=True),
    "sensor: reschedule": EntryPoint(endpoints=("show",), enter=sensor("reschedule"), waits=True),
    "sensor: deferrable": EntryPoint(endpoints=("show",), enter=sensor("deferrable"), waits=True),
    "trigger of a sensor": EntryPoint(endpoints=("list",), enter=deferred_at_once, waits=True),
    "hook: account": EntryPoint(endpoints=("account",), enter=with_hook(lambda hook: hook.get_account())),
    "hook: create": EntryPoint(endpoints=("create",), enter=with_hook(lambda hook: hook.create_export(**_REQUEST))),
    "hook: show": EntryPoint(endpoints=("show",), enter=with_hook(lambda hook: hook.get_export(EXPORT_ID))),
    "hook: list": EntryPoint(endpoints=("list",), enter=with_hook(lambda hook: hook.list_exports())),
    "hook: accounts": EntryPoint(
        endpoints=("accounts",), enter=with_hook(lambda hook: hook.list_salesforce_accounts())
    ),
    "hook: apps": EntryPoint(
        endpoints=("productiv_token", "productiv_apps"),
        enter=with_productiv_hook(lambda hook: hook.list_apps()),
    ),
    "hook: app": EntryPoint(
        endpoints=("productiv_app",), enter=with_productiv_hook(lambda hook: hook.get_app("app-1").app)
    ),
    "Test button": EntryPoint(endpoints=("token", "account"), enter=lambda _: IsvappHook().test_connection()),
    "Test button: Productiv": EntryPoint(
        endpoints=("productiv_token", "productiv_apps"), enter=lambda _: ProductivHook().test_connection()
    ),
    "page": EntryPoint(endpoints=("token", "list"), enter=page),
}
PAIRS = [(name, endpoint) for name, entry in ENTRY_POINTS.items() for endpoint in entry.endpoints]


@pytest.fixture(autouse=True)
def airflow(
    request: pytest.FixtureRequest, vendors: Vendors, set_connection: SetConnection, monkeypatch: pytest.MonkeyPatch
) -> Callable[[bool], None]:
    """Connections to the vendors; a task's pauses take no time."""
    # No oddity is a missing response, so the timeouts are long enough for a busy machine.
    read_timeout = READ_TIMEOUT * 30 if "oddity" in request.node.name else READ_TIMEOUT
    for module in ("triggers.isvapp", "operators.creation"):
        monkeypatch.setattr(f"airflow_provider_isvapp.{module}.EARLIEST_EVENT", 0.0)
    monkeypatch.setattr("airflow_provider_isvapp.triggers.waiters.FIRST_INTERVAL", 0.02)
    monkeypatch.setattr("airflow_provider_isvapp.transfer.resume._FIRST_WAIT", 0.0)
    monkeypatch.setattr("airflow_provider_isvapp.hooks.productiv._REQUESTS_PER_SECOND", 1000.0)
    if airflow_version.startswith("2."):
        monkeypatch.setattr("airflow.sensors.base._orig_start_date", lambda **_: None)
    common = {"attempts": 1, "read_timeout": read_timeout, "connect_timeout": 2}
    set_connection(
        "productiv_default",
        conn_type="productiv",
        host=vendors.url,
        login=CLIENT_ID,
        password=CLIENT_SECRET,
        extra={"auth_url": f"{vendors.url}/oauth2/token", **common},
    )

    def connect(api_key: bool) -> None:
        set_connection(
            "isvapp_default",
            conn_type="isvapp",
            host=vendors.url,
            login=None if api_key else CLIENT_ID,
            password=API_KEY if api_key else CLIENT_SECRET,
            extra={"requests_per_second": 1000, "rate_limit_storage": "memory://", **common},
        )

    connect(False)
    return connect


def problems(entry: EntryPoint, endpoint: str, response: HostileResponse, place: Place) -> Iterator[str]:
    """Enter with one hostile response, and return the problems of the outcome."""
    vendors = place.vendors
    secrets = secrets_of(ENDPOINTS[endpoint])
    vendors.restore()
    forget_shared_tokens()
    # A wait gets it once: the next poll may succeed.
    vendors.spoil(endpoint, response.play, times=1 if entry.waits else None)
    error: AirflowException | None = None
    left: Any = None
    started = time.monotonic()
    try:
        left = entry.enter(place)
    except AirflowException as problem:
        error = problem
    except Exception as problem:  # noqa: BLE001 (the finding)
        yield f"ends in {type(problem).__module__}.{type(problem).__name__}: {str(problem)[:200]}"
        return
    seconds = time.monotonic() - started
    if seconds > LONGEST:
        yield f"took {seconds:.1f} s"
    if error is not None:
        yield from problems_of_message(str(error), secrets)
        yield from problems_of_text("its traceback", chain_of(error), secrets)
        cause = error.__context__
        if isinstance(cause, ProviderError):
            if cause.permanent != isinstance(error, AirflowFailException | AirflowSensorTimeout):
                yield f"{type(cause).__name__} became {type(error).__name__}"
        elif not isinstance(error, AirflowSensorTimeout):
            yield f"ends in {type(error).__name__}, which is none of ours: {error}"
        if entry.waits and response.fate is Fate.RETRIED:
            yield f"one look that failed ended the wait: {error}"
    if endpoint == "create":
        sent = vendors.count("create", at_least=1)
        if sent != 1 and not (sent == 2 and response.name.startswith("401")):
            yield f"{sent} requests were sent"
        unclear = response.fate is Fate.RETRIED and not response.name.startswith("429")
        if unclear and not (error is not None and isinstance(error.__context__, OutcomeUnknown)):
            yield f"ends in {error!r}, although the export may be there"
    # Rows are the vendor's own, as they were sent.
    if endpoint not in ("accounts", "productiv_apps", "productiv_app"):
        yield from problems_of_text("its result", json.dumps(left, default=repr), secrets)
    yield from problems_of_text("an XCom", json.dumps(place.context["ti"].xcoms), secrets)
    yield from problems_of_files(place, failed=error is not None)


def problems_of_files(place: Place, *, failed: bool) -> Iterator[str]:
    for path in sorted(place.folder.iterdir()):
        content = path.read_bytes()
        if failed:
            yield f"left {path.name} with {len(content)} bytes"
        elif path.name == "usage.jsonl" and content != PLAIN_FILE:
            yield f"wrote {content[:100]!r}"
        path.unlink()


@pytest.mark.parametrize(("name", "endpoint"), PAIRS, ids=[f"{name}, {endpoint}" for name, endpoint in PAIRS])
def test_an_entry_point_ends_in_an_error_that_airflow_knows(
    name: str,
    endpoint: str,
    vendors: Vendors,
    elsewhere: WireServer,
    logged: LogText,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    entry = ENTRY_POINTS[name]
    secrets = secrets_of(ENDPOINTS[endpoint])
    found: list[str] = []
    count = 0
    for cell in responses.sample(ENDPOINTS[endpoint], vendors.url, elsewhere.url.removeprefix("http://")):
        count += 1
        place = Place(vendors=vendors, folder=tmp_path, context=task_context() | {"ti": TaskInstance()})
        found += [f"{cell.name}: {problem}" for problem in problems(entry, endpoint, cell, place)]
        written = "\n".join([logged.take(), *capsys.readouterr()])
        found += [f"{cell.name}: {problem}" for problem in problems_of_text("the log", written, secrets)]
    if elsewhere.connections:
        found.append("another origin was connected to")
    assert count > 50
    assert not found, f"{name}: {len(found)} problems with {count} responses\n" + "\n".join(found)


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_an_entry_point_works_with_the_documented_responses(name: str, vendors: Vendors, tmp_path: Path) -> None:
    """Without this test, the test above would pass with a server that always fails."""
    vendors.restore()
    forget_shared_tokens()
    place = Place(vendors=vendors, folder=tmp_path, context=task_context() | {"ti": TaskInstance()})

    left = ENTRY_POINTS[name].enter(place)

    if isinstance(left, tuple):
        assert left[0] is True, left[1]
    elif name == "page":
        assert (left["error"], len(left["exports"])) == (None, 2)
    for endpoint in ENTRY_POINTS[name].endpoints:
        assert vendors.count(endpoint) >= 1


@pytest.fixture(scope="module")
def proxy() -> Iterator[WireServer]:
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    with WireServer(lambda _: (refusal,)) as server:
        yield server


def problems_of_oddity(oddity: Oddity, entry: EntryPoint, place: Place) -> Iterator[str]:
    """Enter with an oddity, and return the problems of the outcome."""
    vendors = place.vendors
    vendors.restore()
    forget_shared_tokens()
    oddity.play_on(vendors)
    error_text: str | None = None
    left: Any = None
    try:
        left = entry.enter(place)
    except AirflowException as error:
        error_text = str(error)
        if not isinstance(error.__context__, ProviderError):
            yield f"ends in {type(error).__name__}, which is none of ours: {error}"
    except Exception as problem:  # noqa: BLE001 (the finding)
        yield f"ends in {type(problem).__name__}: {problem}"
        return
    if isinstance(left, tuple):
        error_text = None if left[0] else left[1]
    elif isinstance(left, dict) and "exports" in left and "error" in left:
        error_text = left["error"]
        if error_text is None and len(left["exports"]) != 2:
            yield f"the page shows {left}"
    is_met = not oddity.endpoints or any(vendors.count(name) for name in oddity.endpoints)
    if oddity.refused and is_met:
        if error_text is None or not re.search(oddity.refused, error_text):
            yield f"says {error_text!r}"
        yield from problems_of_message(error_text or "check")
    elif error_text is not None:
        yield f"is refused: {error_text}"
    yield from problems_of_files(place, failed=error_text is not None)


@pytest.mark.parametrize("name", ODDITIES)
def test_an_oddity_ends_in_the_right_result_or_in_a_clear_error(
    name: str,
    vendors: Vendors,
    proxy: WireServer,
    set_connection: SetConnection,
    tmp_path: Path,
    logged: LogText,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    oddity = ODDITIES[name]
    for variable in list(os.environ):
        if variable.lower().endswith("_proxy"):
            monkeypatch.delenv(variable)
    for variable, value in oddity.variables.items():
        monkeypatch.setenv(variable, value.format(proxy=proxy.port))
    for setting in ("LASTING_FAILURE", "LASTING_REFUSAL"):
        monkeypatch.setattr(f"airflow_provider_isvapp.triggers.waiters.{setting}", 0.05)
    for conn_id, host in zip(("isvapp_default", "productiv_default"), oddity.hosts, strict=True):
        fields = json.loads(os.environ[f"AIRFLOW_CONN_{conn_id.upper()}"])
        fields["host"] = host.format(url=vendors.url, port=vendors.port)
        if "auth_url" in fields["extra"] and not oddity.endpoints and oddity.refused:
            fields["extra"]["auth_url"] = f"{fields['host']}/oauth2/token"
        set_connection(conn_id, **fields)
    found: list[str] = []
    warned = met = 0
    for entry_name, entry in ENTRY_POINTS.items():
        if oddity.passing and entry.waits:
            continue  # a wait continues: test_an_entry_point_ends_in_an_error_that_airflow_knows
        place = Place(vendors=vendors, folder=tmp_path, context=task_context() | {"ti": TaskInstance()})
        found += [f"{entry_name}: {problem}" for problem in problems_of_oddity(oddity, entry, place)]
        written = "\n".join([logged.take(), *capsys.readouterr()])
        if any(vendors.count(endpoint) for endpoint in oddity.endpoints):
            met += 1
            warned += bool(re.search(oddity.warning, written))
    assert not found, "\n".join(found)
    assert met >= 8 or not oddity.endpoints
    if oddity.warning:
        # Some oddities do not appear in the record of a pending export.
        assert warned >= 8


def test_an_unknown_type_is_written_unchanged(vendors: Vendors, tmp_path: Path) -> None:
    rows = b'{"user": 1, "reference_date": 7}\n{"user": 2}\n'
    packed = gzip.compress(rows, mtime=0)
    change = {
        "type": "USERS",
        "download_size_compressed_bytes": len(packed),
        "download_size_uncompressed_bytes": len(rows),
    }
    vendors.restore()
    for endpoint in ("create", "show", "list"):
        spoilt = ENDPOINTS[endpoint].valid(vendors.url)
        for record in spoilt["data"] if endpoint == "list" else [spoilt["data"]]:
            record.update(change)
        body = json.dumps(spoilt).encode()
        vendors.spoil(endpoint, lambda _, body=body: responses.whole(200, body))  # type: ignore[misc]
    vendors.spoil("download", lambda _: responses.whole(200, packed, content_type="application/gzip"))
    place = Place(vendors=vendors, folder=tmp_path, context=task_context() | {"ti": TaskInstance()})
    arguments: dict[str, Any] = {
        "task_id": "export",
        "timeframe": "2024-02",
        "export_type": "USERS",
        "extra_request": {"user_ids": ["u-1"]},
        "deferrable": True,
    }

    left = run_task(IsvappExportOperator(path=place.path("users.ndjson"), **arguments), place)

    assert left["rows"] == 2
    assert Path(place.path("users.ndjson")).read_bytes() == rows
    (sent,) = [
        json.loads(seen.body) for seen in vendors.seen if (seen.method, seen.path) == ("POST", "/api/v1/exports")
    ]
    assert sent == {"type": "USERS", "aggregation": "MONTHLY", "timeframe": "2024-02", "user_ids": ["u-1"]}
    for wrong in ({"validate": "full"}, {"output_format": "parquet"}):
        with pytest.raises(AirflowFailException, match="the type 'USERS' has none"):
            run_task(IsvappExportOperator(path=place.path("refused"), **arguments, **wrong), place)
    assert [path.name for path in tmp_path.iterdir()] == ["users.ndjson"]
