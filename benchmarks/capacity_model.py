# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A sync of many exports, simulated: worker slots, processors, the shared limit, polls, the vendor, the download line.

What this package decides is not modelled but called: `limiter.schedule` says who may send when, and
`triggers.export_wait` how long a wait lasts until the next look. Only the steps of the operators are repeated here, as
sequences of requests.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from airflow_provider_isvapp.api.oauth import RENEW_BEFORE
from airflow_provider_isvapp.limiter.schedule import Pace, Schedule, answered, ask
from airflow_provider_isvapp.triggers.export_wait import interval_after
from benchmarks.capacity_events import Events, GoOn, Process, SharedRate, Slots, Wait
from benchmarks.capacity_plan import Auth, Plan, Tasks

# Of triggers/isvapp.py, which cannot be imported without Airflow. A test compares the two.
EARLIEST_EVENT = 5.0
# How long the vendor keeps a file, in seconds.
FILE_LIFE = 3600.0
# How long a process uses a token: those of the vendor are good for an hour.
TOKEN_LIFE = 3600.0 - RENEW_BEFORE


class Endpoint(StrEnum):
    """What requests are counted by; the emulator's names."""

    TOKEN = "token"
    CREATE = "create_export"
    LIST = "list_exports"
    SHOW = "show_export"
    DOWNLOAD = "download"
    ACCOUNTS = "salesforce_accounts"


@dataclass(kw_only=True)
class Outcome:
    """What came of a simulated sync. Times in seconds from its start.

    :param arrivals: when each request reached the vendor, in no order.
    :param utilisation: share of each resource that was in use, by its name, from 0 to 1.
    :param waiting_for_permits: seconds that task slots were held only to wait for the limiter.
    :param expired: exports whose file was gone when their download could begin.
    """

    plan: Plan
    seconds: float = 0.0
    requests: Counter[str] = field(default_factory=Counter)
    arrivals: list[float] = field(default_factory=list)
    finished: list[float] = field(default_factory=list)
    utilisation: dict[str, float] = field(default_factory=dict)
    waiting_for_permits: float = 0.0
    slot_seconds: float = 0.0
    longest_wait: float = 0.0
    most_deferred: int = 0
    expired: int = 0


def simulate(plan: Plan) -> Outcome:
    """Run a sync from the moment in which its DAG run is there to the end of that run."""
    return _Sync(plan).outcome()


