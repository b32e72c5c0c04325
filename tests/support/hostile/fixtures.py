# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Servers and a log for the tests of hostile responses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.hostile.vendors import Vendors
from tests.support.hostile.verdict import LogText, everything_logged
from tests.support.hostile.wire_server import Silence, WireServer


@pytest.fixture(scope="module")
def vendors() -> Iterator[Vendors]:
    with Vendors() as server:
        yield server


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[WireServer]:
    """Another origin, which no client may connect to."""
    with WireServer(lambda _: (Silence(),)) as server:
        yield server


@pytest.fixture
def logged() -> Iterator[LogText]:
    with everything_logged() as text:
        yield text
