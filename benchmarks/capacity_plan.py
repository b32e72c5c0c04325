# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""What a simulated sync consists of: one frozen value, checked, that the command line mirrors."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

# Beyond this a simulation takes minutes, and the answer is known.
MOST_EXPORTS = 20_000


class Tasks(StrEnum):
    """The operators that make an export."""

    ONE = "one"
    THREE = "three"
    WAITING = "waiting"


class Auth(StrEnum):
    """What a connection authenticates with."""

    OAUTH2 = "oauth2"
    API_KEY = "api-key"


def number(text: str) -> float:
    """Read a number of seconds, megabytes or the like.

    :raises ValueError: says what is wrong with the text.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not a number")
    return value


def whole(text: str) -> int:
    """Read a whole number."""
    if not re.fullmatch(r"-?\d+", text):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def span(text: str) -> tuple[float, float]:
    """Read ``120`` or ``30-600``."""
    first, dash, last = text.partition("-")
    return (number(first), number(last if dash else first))


def _option(
    default: Any, read: Callable[[str], Any], help_text: str, *, least: float = 0.0, above: bool = False
) -> Any:
    return field(default=default, metadata={"read": read, "help": help_text, "least": least, "above": above})


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A sync and the machines that it runs on."""

    exports: int = _option(12, whole, "exports in the sync", least=0)
    accounts: int = _option(1, whole, "tasks that fetch the Salesforce accounts", least=0)
    apps: int = _option(1, whole, "tasks that fetch Productiv's apps, which has a limit of its own", least=0)
    first_tasks: int = _option(0, whole, "tasks that the exports wait for, one after the other")
    tasks: Tasks = _option(  # noqa: RUF009 (it is a dataclass field)
        Tasks.ONE, Tasks, "what makes an export: one deferred task, three tasks, or one waiting in its worker"
    )

    workers: int = _option(2, whole, "worker machines or pods", least=1)
    slots: int = _option(8, whole, "tasks that a worker runs at once (worker_concurrency)", least=1)
    active_tasks: int = _option(16, whole, "tasks of a DAG that Airflow runs at once (max_active_tasks)", least=1)
    cores: float = _option(2.0, number, "processors of a worker", above=True)
    triggerers: int = _option(1, whole, "triggerers", least=1)
    start_seconds: float = _option(2.0, number, "processor time to start a task's process, in seconds")
    cold_seconds: float = _option(0.0, number, "what workers that have just started lose at first, in seconds")
    hop_seconds: float = _option(1.0, number, "from one part of Airflow to the next, in seconds")
    poll_interval: float = _option(30.0, number, "the most seconds between two looks at an export", above=True)

    requests_per_second: float = _option(2.0, number, "the vendor's limit", least=0.01)
    latency: float = _option(0.15, number, "from a request to its answer, in seconds")
    auth: Auth = _option(Auth.OAUTH2, Auth, "what the connection authenticates with")  # noqa: RUF009
    export_seconds: tuple[float, float] = _option(
        (30.0, 600.0), span, "how long the vendor works on an export, in seconds: a number, or the ends of a range"
    )
    megabytes: float = _option(20.0, number, "size of an export's file as downloaded, in MB")
    task_bandwidth: float = _option(20.0, number, "what one download reaches, in MB/s", above=True)
    bandwidth: float = _option(100.0, number, "what all downloads together reach, in MB/s", above=True)
    seed: int = _option(1, whole, "other seed, other chance")

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        :raises ValueError: names the option.
        """
        for option in fields(self):
            given = getattr(self, option.name)
            least, above = option.metadata["least"], option.metadata["above"]
            for value in given if isinstance(given, tuple) else [given]:
                if isinstance(value, int | float) and (value < least or (above and value == least)):
                    bound = "greater than" if above else "at least"
                    raise ValueError(f"{_words(option.name)} must be {bound} {least:g}, not {value:g}")
        if self.export_seconds[0] > self.export_seconds[1]:
            raise ValueError(f"export seconds: the range {self.export_seconds} ends before it begins")

    @property
    def task_slots(self) -> int:
        """How many tasks run at once."""
        return min(self.workers * self.slots, self.active_tasks)


def _words(name: str) -> str:
    return name.replace("_", " ")
