# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Waiting, log messages, timeouts and cleanup, with injected time."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from airflow_provider_isvapp.errors import LimiterTimeout, LimiterUnavailable
from airflow_provider_isvapp.events import Event, PermitAcquired
from airflow_provider_isvapp.ratelimit import open_limiter
from airflow_provider_isvapp.ratelimit.algorithm import RateLimit
from airflow_provider_isvapp.ratelimit.limiter import SharedLimiter
from airflow_provider_isvapp.ratelimit.storage import Change, MemoryStorage, T
from tests.unit.ratelimit.harness import shared_state


class Clock:
    """A clock that only sleep() advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class UnreliableStorage(MemoryStorage):
    """Responds until a test stops it."""

    reachable = True
    releases = 0

    def update(self, change: Change[T], *, timeout: float) -> T:
        if not self.reachable:
            raise LimiterUnavailable("gone")
        return super().update(change, timeout=timeout)

    def release(self) -> None:
        self.releases += 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def storage(key: str, clock: Clock) -> UnreliableStorage:
    return UnreliableStorage(key, clock=clock)


@pytest.fixture
def logged() -> list[str]:
    return []


@pytest.fixture
def limiter(storage: UnreliableStorage, clock: Clock, logged: list[str]) -> SharedLimiter:
    return SharedLimiter(
        storage, rate_limit=RateLimit.of(2), wait_timeout=60, on_wait=logged.append, clock=clock, sleep=clock.sleep
    )


def queue_and_busy(key: str) -> tuple[int, int]:
    state = shared_state("memory://", key=key)
    return len(state["queue"]), len(state["busy"])


def take_both_permits(limiter: SharedLimiter) -> None:
    for _ in range(2):
        with limiter.acquire():
            pass


class TestPermits:
    def test_requests_keep_the_rate(self, limiter: SharedLimiter, clock: Clock) -> None:
        sent = []
        for _ in range(6):
            with limiter.acquire():
                sent.append(clock.now)
        assert sent == pytest.approx([1000, 1000, 1001, 1001, 1002, 1002])

    def test_the_pause_starts_with_the_response(self, limiter: SharedLimiter, clock: Clock) -> None:
        for _ in range(2):
            with limiter.acquire():
                clock.sleep(0.4)
        with limiter.acquire():
            assert clock.now == pytest.approx(1001.4)

    def test_a_request_that_failed_keeps_its_permit_for_the_lease(
        self, limiter: SharedLimiter, clock: Clock, storage: UnreliableStorage
    ) -> None:
        for _ in range(2):
            with pytest.raises(OSError, match="reset"), limiter.acquire():
                raise OSError("reset")
        assert storage.releases == 2
        with limiter.acquire():
            assert clock.now == pytest.approx(1002.0)

    def test_after_each_request_the_storage_is_released(
        self, limiter: SharedLimiter, storage: UnreliableStorage
    ) -> None:
        take_both_permits(limiter)
        assert storage.releases == 2

    def test_threads_share_it(self, key: str) -> None:
        limiter = open_limiter("memory://", key=key, requests_per_second=20)
        sent = []

        def send() -> None:
            for _ in range(5):
                with limiter.acquire():
                    sent.append(time.monotonic())

        threads = [threading.Thread(target=send) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sent.sort()
        assert len(sent) == 30
        assert all(later - earlier >= 1.0 for earlier, later in zip(sent, sent[20:], strict=False))


class TestWaiting:
    def test_every_wait_is_observed_even_one_that_fails(self, storage: UnreliableStorage, clock: Clock) -> None:
        events: list[Event] = []
        limiter = SharedLimiter(
            storage,
            rate_limit=RateLimit.of(2),
            wait_timeout=60,
            on_wait=lambda _: None,
            observe=events.append,
            clock=clock,
            sleep=clock.sleep,
        )
        take_both_permits(limiter)
        with limiter.acquire():
            clock.sleep(0.5)
        limiter.block_for(100)
        with pytest.raises(LimiterTimeout), limiter.acquire():
            pass
        waits = [event.seconds for event in events if isinstance(event, PermitAcquired)]
        assert waits == pytest.approx([0, 0, 1, 60])

    def test_a_long_wait_is_logged_once_with_place_and_expected_start(
        self, limiter: SharedLimiter, logged: list[str]
    ) -> None:
        take_both_permits(limiter)
        limiter.block_for(20)
        with limiter.acquire():
            pass
        assert len(logged) == 1
        assert "2 requests/s" in logged[0]
        assert "number 1 of 1 waiting" in logged[0]
        assert "expected to start in 20 s" in logged[0]
        assert "after a 429, no request is sent for another 20 s" in logged[0]

    def test_a_short_wait_is_not_logged(self, limiter: SharedLimiter, logged: list[str]) -> None:
        for _ in range(10):
            with limiter.acquire():
                pass
        assert logged == []

    def test_a_wait_that_becomes_long_is_logged(
        self, limiter: SharedLimiter, clock: Clock, logged: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        take_both_permits(limiter)
        real_sleep = clock.sleep

        def sleep(seconds: float) -> None:
            real_sleep(seconds)
            if clock.now < 1010:  # another process keeps getting a 429
                limiter.block_for(2)

        monkeypatch.setattr(limiter, "_sleep", sleep)
        with limiter.acquire():
            pass
        assert len(logged) == 1

    def test_a_wait_beyond_the_timeout_is_an_error_that_describes_the_queue(
        self, limiter: SharedLimiter, key: str, clock: Clock
    ) -> None:
        limiter.block_for(300)
        with (
            pytest.raises(LimiterTimeout, match=r"waited 60 s .* 2 requests/s: still number 1 of 1 waiting") as raised,
            limiter.acquire(),
        ):
            pass
        assert "memory://" in str(raised.value)
        assert clock.now == pytest.approx(1060)
        assert queue_and_busy(key) == (0, 0)

    @pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, ValueError])
    def test_an_interrupted_waiter_leaves_the_queue(
        self, limiter: SharedLimiter, key: str, interruption: type[BaseException], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        take_both_permits(limiter)

        def interrupt(seconds: float) -> None:
            assert queue_and_busy(key) == (1, 2)
            raise interruption

        monkeypatch.setattr(limiter, "_sleep", interrupt)
        with pytest.raises(interruption), limiter.acquire():
            pass
        assert queue_and_busy(key) == (0, 2)


class TestStorageFailures:
    def test_no_request_without_the_storage(self, limiter: SharedLimiter, storage: UnreliableStorage) -> None:
        storage.reachable = False
        with pytest.raises(LimiterUnavailable), limiter.acquire():
            pytest.fail("sent without a permit")
        assert storage.releases == 1

    def test_a_response_is_kept_when_the_storage_fails_afterwards(
        self, limiter: SharedLimiter, storage: UnreliableStorage, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                with limiter.acquire():
                    storage.reachable = False
                storage.reachable = True
        assert "gone" in caplog.text
        with limiter.acquire():
            assert clock.now == pytest.approx(1002.0)

    def test_a_block_that_cannot_be_reported_is_no_error(
        self, limiter: SharedLimiter, storage: UnreliableStorage, caplog: pytest.LogCaptureFixture
    ) -> None:
        storage.reachable = False
        limiter.block_for(5)
        assert "gone" in caplog.text


def test_of_the_blocks_of_two_tasks_the_one_that_ends_last_counts(
    limiter: SharedLimiter, storage: UnreliableStorage, clock: Clock
) -> None:
    other_task = SharedLimiter(
        storage, rate_limit=RateLimit.of(2), wait_timeout=60, on_wait=print, clock=clock, sleep=clock.sleep
    )
    limiter.block_for(30)
    other_task.block_for(1)
    for waiting in (limiter, other_task):
        with waiting.acquire():
            assert clock.now == pytest.approx(1030)


@pytest.mark.parametrize("seconds", [0, -5, float("nan")])
def test_a_block_of_no_length_changes_nothing(limiter: SharedLimiter, seconds: float, clock: Clock) -> None:
    limiter.block_for(seconds)
    with limiter.acquire():
        assert clock.now == 1000.0
