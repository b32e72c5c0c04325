# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Fixtures for tests of the Airflow parts: an emulator of both vendors, and Airflow connections to it."""

from __future__ import annotations

import importlib
import json
import logging
import secrets
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow import __version__ as airflow_version

from airflow_provider_isvapp.emulator import Emulator, EmulatorConfig, ManualClock
from airflow_provider_isvapp.ratelimit import storage

if airflow_version.startswith(("2.", "3.0.", "3.1.", "3.2.")):
    # Earlier Airflows, and the Flask of 2.11, warn while they are imported. Only Airflow's own modules are named here:
    # a warning that one of ours causes stays an error.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in (
            *("airflow.hooks.base", "airflow.models.dagbag", "airflow.sensors.base", "airflow.triggers.base"),
            "airflow.serialization.serialized_objects",
        ):
            importlib.import_module(module)

SetConnection = Callable[..., None]


@pytest.fixture
def clock() -> ManualClock:
    """The emulator's clock: exports complete and expire when a test advances it."""
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def emulator(clock: ManualClock) -> Iterator[Emulator]:
    """Both vendors, without a limit of requests; an export takes a minute of the emulator's time.

    Each emulator has new secrets, so it does not accept shared tokens of an earlier one on the same port.
    """
    mark = secrets.token_hex(8)
    config = EmulatorConfig(
        client_secret=f"demo-client-secret-{mark}",
        productiv_client_secret=f"demo-productiv-secret-{mark}",
        requests_per_second=None,
        export_seconds=60,
        rows=200,
    )
    with Emulator(config, clock=clock) as server:
        yield server


@pytest.fixture
def set_connection(monkeypatch: pytest.MonkeyPatch) -> SetConnection:
    """Define an Airflow connection, as an environment variable: ``set_connection("some_id", host=…, extra={…})``."""

    def define(conn_id: str, **fields: Any) -> None:
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))

    return define


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """All log lines so far. Airflow 3 writes its own loggers to standard output, without the logging module."""
    caplog.set_level(logging.INFO)
    written: list[str] = []

    def text() -> str:
        written.extend(capsys.readouterr())
        return "\n".join([caplog.text, *written])

    return text


@pytest.fixture
def isvapp(emulator: Emulator, set_connection: SetConnection) -> Emulator:
    """The emulator, with the connection ``isvapp_default`` to it."""
    set_connection("isvapp_default", **isvapp_fields(emulator))
    return emulator


@pytest.fixture
def productiv(emulator: Emulator, set_connection: SetConnection) -> Emulator:
    """The emulator, with the connection ``productiv_default`` to it."""
    set_connection("productiv_default", **productiv_fields(emulator))
    return emulator


def _isvapp_hook() -> Any:
    from airflow_provider_isvapp.hooks.isvapp import IsvappHook  # after the modules that warn while they are imported

    return IsvappHook()


@pytest.fixture
def ready(isvapp: Emulator, clock: ManualClock) -> str:
    """The id of an export that can be downloaded."""
    with _isvapp_hook() as hook:
        export_id = hook.create_export(timeframe="LATEST_COMPLETED_MONTH", taxonomy_ids=["taxonomy"]).id
    clock.advance(61)
    return export_id


@pytest.fixture
def download_url(ready: str) -> str:
    """The signed URL of that export's file."""
    with _isvapp_hook() as hook:
        url = hook.get_export(ready).download_url
    assert url is not None
    return url


def forget_shared_tokens() -> None:
    """Drop all tokens, so that the next task requests one."""
    storage._cells.clear()
    for path in storage.default_directory().glob("token-*"):
        path.unlink()


def isvapp_fields(emulator: Emulator, **extra: Any) -> dict[str, Any]:
    """Fields of a connection to the emulator's ISVapp, with a limit that no test reaches."""
    return {
        "conn_type": "isvapp",
        "host": emulator.url,
        "login": emulator.client_id,
        "password": emulator.client_secret,
        "extra": {"requests_per_second": 1000, "rate_limit_storage": "memory://", "attempts": 1, **extra},
    }


def productiv_fields(emulator: Emulator, **extra: Any) -> dict[str, Any]:
    """Fields of a connection to the emulator's Productiv."""
    return {
        "conn_type": "productiv",
        "host": emulator.url,
        "login": emulator.productiv_client_id,
        "password": emulator.productiv_client_secret,
        "extra": {"auth_url": emulator.productiv_token_url, "attempts": 1, **extra},
    }
