# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A pytest plugin for the authors of DAGs: both vendors on this machine, and connections to them.

pytest loads it in every run of an environment that has this package. So it imports nothing but pytest until a test asks
for the fixture, which needs the extra ``emulator``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from airflow_provider_isvapp.emulator import Emulator, RequestRecord

# More than the emulator needs: an export is PENDING until it was polled once, however fast the machine is.
_EXPORT_SECONDS = 10.0
_OPTIONS: dict[str, Any] = {"requests_per_second": None, "export_seconds": _EXPORT_SECONDS, "rows": 100}


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known to ``--strict-markers``."""
    config.addinivalue_line(
        "markers",
        "isvapp_emulator(isvapp_conn_id='isvapp_default', productiv_conn_id='productiv_default', **options): "
        "the connections that the fixture isvapp_emulator defines, and fields of EmulatorConfig.",
    )


@pytest.fixture
def isvapp_emulator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """ISVapp and Productiv on a port of this machine, and the Airflow connections to them.

    The emulator's clock stands still, but for the ten seconds of an export, which pass when it is polled: no test waits
    for an export. There is no limit of requests. The marker ``isvapp_emulator`` chooses other options.
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
            # In memory, so that the limit of other connections on this machine is left alone.
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
