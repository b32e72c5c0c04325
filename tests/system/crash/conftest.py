# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_isvapp.emulator import Emulator, EmulatorConfig
from tests.support.airflow_connections import isvapp_fields, productiv_fields
from tests.support.real_airflow import RealAirflow
from tests.support.statsd_server import StatsdServer


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    with Emulator(EmulatorConfig(requests_per_second=None, export_seconds=5, rows=3000)) as server:
        yield server


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lake")


@pytest.fixture(scope="session")
def airflow(
    airflow_database: None,
    emulator: Emulator,
    lake: Path,
    statsd: StatsdServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RealAirflow]:
    fields = isvapp_fields(emulator, rate_limit_storage="", attempts=3)
    variables = {
        "AIRFLOW_CONN_ISVAPP_DEFAULT": json.dumps(fields),
        "AIRFLOW_CONN_PRODUCTIV_DEFAULT": json.dumps(productiv_fields(emulator)),
        "CRASH_LAKE": str(lake),
        **statsd.settings,
    }
    database = Path(os.environ["AIRFLOW_HOME"]) / "airflow.db"
    with RealAirflow(tmp_path_factory.mktemp("airflow"), database, variables) as airflow:
        airflow.wait_for(
            "Airflow is up", lambda: airflow.is_healthy("deferred", "single_tasks", "late_lists"), seconds=300
        )
        yield airflow
