# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import pytest

from airflow_provider_isvapp.emulator import Emulator
from tests.airflow.triggers import polling


@pytest.fixture
def pending(isvapp: Emulator) -> str:
    return polling.create_exports(1)[0]
