# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from tests.support import ROOT


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The program behind ``make test``, as a module."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    yield importlib.import_module("test_suite")
    for name in ("test_suite", "environments"):
        del sys.modules[name]
