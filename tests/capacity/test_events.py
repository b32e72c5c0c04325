# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import pytest

from benchmarks.capacity_events import Events, Process, SharedRate, Slots, Wait


def ends(events: Events, waits: dict[str, list[Wait]]) -> dict[str, float]:
    """When each process has been through its waits."""
    ended: dict[str, float] = {}

    def process(name: str) -> Process[None]:
        yield from waits[name]
        ended[name] = events.now

    for name in waits:
        events.start(process(name))
    events.run()
    return ended


def test_processes_sleep_side_by_side() -> None:
    events = Events()

    ended = ends(events, {"long": [events.sleep(5)], "short": [events.sleep(1), events.sleep(1)]})

    assert ended == {"short": 2, "long": 5}
    assert list(ended) == ["short", "long"]


def test_a_slot_goes_to_the_smallest_rank() -> None:
    events = Events()
    slots = Slots(events, 1)
    order = []

    def process(rank: int) -> Process[None]:
        yield slots.take((rank,))
        order.append((rank, events.now))
        yield events.sleep(1)
        slots.give_back()

    for rank in (5, 9, 1):
        events.start(process(rank))
    events.run()

    # The first came when nobody waited.
    assert order == [(5, 0), (1, 1), (9, 2)]


def test_what_is_shared_is_shared_evenly() -> None:
    events = Events()
    rate = SharedRate(events, total=2.0, each=2.0)

    ended = ends(events, {"small": [rate.use(2)], "large": [rate.use(6)], "late": [events.sleep(2), rate.use(2)]})

    # Each has 1 a second until 2; then large and late have 1 each until 4; then large, which has 2 left, has all of it.
    assert ended == pytest.approx({"small": 2, "late": 4, "large": 5})
    assert rate.done == 10


def test_nobody_gets_more_than_one_can_take() -> None:
    events = Events()
    rate = SharedRate(events, total=4.0, each=1.0)

    assert ends(events, {"one": [rate.use(3)], "other": [rate.use(1)]}) == pytest.approx({"one": 3, "other": 1})


def test_many_equal_users_end_together_whatever_the_rounding() -> None:
    events = Events()
    rate = SharedRate(events, total=1.0, each=1.0)

    ended = ends(events, {str(number): [events.sleep(0.1), rate.use(0.1)] for number in range(30)})

    assert {round(end, 6) for end in ended.values()} == {3.1}
