# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""HTTP dates, and how far this machine's clock is from the vendor's by the ``Date`` header (RFC 9110, 6.6.1)."""

from __future__ import annotations

import email.utils
from datetime import UTC

# Longer than a response takes and than a synchronised clock is off; shorter than any margin before an expiry.
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


def clock_skew(date: str | None, *, now: float) -> float | None:
    """Return how far ``now`` is ahead of a ``Date`` header, or None where there is none that can be read.

    :param now: seconds since the epoch, when the response arrived.
    """
    moment = http_date(date)
    return None if moment is None else now - moment


def clock_warning(skew: float | None, *, vendor: str) -> str:
    """Describe the difference of the clocks, its effect and the fix; empty where they agree or it is not known.

    :param skew: see :func:`clock_skew`.
    """
    if skew is None or abs(skew) <= TOLERANCE:
        return ""
    return (
        f"This machine's clock is {_duration(abs(skew))} {'ahead of' if skew > 0 else 'behind'} {vendor}'s. "
        "Set it (NTP): tokens and exports expire by the vendor's clock and are judged by this one, so valid ones "
        "may be treated as expired, and vice versa."
    )


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 600:
        return f"{whole} s"
    return f"{round(seconds / 60)} min" if whole < 2 * 3600 else f"{seconds / 3600:.1f} h"
