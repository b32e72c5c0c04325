# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import jinja2
import pytest

from airflow_provider_isvapp.api.isvapp.models import ExportRequest
from airflow_provider_isvapp.errors import (
    AuthenticationRefused,
    InvalidArgument,
    NotFound,
    PermissionRefused,
    RequestRefused,
)
from airflow_provider_isvapp.operators.creation import (
    MONTH_OF_RUN,
    NO_DATA_INTERVAL,
    checked_timeframe,
    next_request_time,
    requested_months,
)

REFUSED = RequestRefused("ISVapp refused POST /api/v1/exports (422): not complete", status=422)
TEN_DAYS = timedelta(days=10)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class TestAskAgain:
    @pytest.mark.parametrize(
        ("timeframe", "now", "again"),
        [
            ("2024-02", "2024-03-01 00:00", "2024-03-01 01:00"),
            ("2024-02", "2024-03-05 06:00", "2024-03-05 07:00"),
            ("2024-02", "2024-03-10 23:30", "2024-03-11 00:00"),
            ("2023-12", "2024-01-04 06:00", "2024-01-04 07:00"),
        ],
    )
    def test_a_month_that_ended_lately_is_not_complete_yet(self, timeframe: str, now: str, again: str) -> None:
        assert next_request_time(timeframe, REFUSED, wait_for_month=TEN_DAYS, now=moment(now)) == moment(again)

    @pytest.mark.parametrize("status", [200, 400, 422])
    def test_the_statuses_that_may_mean_it(self, status: int) -> None:
        refusal = RequestRefused("refused", status=status)

        assert next_request_time("2024-02", refusal, wait_for_month=TEN_DAYS, now=moment("2024-03-05"))

    def test_at_the_deadline_the_refusal_is_final_and_names_it(self) -> None:
        with pytest.raises(RequestRefused, match=r"not complete The month ended at 2024-03-01 .* ended at 2024-03-11"):
            next_request_time("2024-02", REFUSED, wait_for_month=TEN_DAYS, now=moment("2024-03-11 00:00"))

    @pytest.mark.parametrize(
        ("timeframe", "now"),
        [
            ("2024-02", "2024-02-29 23:59"),
            ("2024-03", "2024-03-05 06:00"),
            ("LATEST_COMPLETED_MONTH", "2024-03-05 06:00"),
            ("LATEST_12_COMPLETED_MONTHS", "2024-03-05 06:00"),
        ],
    )
    def test_a_refusal_of_any_other_timeframe_is_final(self, timeframe: str, now: str) -> None:
        with pytest.raises(RequestRefused) as caught:
            next_request_time(timeframe, REFUSED, wait_for_month=TEN_DAYS, now=moment(now))
        assert caught.value is REFUSED

    @pytest.mark.parametrize(
        ("now", "hints"),
        [("2024-02-28 06:00", True), ("2024-03-04 06:00", True), ("2024-03-31 23:59", True), ("2024-04-01", False)],
    )
    def test_without_a_wait_the_refusal_of_a_recent_month_says_how_to_wait(self, now: str, hints: bool) -> None:
        with pytest.raises(RequestRefused) as caught:
            next_request_time("2024-02", REFUSED, wait_for_month=None, now=moment(now))
        hint = " If ISVapp has not completed 2024-02 yet, set wait_for_month, or clear this task later."
        assert str(caught.value) == str(REFUSED) + hint * hints
        assert caught.value.status == 422

    @pytest.mark.parametrize(
        "refusal",
        [
            AuthenticationRefused("no", status=401),
            PermissionRefused("no", status=403),
            NotFound("no", status=404),
            RequestRefused("no", status=409),
        ],
    )
    def test_a_refusal_with_another_reason_is_final(self, refusal: RequestRefused) -> None:
        with pytest.raises(RequestRefused) as caught:
            next_request_time("2024-02", refusal, wait_for_month=TEN_DAYS, now=moment("2024-03-05"))
        assert caught.value is refusal


