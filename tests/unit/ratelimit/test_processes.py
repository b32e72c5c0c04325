# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Every storage that processes share, with real processes and kills."""

from __future__ import annotations

import multiprocessing
import time
import warnings

import pytest

from airflow_provider_isvapp.ratelimit import Limiter, open_limiter
from airflow_provider_isvapp.ratelimit.algorithm import GRACE, TOLERATED_DELAY
from tests.unit.ratelimit.harness import Worker, shared_state, wait_for_queue, workers

HOLD = 1.0  # two requests per second
SLACK = 0.9  # for a loaded machine; less than a hold


def open_two_a_second(storage: str, key: str) -> Limiter:
    return open_limiter(storage, key=key, requests_per_second=2)


def send(limiter: Limiter) -> float:
    with limiter.acquire():
        return time.monotonic()


def start_with_both_permits_just_released(storage: str, key: str) -> Limiter:
    limiter = open_two_a_second(storage, key)
    send(limiter)
    send(limiter)
    return limiter


def test_processes_share_the_rate_in_order_of_arrival(storage: str, key: str) -> None:
    with workers(*(Worker(storage, "loop", 2, key=key) for _ in range(4))) as everybody:
        for worker in everybody:
            worker.wait_until_ready()
        start_with_both_permits_just_released(storage, key)  # so that all are in the queue when the first can start
        for worker in everybody:
            worker.begin()
        times = [worker.all_times() for worker in everybody]
    sent = sorted(time for each in times for time in each)
    assert all(beyond - first >= HOLD for first, beyond in zip(sent, sent[2:], strict=False))
    assert len(sent) >= 4
    # Each gets a permit in order, until the two seconds are over.
    assert max(map(len, times)) - min(map(len, times)) <= 1


def test_the_permit_of_a_killed_process_expires_with_its_lease(storage: str, key: str) -> None:
    limiter = open_two_a_second(storage, key)
    with workers(Worker(storage, "hold", key=key), Worker(storage, "hold", key=key)) as holders:
        for holder in holders:
            holder.begin()
        granted = min([holder.next_time() for holder in holders])
        for holder in holders:
            holder.kill()
        again = send(limiter)
    assert again - granted == pytest.approx(HOLD + TOLERATED_DELAY, abs=SLACK)


def test_a_killed_waiter_is_skipped(storage: str, key: str) -> None:
    limiter = open_two_a_second(storage, key)
    with workers(Worker(storage, "loop", key=key)) as (waiter,):
        waiter.wait_until_ready()
        with limiter.acquire(), limiter.acquire():
            waiter.begin()
            wait_for_queue(storage, 1, key=key)
            waiter.kill()
        first = send(limiter)
        second = send(limiter)
    assert second - first <= 1 / 2 + GRACE + SLACK
    assert shared_state(storage, key=key)["queue"] == []


def test_a_block_stops_other_processes(storage: str, key: str) -> None:
    limiter = open_two_a_second(storage, key)
    with workers(Worker(storage, "block", 2.5, key=key)) as (pusher,):
        pushed = pusher.next_time()
    assert send(limiter) - pushed == pytest.approx(2.5, abs=SLACK)


def test_a_forked_process_can_use_the_limiter(storage: str, key: str) -> None:
    limiter = open_limiter(storage, key=key, requests_per_second=20)
    for _ in range(3):
        send(limiter)
    fork = multiprocessing.get_context("fork")
    with warnings.catch_warnings():
        # Newer Pythons warn about forks in processes with threads, but Airflow forks its workers.
        warnings.simplefilter("ignore", DeprecationWarning)
        children = [fork.Process(target=_send_three_times, args=(limiter,)) for _ in range(2)]
        with limiter.acquire():
            for child in children:
                child.start()
    for _ in range(3):
        send(limiter)
    for child in children:
        child.join(20)
    assert [child.exitcode for child in children] == [0, 0]
    send(limiter)
    # A connection that processes share would have mixed up their responses. Older permits may have ended by now.
    assert shared_state(storage, key=key)["busy"]


def _send_three_times(limiter: Limiter) -> None:
    for _ in range(3):
        send(limiter)
