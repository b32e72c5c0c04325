# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A process that uses a limiter and prints its events.

``python -m tests.unit.ratelimit.worker STORAGE KEY TASK SECONDS``
"""

from __future__ import annotations

import sys
import time

from airflow_provider_isvapp.ratelimit import open_limiter


def say(word: str) -> None:
    print(word, time.monotonic(), flush=True)


def main(storage: str, key: str, task: str, seconds: str = "0") -> None:
    limiter = open_limiter(storage, key=key, requests_per_second=2)
    if task == "block":
        limiter.block_for(float(seconds))
        say("pushed")
        return
    say("ready")  # imports are over
    sys.stdin.readline()
    if task == "hold":
        with limiter.acquire():
            say("sent")
            time.sleep(60)
    end = time.monotonic() + float(seconds)
    while True:
        with limiter.acquire():
            say("sent")
        if time.monotonic() >= end:
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
