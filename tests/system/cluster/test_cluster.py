# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The whole cluster, with a third of the exports of ``make cluster-test``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.system.cluster.host import missing_rights

SECONDS = 900
# Continuous integration must not skip it.
UNABLE = None if os.environ.get("CI") else missing_rights()


@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.skipif(UNABLE is not None, reason=f"hosts cannot be imitated: {UNABLE}")
def test_a_worker_and_the_triggerer_are_killed_and_nothing_is_lost(tmp_path: Path) -> None:
    figures = tmp_path / "report.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.system.cluster", "--exports", "30", "--json", figures], cwd=ROOT
    )
    try:
        status = process.wait(SECONDS)
    finally:
        # It ends its servers and hosts then.
        process.terminate()
        process.wait()
    assert status == 0, "its output says why, and where the logs are"
    report = json.loads(figures.read_text())
    assert report["objects"] == 32
    assert report["most_arrivals"] == 2
    assert [kill["host"] for kill in report["kills"]] == ["airflow-triggerer", "airflow-worker-1"]