class _Sync:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.events = Events()
        self.random = random.Random(plan.seed)
        self.result = Outcome(plan=plan)
        self.slots = Slots(self.events, plan.task_slots)
        self.cores = SharedRate(self.events, total=plan.workers * plan.cores, each=1.0)
        self.line = SharedRate(self.events, total=plan.bandwidth, each=plan.task_bandwidth)
        self.limiter = _Limiter(self)
        self.triggerers = [_Triggerer(self) for _ in range(plan.triggerers)]

    def outcome(self) -> Outcome:
        for number in range(self.plan.accounts):
            self.events.start(self._accounts(number))
        for number in range(self.plan.apps):
            self.events.start(self._apps(number))
        self.events.start(self._exports())
        self.events.run()
        result, plan = self.result, self.plan
        if result.finished:
            # One more hop until Airflow has noticed that all tasks are over.
            result.seconds = max(result.finished) + plan.hop_seconds
        if result.seconds:
            result.utilisation = {
                "requests": self.limiter.permit_seconds / (self.limiter.pace.permits * result.seconds),
                "slots": result.slot_seconds / (plan.task_slots * result.seconds),
                "cores": self.cores.done / (plan.workers * plan.cores * result.seconds),
                "download line": self.line.done / (plan.bandwidth * result.seconds),
            }
        return result

    def _exports(self) -> Process[None]:
        yield self.events.sleep(self.plan.cold_seconds)
        for number in range(self.plan.first_tasks):
            worker = yield from self._start((-6, number))
            self._end(worker)
        steps = {Tasks.ONE: self._one_task, Tasks.THREE: self._three_tasks, Tasks.WAITING: self._waiting_task}
        for number in range(self.plan.exports):
            self.events.start(steps[self.plan.tasks](_Export(self, number)))

    def _one_task(self, export: _Export) -> Process[None]:
        """IsvappExportOperator, deferrable."""
        worker = yield from self._start((export.number,))
        yield from export.create(worker)
        self._end(worker)
        yield from self._deferred(export)
        worker = yield from self._start((export.number,))
        yield from self._download(export, worker)
        self._end(worker)

    def _waiting_task(self, export: _Export) -> Process[None]:
        """IsvappExportOperator with deferrable=False."""
        worker = yield from self._start((export.number,))
        yield from export.create(worker)
        since = self.events.now
        ready = False
        while not ready:
            waited = self.events.now - since
            yield self.events.sleep(interval_after(waited, poll_interval=self.plan.poll_interval))
            arrived = yield from worker.call(Endpoint.SHOW)
            ready = export.ready_at <= arrived
        yield from self._download(export, worker)
        self._end(worker)

    def _three_tasks(self, export: _Export) -> Process[None]:
        """The three single operators. Airflow starts those first that have most tasks behind them."""
        worker = yield from self._start((-3, export.number))
        yield from export.create(worker)
        self._end(worker)
        worker = yield from self._start((-2, export.number))
        arrived = yield from worker.call(Endpoint.SHOW)
        self._end(worker)
        if arrived < export.ready_at:
            yield from self._deferred(export)
            worker = yield from self._start((-2, export.number))
            self._end(worker)
        worker = yield from self._start((-1, export.number))
        yield from self._download(export, worker)
        self._end(worker)

    def _accounts(self, number: int) -> Process[None]:
        """IsvappFetchSalesforceAccountsOperator."""
        worker = yield from self._start((-4, number))
        yield from worker.call(Endpoint.ACCOUNTS)
        self._end(worker)

    def _apps(self, number: int) -> Process[None]:
        """ProductivFetchAppsOperator: a token and the list, outside ISVapp's limit."""
        worker = yield from self._start((-5, number))
        yield self.events.sleep(2 * self.plan.latency)
        self._end(worker)

    def _start(self, rank: tuple[int, ...]) -> Process[_Client]:
        """Let Airflow start a task's process."""
        yield self.events.sleep(self.plan.hop_seconds)
        yield self.slots.take(rank)
        worker = _Client(self, since=self.events.now, holds_slot=True)
        yield self.cores.use(self.plan.start_seconds)
        return worker

    def _end(self, worker: _Client) -> None:
        self.result.slot_seconds += self.events.now - worker.since
        self.result.finished.append(self.events.now)
        self.slots.give_back()

    def _deferred(self, export: _Export) -> Process[None]:
        yield self.events.sleep(self.plan.hop_seconds)
        started = self.events.now
        yield self.random.choice(self.triggerers).wait(export)
        yield self.events.sleep(max(started + EARLIEST_EVENT - self.events.now, 0.0))

    def _download(self, export: _Export, worker: _Client) -> Process[None]:
        yield from worker.call(Endpoint.SHOW)
        if self.events.now > export.ready_at + FILE_LIFE:
            self.result.expired += 1
            return
        yield from worker.call(Endpoint.DOWNLOAD)
        yield self.line.use(self.plan.megabytes)


class _Export:
    def __init__(self, sync: _Sync, number: int) -> None:
        self._sync = sync
        self.number = number
        # Its own source of chance, so that an export is the same one whatever else is in the plan.
        self._seconds = random.Random(f"{sync.plan.seed}/{number}").uniform(*sync.plan.export_seconds)
        self.ready_at = float("inf")

    def create(self, worker: _Client) -> Process[None]:
        arrived = yield from worker.call(Endpoint.CREATE)
        self.ready_at = arrived + self._seconds


