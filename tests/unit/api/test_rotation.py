# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Rotation of credentials during the life of a client."""

from __future__ import annotations

import pytest

from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.api.isvapp.models import ExportRequest
from airflow_provider_isvapp.api.productiv import ProductivClient
from airflow_provider_isvapp.api.settings import IsvappSettings, ProductivSettings
from airflow_provider_isvapp.errors import AuthenticationRefused, ProviderError
from tests.support.scripted_server import ScriptedResponse, ScriptedServer, data, token
from tests.unit.api.conftest import FakeTime, RecordingLimiter

REFUSED = ScriptedResponse(401, b'{"error": "unknown key", "success": false}')


class StoredConnection:
    """A connection that a test can change, with the number of reads."""

    def __init__(self, **fields: str | None) -> None:
        self.fields = fields
        self.reads = 0

    def __call__(self) -> IsvappSettings:
        self.reads += 1
        return self.settings()

    def settings(self) -> IsvappSettings:
        return IsvappSettings.from_connection(**{"login": None} | self.fields, extra={"attempts": 1})


@pytest.fixture
def connection(server: ScriptedServer) -> StoredConnection:
    return StoredConnection(host=server.url, password="old-key")


@pytest.fixture
def client(connection: StoredConnection, limiter: RecordingLimiter, time: FakeTime) -> IsvappClient:
    return IsvappClient(
        connection.settings(), limiter=limiter, reload_settings=connection, clock=time, sleep=time.sleep
    )


def keys(server: ScriptedServer) -> list[str]:
    return [seen.headers["authorization"].removeprefix("Bearer ") for seen in server.seen]


def test_a_rotated_key_is_read_again_and_kept(server, connection, client):
    server.script("/api/v1/exports", REFUSED, data([]), data([]))
    connection.fields["password"] = "new-key"

    assert client.list_exports() == []
    assert client.list_exports() == []

    assert keys(server) == ["old-key", "new-key", "new-key"]
    assert connection.reads == 1


def test_a_key_that_is_still_the_stored_one_stays_refused(server, connection, client):
    server.script("/api/v1/exports", REFUSED, REFUSED)

    for reads in (1, 2):
        with pytest.raises(AuthenticationRefused, match="unknown key"):
            client.list_exports()
        assert connection.reads == reads

    assert keys(server) == ["old-key", "old-key"]


def test_new_credentials_that_are_refused_too_end_it(server, connection, client):
    server.script("/api/v1/exports", REFUSED, REFUSED, data([]))
    connection.fields["password"] = "new-key"

    with pytest.raises(AuthenticationRefused):
        client.list_exports()

    assert keys(server) == ["old-key", "new-key"]
    assert connection.reads == 1


def test_a_create_that_was_refused_is_sent_with_the_new_key(server, connection, client):
    server.script("/api/v1/exports", REFUSED, data({"id": "e1", "status": "PENDING"}))
    connection.fields["password"] = "new-key"

    assert client.create_export(ExportRequest.checked(timeframe="2024-02", taxonomy_ids=["t1"])).id == "e1"


def test_a_download_continues_with_the_new_key(server, connection, client):
    record = {"id": "e1", "status": "COMPLETED", "download_url": f"{server.url}/file"}
    server.script("/api/v1/exports/e1", data(record))
    server.script("/file", REFUSED, ScriptedResponse(body=b"bytes"))
    connection.fields["password"] = "new-key"

    with client.open_download("e1") as body:
        assert body.read(100) == b"bytes"

    assert keys(server) == ["old-key", "old-key", "new-key"]


def test_new_credentials_for_another_host_are_not_sent_to_the_old_one(server, connection, client):
    server.script("/api/v1/exports", REFUSED, data([]))
    connection.fields |= {"host": "https://elsewhere.test", "password": "new-key"}

    with pytest.raises(AuthenticationRefused):
        client.list_exports()

    assert keys(server) == ["old-key"]


def test_a_connection_that_cannot_be_read_again_is_a_retryable_error(server, connection, client):
    server.script("/api/v1/exports", REFUSED)

    def unreachable() -> IsvappSettings:
        raise ProviderError("Airflow could not look up the connection.")

    connection.settings = unreachable

    with pytest.raises(ProviderError, match="could not look up") as caught:
        client.list_exports()
    assert not caught.value.permanent
    assert caught.value.__context__ is None


@pytest.mark.parametrize("where", ["the token endpoint", "the API"])
def test_a_rotated_client_secret_is_read_again(server, limiter, time, where):
    def settings(secret: str) -> IsvappSettings:
        return IsvappSettings.from_connection(login="client", password=secret, host=server.url, extra={"attempts": 1})

    wrong = ScriptedResponse(401, b'{"error": "invalid_client"}')
    if where == "the API":  # the vendor refuses the valid token, and then the client's request for another one
        server.script("/api/oauth2/token", token("one"), wrong, token("two"))
        server.script("/api/v1/exports", REFUSED, data([]))
    else:
        server.script("/api/oauth2/token", wrong, token("two"))
        server.script("/api/v1/exports", data([]))
    with IsvappClient(
        settings("old secret"),
        limiter=limiter,
        reload_settings=lambda: settings("new secret"),
        clock=time,
        sleep=time.sleep,
    ) as client:
        assert client.list_exports() == []

    assert server.seen[-1].headers["authorization"] == "Bearer two"


def test_productiv_reads_a_rotated_secret_again(server, limiter, time):
    def settings(secret: str) -> ProductivSettings:
        extra = {"attempts": 1, "auth_url": f"{server.url}/token"}
        return ProductivSettings.from_connection(login="client", password=secret, host=server.url, extra=extra)

    server.script("/token", ScriptedResponse(401, b'{"error": "invalid_client"}'), token("two"))
    server.script("/pull/v1/apps", ScriptedResponse(body=b'{"Apps": [], "AsOfDate": "2026-03-05"}'))
    with ProductivClient(
        settings("old secret"), limiter=limiter, reload_settings=lambda: settings("new secret"), clock=time
    ) as client:
        assert len(client.list_apps()) == 0

    assert [seen.form.get("client_secret") for seen in server.seen[:2]] == ["old secret", "new secret"]
