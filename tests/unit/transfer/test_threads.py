# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""An error in a thread is raised where the result is awaited."""

from __future__ import annotations

import threading

import pytest

from airflow_provider_isvapp.transfer.threads import Prefetch, WorkerThread


def assert_ends(event: threading.Event) -> None:
    assert event.wait(10)


def finish(work: WorkerThread) -> None:
    while not work.poll():
        pass


def test_it_is_done_when_the_work_is() -> None:
    may_end = threading.Event()
    work = WorkerThread(lambda: assert_ends(may_end), name="test")
    assert not work.poll()
    may_end.set()
    finish(work)


def test_an_error_is_raised_at_the_exit() -> None:
    def fail() -> None:
        raise ValueError("damaged")

    work = WorkerThread(fail, name="test")
    with pytest.raises(ValueError, match="damaged"):
        finish(work)


def test_an_error_in_the_moment_of_the_question_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work fails after the wait and before the check whether the thread has ended."""
    may_fail = threading.Event()

    def fail() -> None:
        may_fail.wait(10)
        raise ValueError("damaged")

    work = WorkerThread(fail, name="test")
    thread = work._thread

    def ends_now() -> bool:
        may_fail.set()
        threading.Thread.join(thread, 10)
        return False

    monkeypatch.setattr(thread, "join", lambda timeout: None)
    monkeypatch.setattr(thread, "is_alive", ends_now)
    with pytest.raises(ValueError, match="damaged"):
        work.poll()


def test_a_thread_that_dies_before_its_work_does_not_pass_for_one_that_succeeded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seen on Python 3.11: a start failed in coverage's trace function, and a damaged file passed as an empty one."""
    monkeypatch.setattr(WorkerThread, "_run", lambda self: None)
    worker = WorkerThread(lambda: None, name="isvapp-write")
    with pytest.raises(RuntimeError, match="isvapp-write died before"):
        any(worker.poll() for _ in range(50))
    with pytest.raises(RuntimeError, match="isvapp-download died before"):
        list(Prefetch((item for item in "ab"), name="isvapp-download"))
