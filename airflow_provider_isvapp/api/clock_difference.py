# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""How far this machine's clock is from the vendor's, by the ``Date`` header of its answers (RFC 9110, 6.6.1)."""

from __future__ import annotations

import email.utils
from datetime import UTC

# Longer than an answer takes and than a synchronised clock is off; shorter than what an expiry could hang on.
TOLERANCE = 60.0


def http_date(value: str | None) -> float | None:
    """Read an HTTP date (RFC 9110, 5.6.7) as seconds since the epoch; None for anything else, the absurd included."""
    if value is None:
        return None
    try:
        moment = email.utils.parsedate_to_datetime(value)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)  # "-0000" is UTC of an unknown zone
        return aware.timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def seconds_ahead(date: str | None, *, now: float) -> float | None:
    """Return how far ``now`` is ahead of a ``Date`` header, or None where there is none that can be read.

    :param now: seconds since the epoch, of the moment in which the answer arrived.
    """
    moment = http_date(date)
    return None if moment is None else now - moment


def clock_warning(ahead: float | None, *, vendor: str) -> str:
    """Say that the clocks differ, what that does and what to do; nothing where they agree or it is not known.

    :param ahead: see :func:`seconds_ahead`.
    """
    if ahead is None or abs(ahead) <= TOLERANCE:
        return ""
    return (
        f"This machine's clock is {_in_words(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} {vendor}'s. "
        "Set it (NTP): tokens and exports expire by the vendor's clock and are judged by this one, so that good ones "
        "can be taken for expired and expired ones for good."
    )


def _in_words(seconds: float) -> str:
    whole = round(seconds)
    if whole < 600:
        return f"{whole} s"
    return f"{round(seconds / 60)} min" if whole < 2 * 3600 else f"{seconds / 3600:.1f} h"
