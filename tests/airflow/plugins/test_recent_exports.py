# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
from __future__ import annotations

import asyncio
import threading

import pytest

from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.errors import ProviderError
from airflow_provider_isvapp.plugins.export_list import ExportListCache, Reading


class Vendor:
    """Counts its calls, and responds when the test allows it."""

    def __init__(self) -> None:
        self.requested: list[str] = []
        self.was_asked = threading.Event()
        self.open = threading.Event()
        self.open.set()
        self.error: Exception | None = None

    def __call__(self, conn_id: str) -> list[Export]:
        self.requested.append(conn_id)
        self.was_asked.set()
        assert self.open.wait(10)
        if self.error:
            raise self.error
        return [Export.from_record({"id": f"{conn_id}-{len(self.requested)}", "status": "PENDING"})]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def vendor() -> Vendor:
    return Vendor()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recent(vendor: Vendor, clock: Clock) -> ExportListCache:
    return ExportListCache(vendor, keep_seconds=5, clock=clock)


def ids(reading: Reading) -> list[str]:
    return [export.id for export in reading.exports]


def test_ten_viewers_at_once_cost_one_request(recent: ExportListCache, vendor: Vendor) -> None:
    async def ten() -> list[Reading]:
        vendor.open.clear()
        viewers = [asyncio.create_task(recent.of("a")) for _ in range(10)]
        await asyncio.to_thread(vendor.was_asked.wait, 10)
        vendor.open.set()
        return await asyncio.gather(*viewers)

    readings = asyncio.run(ten())

    assert vendor.requested == ["a"]
    assert all(ids(reading) == ["a-1"] for reading in readings)


def test_a_reading_is_cached_for_a_few_seconds(recent: ExportListCache, vendor: Vendor, clock: Clock) -> None:
    async def read_three_times() -> list[Reading]:
        readings = [await recent.of("a")]
        clock.now += 4.9
        readings.append(await recent.of("a"))
        clock.now += 0.2
        return [*readings, await recent.of("a")]

    first, second, third = asyncio.run(read_three_times())

    assert second is first
    assert ids(third) == ["a-2"]


def test_connections_are_read_apart(recent: ExportListCache, vendor: Vendor) -> None:
    async def both() -> list[Reading]:
        return [await recent.of("a"), await recent.of("b")]

    assert [ids(reading) for reading in asyncio.run(both())] == [["a-1"], ["b-2"]]


def test_a_failure_is_cached_too(recent: ExportListCache, vendor: Vendor, clock: Clock) -> None:
    vendor.error = ProviderError("The secret is wrong.")

    async def read_twice() -> list[Reading]:
        readings = [await recent.of("a"), await recent.of("a")]
        vendor.error = None
        clock.now += 6
        return [*readings, await recent.of("a")]

    first, second, third = asyncio.run(read_twice())

    assert (first.error, first.exports) == ("The secret is wrong.", ())
    assert second is first
    assert (third.error, ids(third)) == (None, ["a-2"])


def test_an_unexpected_error_is_raised_to_all_viewers_and_not_cached(recent: ExportListCache, vendor: Vendor) -> None:
    async def two_and_one() -> tuple[list[Reading | BaseException], Reading]:
        vendor.error = OSError("The database is gone.")
        both = await asyncio.gather(recent.of("a"), recent.of("a"), return_exceptions=True)
        vendor.error = None
        return both, await recent.of("a")  # type: ignore[return-value]

    both, later = asyncio.run(two_and_one())

    assert [type(outcome) for outcome in both] == [OSError, OSError]
    assert ids(later) == ["a-2"]


def test_a_viewer_who_leaves_does_not_end_the_reading_for_others(recent: ExportListCache, vendor: Vendor) -> None:
    async def one_leaves() -> Reading:
        vendor.open.clear()
        leaving, staying = (asyncio.create_task(recent.of("a")) for _ in range(2))
        await asyncio.to_thread(vendor.was_asked.wait, 10)
        leaving.cancel()
        await asyncio.wait([leaving])
        vendor.open.set()
        return await staying

    assert ids(asyncio.run(one_leaves())) == ["a-1"]
    assert vendor.requested == ["a"]
