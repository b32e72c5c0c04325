# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Replacements for a client's limiter and clock."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from airflow_provider_isvapp.api.schema.fields import Object


class RecordingLimiter:
    """Grants each permit immediately and records its calls; the real limiters have their own tests."""

    def __init__(self) -> None:
        self.permits = 0
        self.blocked_for: list[float] = []

    def acquire(self) -> AbstractContextManager[None]:
        self.permits += 1
        return nullcontext()

    def block_for(self, seconds: float) -> None:
        self.blocked_for.append(seconds)


class FakeTime:
    """A clock that moves only when a caller sleeps on it."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


class AnyRow(Object, forbid_unknown_fields=False):
    """A row without documented fields: any object matches."""
