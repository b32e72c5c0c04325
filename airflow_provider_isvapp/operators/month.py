# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Which month to ask for, and what to do when ISVapp has not completed it.

ISVapp completes a month around the 5th of the next one and refuses to export it before. Its documentation names neither
a status nor a message for that refusal, so the decision here rests on what is known for sure: which month was asked
for, how long ago it ended, and that the refusal is not about credentials, permissions or an unknown id.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from airflow_provider_isvapp.api.isvapp.export_request import TimeframeKeyword
from airflow_provider_isvapp.errors import InvalidArgument, RequestRefused

# What the template says where there is no month to take.
NO_DATA_INTERVAL = "no data interval"
# The month in which the run's data interval begins, as the DAG's time zone sees it. A run without an interval has none
# or, from a timetable such as Airflow 3's plain cron, one that ends as it begins.
MONTH_OF_RUN = (
    "{{ dag_run.data_interval_start.astimezone(dag.timezone).strftime('%Y-%m')"
    " if dag_run.data_interval_start and dag_run.data_interval_start != dag_run.data_interval_end"
    f" else '{NO_DATA_INTERVAL}' }}}}"
)

ASK_AGAIN_AFTER = timedelta(hours=1)

# 200 is a refusal, too: the vendor documents the failure's JSON, and not its status.
_REFUSED_AS_IT_IS = (200, 400, 422)
_COUNTS: dict[str, int] = {
    TimeframeKeyword.LATEST_COMPLETED_MONTH: 1,
    TimeframeKeyword.LATEST_12_COMPLETED_MONTHS: 12,
}
_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")


def checked_timeframe(timeframe: str) -> str:
    """Refuse what :data:`MONTH_OF_RUN` says about a run without a data interval."""
    if timeframe == NO_DATA_INTERVAL:
        raise InvalidArgument(
            "timeframe: this run has no data interval to take the month from. Pass timeframe, for example "
            "timeframe=\"{{ params.month }}\" or 'LATEST_COMPLETED_MONTH', or schedule the DAG with "
            "CronDataIntervalTimetable."
        )
    return timeframe


def ask_again_at(timeframe: str, refusal: RequestRefused, *, wait_for_month: timedelta, now: datetime) -> datetime:
    """Say when to ask again for a month that was refused.

    Only a month that has ended, less than ``wait_for_month`` ago, can be "not complete yet".

    :param now: the present time, aware.
    :return: a moment that is not after the deadline, which is ``wait_for_month`` after the month's end in UTC.
    :raises RequestRefused: if the refusal is final.
    """
    month = _MONTH.fullmatch(timeframe)
    # An error below RequestRefused has a reason of its own: credentials, permission, unknown id.
    if month is None or type(refusal) is not RequestRefused or refusal.status not in _REFUSED_AS_IT_IS:
        raise refusal
    end = _end_of_month(int(month[1]), int(month[2]))
    if now < end:
        raise refusal
    deadline = end + wait_for_month
    if now >= deadline:
        raise RequestRefused(
            f"{refusal} The month ended at {end:%Y-%m-%d %H:%M} UTC, and wait_for_month was over at "
            f"{deadline:%Y-%m-%d %H:%M} UTC.",
            status=refusal.status,
        )
    return min(now + ASK_AGAIN_AFTER, deadline)


def _end_of_month(year: int, month: int) -> datetime:
    return datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)


def requested_months(timeframe: str) -> tuple[str, ...] | int:
    """Return the months that a timeframe stands for; how many, if only the vendor knows which."""
    return _COUNTS.get(timeframe, (timeframe,))
