# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""An Airflow whose metrics are received. It runs in a separate process, since it reads its configuration on import."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_isvapp.emulator import Emulator, EmulatorConfig
from tests.support import ROOT
from tests.support.airflow_connections import isvapp_fields, productiv_fields
from tests.support.statsd_server import StatsdServer

HERE = Path(__file__).resolve().parent


class MeteredAirflow:
    """Runs DAGs of this folder, one after the other.

    :param home: an empty folder.
    :param settings: Airflow's metrics settings.
    """

    def __init__(self, home: Path, emulator: Emulator, settings: dict[str, str]) -> None:
        shutil.copy(Path(os.environ["AIRFLOW_HOME"]) / "airflow.db", home / "airflow.db")
        self.lake = home / "lake"
        self.lake.mkdir()
        self._log = home / "log"
        self.environment = os.environ | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(HERE / "dags"),
            "AIRFLOW_CONN_ISVAPP_DEFAULT": json.dumps(isvapp_fields(emulator)),
            "AIRFLOW_CONN_PRODUCTIV_DEFAULT": json.dumps(productiv_fields(emulator)),
            "METRICS_LAKE": str(self.lake),
            "PYTHONPATH": str(ROOT),
            **settings,
        }
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> MeteredAirflow:
        reader, writer = os.pipe()
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, HERE / "run_dags.py", str(writer)],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(writer,),
                text=True,
            )
        os.close(writer)
        self._responses = os.fdopen(reader)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        finally:
            self._process.kill()
            self._responses.close()

    def run(self, dag_id: str) -> str:
        """Run a DAG and return the run's state."""
        assert self._process is not None
        assert self._process.stdin is not None
        print(dag_id, file=self._process.stdin, flush=True)
        state = self._responses.readline().strip().rpartition(".")[2].lower()
        assert state, self.log
        return state

    def python(self, program: str) -> subprocess.CompletedProcess[str]:
        """Run a program in such an Airflow."""
        return subprocess.run(
            [sys.executable, "-c", program], env=self.environment, capture_output=True, text=True, check=False
        )

    @property
    def log(self) -> str:
        """What the process has written so far."""
        return self._log.read_text()


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    config = EmulatorConfig(requests_per_second=None, export_seconds=1, rows=2000, ranges=True, etag="strong")
    with Emulator(config) as server:
        yield server


@pytest.fixture(scope="session")
def airflow(
    airflow_database: None,
    emulator: Emulator,
    statsd: StatsdServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[MeteredAirflow]:
    with MeteredAirflow(tmp_path_factory.mktemp("metered"), emulator, statsd.settings) as running:
        yield running