class _Client:
    """A process with a client of its own: its first request needs a token, unless an API key is used."""

    def __init__(self, sync: _Sync, *, since: float, holds_slot: bool) -> None:
        self._sync = sync
        self._holds_slot = holds_slot
        self._token_until = -1.0
        self.since = since

    def call(self, endpoint: Endpoint) -> Process[float]:
        """Send a request and return when it arrived at the vendor."""
        if self._sync.plan.auth is Auth.OAUTH2 and self._sync.events.now >= self._token_until:
            yield from self._send(Endpoint.TOKEN)
            self._token_until = self._sync.events.now + TOKEN_LIFE
        return (yield from self._send(endpoint))

    def _send(self, endpoint: Endpoint) -> Process[float]:
        asked = self._sync.events.now
        arrived = yield from self._sync.limiter.request(endpoint)
        waited = self._sync.events.now - asked - self._sync.plan.latency
        self._sync.result.longest_wait = max(self._sync.result.longest_wait, waited)
        if self._holds_slot:
            self._sync.result.waiting_for_permits += waited
        return arrived


class _Limiter:
    """The callers of `limiter.schedule`, as `limiter.shared` is one, in simulated time."""

    def __init__(self, sync: _Sync) -> None:
        self._sync = sync
        self._state = Schedule(at=0.0)
        self._tickets = itertools.count()
        self.pace = Pace.of(sync.plan.requests_per_second)
        self.permit_seconds = 0.0

    def request(self, endpoint: Endpoint) -> Process[float]:
        """Wait for the turn, send, wait for the answer; return when the request arrived at the vendor."""
        events, result, latency = self._sync.events, self._sync.result, self._sync.plan.latency
        ticket, earlier = f"{next(self._tickets):09}", None
        while True:
            self._state, turn = ask(self._state, self.pace, events.now, ticket, earlier)
            if turn.granted:
                break
            earlier = turn.arrived
            yield events.sleep(turn.look_again)
        arrived = events.now + self._sync.random.uniform(0.0, latency)
        result.requests[endpoint] += 1
        result.arrivals.append(arrived)
        self.permit_seconds += min(latency + self.pace.hold, self.pace.lease)
        yield events.sleep(latency)
        self._state = answered(self._state, self.pace, events.now, ticket)
        return arrived


@dataclass(eq=False, kw_only=True)
class _Waiter:
    export: _Export
    since: float
    due: float
    go_on: GoOn


class _Triggerer:
    """A triggerer's one poll for all of its waits, as `triggers.export_poller` does it."""

    def __init__(self, sync: _Sync) -> None:
        self._sync = sync
        self._waiters: list[_Waiter] = []
        self._polls = False
        self._wake: GoOn | None = None
        self._wakes_at = 0.0

    def wait(self, export: _Export) -> Wait:
        """Wait until a poll has seen that the export is ready."""

        def wait(go_on: GoOn) -> None:
            events = self._sync.events
            due = events.now + self._interval(0.0)
            self._waiters.append(_Waiter(export=export, since=events.now, due=due, go_on=go_on))
            waiting = sum(len(triggerer._waiters) for triggerer in self._sync.triggerers)
            self._sync.result.most_deferred = max(self._sync.result.most_deferred, waiting)
            if not self._polls:
                self._polls = True
                events.start(self._poll())
            elif self._wake and due < self._wakes_at:
                events.at(due, self._wake)

        return wait

    def _poll(self) -> Process[None]:
        client = _Client(self._sync, since=self._sync.events.now, holds_slot=False)
        while self._waiters:
            yield self._until_due
            listed = yield from client.call(Endpoint.LIST)
            now, waiters, self._waiters = self._sync.events.now, self._waiters, []
            for waiter in waiters:
                if waiter.export.ready_at <= listed:
                    self._sync.events.at(now, waiter.go_on)
                else:
                    waiter.due = now + self._interval(now - waiter.since)
                    self._waiters.append(waiter)
        self._polls = False

    def _until_due(self, go_on: GoOn) -> None:
        """Sleep until the first wait is due, or one comes that is due sooner."""
        self._wakes_at = min(waiter.due for waiter in self._waiters)
        self._wake = _once(go_on)
        self._sync.events.at(self._wakes_at, self._wake)

    def _interval(self, waited: float) -> float:
        return interval_after(waited, poll_interval=self._sync.plan.poll_interval)


def _once(action: Callable[[], None]) -> Callable[[], None]:
    actions = [action]

    def act() -> None:
        if actions:
            actions.pop()()

    return act
