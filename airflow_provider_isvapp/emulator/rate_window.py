# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""At most so many requests in any second, for each credential."""

from __future__ import annotations

from collections import defaultdict, deque

WINDOW_SECONDS = 1.0


class RateWindow:
    """A sliding window: a refused request does not count, so a caller who waits long enough is always served.

    :param limit: requests accepted in any window, or None for no limit.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._accepted: defaultdict[str, deque[float]] = defaultdict(deque)

    def admit(self, credential: str, at: float) -> float | None:
        """Let a request pass, or say how many seconds from now the next one can.

        :param credential: whose request it is.
        :param at: its monotonic time of arrival.
        """
        if self._limit is None:
            return None
        accepted = self._accepted[credential]
        while accepted and at - accepted[0] >= WINDOW_SECONDS:
            accepted.popleft()
        if len(accepted) >= self._limit:
            return WINDOW_SECONDS - (at - accepted[0])
        accepted.append(at)
        return None

    def clear(self) -> None:
        """Forget the past."""
        self._accepted.clear()
