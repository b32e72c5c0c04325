# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_isvapp.api.settings import TransportSettings
from airflow_provider_isvapp.api.transport import Request, Transport
from airflow_provider_isvapp.errors import InvalidConnection
from tests.support.scripted_server import ScriptedServer
from tests.support.tls_server import TlsServer
from tests.unit.api.conftest import RecordingLimiter


@pytest.fixture
def failure(limiter: RecordingLimiter) -> Callable[[str], str]:
    """Request a URL and return the error's message."""

    def send(base_url: str) -> str:
        transport = Transport(TransportSettings(vendor="ISVapp", base_url=base_url), limiter=limiter)
        request = Request(method="GET", url=f"{base_url}/sentinel", label="GET /thing", endpoint="thing")
        with pytest.raises(InvalidConnection) as caught:
            transport.fetch(request)
        transport.close()
        assert "sentinel" not in "".join(traceback.format_exception(caught.value))
        return str(caught.value)

    return send


def test_an_untrusted_certificate(failure: Callable[[str], str], tmp_path: Path) -> None:
    with TlsServer(tmp_path, host="localhost") as server:
        message = failure(f"https://localhost:{server.port}")

    assert message.startswith(f"TLS with https://localhost:{server.port} failed: self-signed certificate. ")
    assert "REQUESTS_CA_BUNDLE" in message


def test_a_certificate_for_another_host(
    failure: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TlsServer(tmp_path, host="other.example.com") as server:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.certificate))
        message = failure(f"https://localhost:{server.port}")

    assert "certificate is not valid for 'localhost'" in message
    assert "Check the connection's host" in message


def test_a_server_without_tls(failure: Callable[[str], str], server: ScriptedServer) -> None:
    message = failure(server.url.replace("http://", "https://"))

    assert "the server does not speak TLS" in message
    assert "begins with http://" in message
