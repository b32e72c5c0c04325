# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""An observer is notified of exactly the requests that a server received."""

from __future__ import annotations

from collections import Counter

import pytest

from airflow_provider_isvapp.api.auth import ApiKey
from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.api.isvapp.models import ExportRequest
from airflow_provider_isvapp.api.productiv import ProductivClient
from airflow_provider_isvapp.api.settings import IsvappSettings, ProductivSettings, TransportSettings
from airflow_provider_isvapp.api.transport import Request, Transport
from airflow_provider_isvapp.errors import OutcomeUnknown, ProviderError
from airflow_provider_isvapp.events import Event, ExportCreated, RequestSent
from tests.support.scripted_server import ScriptedResponse, ScriptedServer
from tests.unit.api.conftest import FakeTime, RecordingLimiter

pytest.importorskip("aiohttp", reason="the extra 'emulator' is not installed")

from airflow_provider_isvapp.emulator import Emulator, EmulatorConfig, Fault

REQUEST = ExportRequest.checked(timeframe="2024-02", taxonomy_ids=["t1"])


@pytest.fixture
def events() -> list[Event]:
    return []


def test_every_endpoint_of_both_vendors_has_the_emulators_name_for_it(
    events: list[Event], limiter: RecordingLimiter
) -> None:
    with Emulator(EmulatorConfig(requests_per_second=None, export_seconds=0, rows=10)) as emulator:
        isvapp = IsvappSettings.from_connection(
            login=emulator.client_id, password=emulator.client_secret, host=emulator.url
        )
        productiv = ProductivSettings.from_connection(
            login=emulator.productiv_client_id,
            password=emulator.productiv_client_secret,
            host=emulator.url,
            extra={"auth_url": emulator.productiv_token_url},
        )
        emulator.inject(Fault(endpoint="show_export", kind="status", status=429, retry_after=0))
        with IsvappClient(isvapp, limiter=limiter, observe=events.append, sleep=lambda _: None) as client:
            client.get_account()
            export = client.create_export(REQUEST)
            client.list_exports()
            client.list_salesforce_accounts()
            client.open_download(export.id).close()
        with ProductivClient(productiv, limiter=limiter, observe=events.append) as apps:
            apps.get_app(apps.list_apps()[0]["ApplicationId"])
        seen = Counter((str(record.endpoint), record.status) for record in emulator.requests)

    assert Counter((event.endpoint, event.status) for event in events if isinstance(event, RequestSent)) == seen
    assert len({endpoint for endpoint, _ in seen}) == 10
    assert seen["show_export", 429] == 1
    assert events.count(ExportCreated()) == 1


@pytest.fixture
def transport(server: ScriptedServer, limiter: RecordingLimiter, time: FakeTime, events: list[Event]) -> Transport:
    settings = TransportSettings(vendor="ISVapp", base_url=server.url, attempts=2)
    return Transport(settings, limiter=limiter, observe=events.append, clock=time, sleep=time.sleep)


def test_each_try_counts(server: ScriptedServer, transport: Transport, events: list[Event]) -> None:
    server.script("/thing", ScriptedResponse(fault="reset"), ScriptedResponse(503))
    request = Request(method="GET", url=f"{server.url}/thing", label="GET /thing", endpoint="thing", scope="exports")

    with pytest.raises(ProviderError):
        transport.fetch(request, ApiKey("key"))
    transport.close()

    assert events == [RequestSent(endpoint="thing", status=None), RequestSent(endpoint="thing", status=503)]


def test_an_export_that_may_not_exist_is_not_counted(
    server: ScriptedServer, limiter: RecordingLimiter, events: list[Event]
) -> None:
    server.script("/api/v1/exports", ScriptedResponse(fault="reset"))
    settings = IsvappSettings.from_connection(login=None, password="key", host=server.url)

    with IsvappClient(settings, limiter=limiter, observe=events.append) as client, pytest.raises(OutcomeUnknown):
        client.create_export(REQUEST)

    assert events == [RequestSent(endpoint="create_export", status=None)]
