# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A pytest plugin for DAG authors: both vendors on this machine, and connections to them.

pytest loads it in every environment with this package, so it imports only pytest until a test uses the fixture, which
needs the extra ``emulator``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from airflow_provider_isvapp.emulator import Emulator, RequestRecord

# More than the emulator needs, so an export is PENDING until it was polled once, even on a fast machine.
_EXPORT_SECONDS = 10.0
_OPTIONS: dict[str, Any] = {"requests_per_second": None, "export_seconds": _EXPORT_SECONDS, "rows": 100}


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker for ``--strict-markers``."""
    config.addinivalue_line(
        "markers",
        "isvapp_emulator(isvapp_conn_id='isvapp_default', productiv_conn_id='productiv_default', **options): "
        "the connections that the fixture isvapp_emulator defines, and fields of EmulatorConfig.",
    )


@pytest.fixture
def isvapp_emulator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """ISVapp and Productiv on a port of this machine, and the Airflow connections to them.

    The emulator's clock only moves when an export is polled, by the ten seconds of an export: no test waits for one.
    There is no rate limit. The marker ``isvapp_emulator`` sets other options.
    """
    from airflow_provider_isvapp.emulator import Emulator, EmulatorConfig, ManualClock

    marker = request.node.get_closest_marker("isvapp_emulator")
    options = dict(marker.kwargs) if marker else {}
    isvapp_conn_id = options.pop("isvapp_conn_id", "isvapp_default")
    productiv_conn_id = options.pop("productiv_conn_id", "productiv_default")
    clock = ManualClock(datetime.now(UTC))

    def complete_exports(record: RequestRecord) -> None:
        if record.endpoint in ("show_export", "list_exports"):
            clock.advance(_EXPORT_SECONDS)

    with Emulator(EmulatorConfig(**_OPTIONS | options), clock=clock, on_request=complete_exports) as emulator:
        isvapp = {
            "conn_type": "isvapp",
            "host": emulator.url,
            "login": emulator.client_id,
            "password": emulator.client_secret,
            # In memory, so that the limit of other connections on this machine is not affected.
            "extra": {"requests_per_second": 1000, "rate_limit_storage": "memory://"},
        }
        productiv = {
            "conn_type": "productiv",
            "host": emulator.url,
            "login": emulator.productiv_client_id,
            "password": emulator.productiv_client_secret,
            "extra": {"auth_url": emulator.productiv_token_url},
        }
        for conn_id, fields in ((isvapp_conn_id, isvapp), (productiv_conn_id, productiv)):
            monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))
        yield emulator
