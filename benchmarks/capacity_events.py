# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Discrete events for the capacity model: a clock that jumps, processes that wait, and two kinds of things to wait for.

A process is a generator. What it yields is a wait: a function that takes the process's "go on" and calls it, or has it
called, when the wait is over. SimPy would replace the clock, but not the limiter or the shared rate, and the rest is
shorter than its adaptation.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Generator
from typing import TypeAlias, TypeVar

GoOn: TypeAlias = Callable[[], None]
Wait: TypeAlias = Callable[[GoOn], None]
T = TypeVar("T")
Process: TypeAlias = Generator[Wait, None, T]


class Events:
    """The clock, in seconds from 0, and what is going to happen, in order."""

    def __init__(self) -> None:
        self.now = 0.0
        self._coming: list[tuple[float, int, GoOn]] = []
        self._numbers = itertools.count()

    def at(self, moment: float, action: GoOn) -> None:
        """Have something done; what is due at the same moment keeps the order in which it was asked for."""
        heapq.heappush(self._coming, (max(moment, self.now), next(self._numbers), action))

    def sleep(self, seconds: float) -> Wait:
        """Wait for so long."""
        return lambda go_on: self.at(self.now + seconds, go_on)

    def start(self, process: Process[None]) -> None:
        """Let a process run from now on."""

        def go_on() -> None:
            wait = next(process, None)
            if wait is not None:
                wait(go_on)

        self.at(self.now, go_on)

    def run(self) -> None:
        """Let everything happen, until nothing is left to come."""
        while self._coming:
            self.now, _, action = heapq.heappop(self._coming)
            action()


class Slots:
    """Places of which each holds one at a time; the one with the smallest rank comes first."""

    def __init__(self, events: Events, count: int) -> None:
        self._events = events
        self._free = count
        self._waiting: list[tuple[tuple[int, ...], int, GoOn]] = []
        self._numbers = itertools.count()

    def take(self, rank: tuple[int, ...]) -> Wait:
        """Wait for a place."""

        def wait(go_on: GoOn) -> None:
            heapq.heappush(self._waiting, (rank, next(self._numbers), go_on))
            self._serve()

        return wait

    def give_back(self) -> None:
        self._free += 1
        self._serve()

    def _serve(self) -> None:
        while self._free and self._waiting:
            self._free -= 1
            self._events.at(self._events.now, heapq.heappop(self._waiting)[-1])


class SharedRate:
    """Something that is used by all at once, evenly, such as processors or a network line.

    All users progress at the same speed, so that it is enough to follow one progress: a user is through when it has
    grown by the user's amount.

    :param total: what there is, in units a second.
    :param each: the most that one user can take.
    """

    def __init__(self, events: Events, *, total: float, each: float) -> None:
        self._events = events
        self._total = total
        self._each = each
        self._progress = 0.0
        self._since = 0.0
        self._users: list[tuple[float, int, GoOn]] = []
        self._numbers = itertools.count()
        self._change = 0
        self.done = 0.0

    def use(self, amount: float) -> Wait:
        """Wait until so many units are done."""

        def wait(go_on: GoOn) -> None:
            self._catch_up()
            self.done += amount
            heapq.heappush(self._users, (self._progress + amount, next(self._numbers), go_on))
            self._plan()

        return wait

    @property
    def _speed(self) -> float:
        return min(self._each, self._total / len(self._users)) if self._users else 0.0

    def _catch_up(self) -> None:
        self._progress += (self._events.now - self._since) * self._speed
        self._since = self._events.now

    def _plan(self) -> None:
        """Foresee the next end; a change before it makes it void."""
        self._change += 1
        if self._users:
            change = self._change
            left = max(self._users[0][0] - self._progress, 0.0)
            self._events.at(self._events.now + left / self._speed, lambda: self._end(change))

    def _end(self, change: int) -> None:
        if change != self._change:
            return
        self._catch_up()
        # The first is through by definition, whatever the rounding says.
        through = max(self._users[0][0], self._progress)
        while self._users and (self._users[0][0] <= through or math.isclose(self._users[0][0], through)):
            self._events.at(self._events.now, heapq.heappop(self._users)[-1])
        self._plan()