class TestMonthOfRun:
    @pytest.mark.parametrize(
        ("start", "end", "zone", "month"),
        [
            ("2024-02-06 06:00", "2024-03-06 06:00", "UTC", "2024-02"),
            # The first of February in Berlin and in Honolulu.
            ("2024-01-31 23:00", "2024-02-29 23:00", "Europe/Berlin", "2024-02"),
            ("2024-02-01 10:00", "2024-03-01 10:00", "Pacific/Honolulu", "2024-02"),
            # A plain cron of Airflow 3, and a run without a logical date.
            ("2024-03-06 06:00", "2024-03-06 06:00", "UTC", NO_DATA_INTERVAL),
            (None, None, "UTC", NO_DATA_INTERVAL),
        ],
    )
    def test_is_the_month_in_which_the_data_interval_begins(
        self, start: str | None, end: str | None, zone: str, month: str
    ) -> None:
        run = SimpleNamespace(
            data_interval_start=None if start is None else moment(start),
            data_interval_end=None if end is None else moment(end),
        )

        rendered = jinja2.Template(MONTH_OF_RUN).render(dag_run=run, dag=SimpleNamespace(timezone=ZoneInfo(zone)))

        assert rendered == month

    @pytest.mark.parametrize(
        ("key", "month"), [("2024-03", "2024-03"), ("2024-03-06T06:00:00", "2024-03-06T06:00:00"), (None, "2024-02")]
    )
    def test_is_the_partition_key_of_a_partitioned_run(self, key: str | None, month: str) -> None:
        run = SimpleNamespace(
            partition_key=key, data_interval_start=moment("2024-02-06"), data_interval_end=moment("2024-03-06")
        )
        template = jinja2.Template(MONTH_OF_RUN, undefined=jinja2.StrictUndefined)

        assert template.render(dag_run=run, dag=SimpleNamespace(timezone=UTC)) == month

    def test_a_run_without_one_names_what_to_pass(self) -> None:
        with pytest.raises(
            InvalidArgument,
            match=r"no partition key and no data interval .* Pass timeframe, .* CronDataIntervalTimetable",
        ):
            checked_timeframe(NO_DATA_INTERVAL, partition_key=None)

    @pytest.mark.parametrize("key", ["2024-02-06T06:00:00", "2024_02", "2024-13", "LATEST_COMPLETED_MONTH", ""])
    def test_the_error_of_an_invalid_partition_key_names_the_timetable(self, key: str) -> None:
        with pytest.raises(
            InvalidArgument, match=f"{re.escape(repr(key))}, is not a month .YYYY-MM.. Set the timetable's key_format"
        ) as caught:
            checked_timeframe(key, partition_key=key)

        timetables = pytest.importorskip("airflow.sdk.definitions.timetables.trigger", reason="needs Airflow 3.2")
        (line,) = re.findall(r"CronPartitionTimetable\(.*?\)", str(caught.value))
        timetable = eval(line, {"CronPartitionTimetable": timetables.CronPartitionTimetable})
        assert (timetable.run_offset, timetable.key_format) == (-1, "%Y-%m")

    @pytest.mark.parametrize("timeframe", ["2024-02", "LATEST_COMPLETED_MONTH"])
    def test_an_explicit_timeframe_needs_no_partition_key(self, timeframe: str) -> None:
        assert checked_timeframe(timeframe, partition_key="2024-02-06T06:00:00") == timeframe


def test_the_vendor_chooses_the_months_of_a_keyword() -> None:
    def months(timeframe: str, **fields: Any) -> tuple[str, ...] | int | None:
        return requested_months(ExportRequest.checked(timeframe=timeframe, taxonomy_ids=["t1"], **fields))

    assert months("2024-02") == ("2024-02",)
    assert months("LATEST_COMPLETED_MONTH") == 1
    assert months("LATEST_12_COMPLETED_MONTHS") == 12
    assert months("2024-02", aggregation="WEEKLY", extra_request={}) is None
