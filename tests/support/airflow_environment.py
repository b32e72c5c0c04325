# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A temporary Airflow for tests: its home is a new directory, never the user's.

Operators, sensors, triggers and hooks need no metadata database: set connections with
``monkeypatch.setenv("AIRFLOW_CONN_...")``. A test that runs a whole DAG uses the fixture ``airflow_database``.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path

import pytest

from tests.support import ROOT

DAGS_FOLDER = ROOT / "dags"

# A failing task fails its test at once, without the delays of its retries. Airflow reads this
# cluster policy from its home whenever it parses a DAG file.
_NO_RETRIES = """
def task_policy(task):
    task.retries = 0
"""


def configure() -> None:
    """Point Airflow at a new temporary home. Call this before the first import of Airflow.

    A process that inherits the variables (a test's subprocess) shares its parent's home. Each worker of pytest-xdist
    has a separate home.
    """
    if "airflow" in sys.modules:
        raise RuntimeError("airflow was imported before its test environment was configured")
    inherited = os.environ.get("ISVAPP_TEST_AIRFLOW_HOME")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if inherited and os.environ["ISVAPP_TEST_WORKER"] == worker:
        return
    # That of a worker is below the controller's, which removes it.
    home = tempfile.mkdtemp(prefix="isvapp-airflow-", dir=inherited)
    if not inherited:
        atexit.register(shutil.rmtree, home, ignore_errors=True)
    Path(home, "config").mkdir()
    Path(home, "config", "airflow_local_settings.py").write_text(_NO_RETRIES)
    for name in [name for name in os.environ if name.startswith(("AIRFLOW_", "_AIRFLOW_"))]:
        del os.environ[name]
    os.environ |= {
        "ISVAPP_TEST_AIRFLOW_HOME": home,
        "ISVAPP_TEST_WORKER": worker,
        "AIRFLOW_HOME": home,
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS_FOLDER),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": f"{home}/logs",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
        # Each secret of the emulator is short-lived and public; a fixed key keeps connections readable to subprocesses.
        "AIRFLOW__CORE__FERNET_KEY": "",
    }


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """Create a metadata database in the temporary home, once per test run.

    Airflow's migrations take longer than most tests and create the same tables each time, so the virtual environment
    caches them by the versions of Airflow and its providers.
    """
    versions = sorted(f"{found.name}=={found.version}" for found in distributions() if found.name.startswith("apache-"))
    kept = Path(sys.prefix) / f"migrated-{hashlib.sha256(' '.join(versions).encode()).hexdigest()[:16]}.db"
    database = Path(os.environ["AIRFLOW_HOME"]) / "airflow.db"
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            _migrate()
            shutil.copy(database, kept.with_suffix(".new"))
            kept.with_suffix(".new").rename(kept)
            return
    shutil.copy(kept, database)


def _migrate() -> None:
    migration = subprocess.run(
        [Path(sys.executable).parent / "airflow", "db", "migrate"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if migration.returncode != 0:
        raise RuntimeError(f"airflow db migrate ended with status {migration.returncode}:\n{migration.stdout}")
