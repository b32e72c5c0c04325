# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import asyncio
import json
import time

import pytest

from airflow_provider_isvapp.triggers import moment as module
from airflow_provider_isvapp.triggers.moment import MomentTrigger


def seconds_until_event(trigger: MomentTrigger) -> float:
    async def first() -> object:
        return (await anext(aiter(trigger.run()))).payload

    started = time.monotonic()
    assert asyncio.run(asyncio.wait_for(first(), timeout=10)) == {"moment": trigger.moment}
    return time.monotonic() - started


def test_is_stored_as_json_and_made_again() -> None:
    path, arguments = json.loads(json.dumps(MomentTrigger(moment=12.5).serialize()))

    assert path == "airflow_provider_isvapp.triggers.moment.MomentTrigger"
    assert MomentTrigger(**arguments).moment == 12.5


def test_fires_at_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EARLIEST_EVENT", 0.0)

    trigger = MomentTrigger(moment=time.time() + 0.3)

    assert seconds_until_event(trigger) < 8.0
    assert time.time() > trigger.moment - 0.01


def test_a_moment_in_the_past_waits_until_the_deferral_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EARLIEST_EVENT", 0.3)

    assert seconds_until_event(MomentTrigger(moment=0.0)) > 0.2
