# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""How a month of an export compares with the stored one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.api.isvapp.models import ExportRequest
from airflow_provider_isvapp.api.settings import IsvappSettings
from airflow_provider_isvapp.errors import ExportRefused, InvalidArgument
from airflow_provider_isvapp.events import DownloadFinished, Event
from airflow_provider_isvapp.transfer.destination import Destination, local_destination
from airflow_provider_isvapp.transfer.manifest import manifest_of
from airflow_provider_isvapp.transfer.options import MONTH_PLACEHOLDER, WriteOptions
from airflow_provider_isvapp.transfer.restatements import MonthChange, MonthStatus, compare_month, missing_months
from airflow_provider_isvapp.transfer.results import Outcome, WriteResult
from airflow_provider_isvapp.transfer.summary import COUNTERS, MonthSummary, RowSummarizer
from tests.support import ROOT
from tests.support.downloads import download_with
from tests.support.file_server import FileResponse, FileServer, gzip_bytes, ndjson
from tests.support.object_stores import in_s3, moto, s3_client

pytest.importorskip("aiohttp", reason="the extra 'emulator' is not installed")

from airflow_provider_isvapp.emulator import Emulator, EmulatorConfig, Fault

MONTH = "2024-03"
LABELS = ("salesforce_account_name", "taxonomy_item_label", "taxonomy_label", "taxonomy_level_label")


def summarize(rows: list[dict[str, Any]]) -> MonthSummary:
    summarizer = RowSummarizer()
    summarizer.feed(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    summarizer.finish()
    return summarizer.summary().months[MONTH]


def _row(account: int, item: int, count: int) -> dict[str, Any]:
    return {
        "reference_date": MONTH,
        "salesforce_account_id": f"00100000000000{account}AAA",
        "taxonomy_item_id": f"item-{item}",
        **dict.fromkeys(LABELS, "Übersicht"),
        **dict.fromkeys(COUNTERS, str(count)),
    }


MONTHS = st.lists(st.builds(_row, st.integers(0, 4), st.integers(0, 4), st.integers(0, 2**60)), min_size=1, max_size=8)


@settings(max_examples=100, deadline=None)
@given(rows=MONTHS, seed=st.integers(0, 2**32), data=st.data())
def test_the_status_of_a_month_follows_from_its_rows(
    rows: list[dict[str, Any]], seed: int, data: st.DataObject
) -> None:
    """Any permutation is unchanged, any other name relabelled, and any changed, lost or doubled row restated."""
    stored = summarize(rows)
    rand = random.Random(seed)
    other = [dict(rand.sample(list(row.items()), len(row))) for row in rows]
    rand.shuffle(other)
    assert compare_month(summarize(other), stored) == MonthChange(status=MonthStatus.UNCHANGED)

    at = data.draw(st.integers(0, len(rows) - 1))
    others, row = rows[:at] + rows[at + 1 :], rows[at]
    label = data.draw(st.sampled_from(LABELS))
    assert compare_month(summarize([*others, row | {label: "renamed"}]), stored).status == MonthStatus.RELABELLED

    counter = data.draw(st.sampled_from(COUNTERS))
    more = compare_month(summarize([*others, row | {counter: str(int(row[counter]) + 5), label: "renamed"}]), stored)
    assert more.status == MonthStatus.RESTATED
    assert more.differences == {"rows": 0, "accounts": 0, **dict.fromkeys(COUNTERS, 0), counter: 5}
    doubled = compare_month(summarize([*rows, row]), stored)
    assert doubled.status == MonthStatus.RESTATED
    assert doubled.differences == {"rows": 1, "accounts": 0, **{name: int(row[name]) for name in COUNTERS}}
    moved = compare_month(summarize([*others, row | {"taxonomy_item_id": "other"}]), stored)
    assert (moved.status, set(moved.differences.values())) == (MonthStatus.RESTATED, {0})  # type: ignore[union-attr]
    if others:
        lost = compare_month(summarize(others), stored)
        assert lost.status == MonthStatus.RESTATED
        assert lost.differences == {
            "rows": -1,
            "accounts": summarize(others).accounts - stored.accounts,
            **{name: -int(row[name]) for name in COUNTERS},
        }


def test_a_month_that_cannot_be_compared_is_new() -> None:
    assert compare_month(summarize([_row(1, 1, 1)]), None) == MonthChange(status=MonthStatus.NEW)


def test_a_counter_that_appears_or_disappears_is_in_the_differences() -> None:
    row = _row(1, 1, 7)
    without = {name: value for name, value in row.items() if name != "operations"}
    assert compare_month(summarize([row]), summarize([without])).differences["operations"] == 7  # type: ignore[index]
    assert compare_month(summarize([without]), summarize([row])).differences["operations"] == -7  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (MonthChange(status=MonthStatus.RELABELLED), "relabelled"),
        (
            MonthChange(status=MonthStatus.RESTATED, differences={"rows": -1200, "accounts": 0, "operations": 5}),
            "restated (-1,200 rows, +5 operations)",
        ),
        (MonthChange(status=MonthStatus.RESTATED, differences={"rows": 0}), "restated (the sums are the same)"),
    ],
)
def test_a_change_is_read_as_it_was_written_and_names_the_differences(change: MonthChange, text: str) -> None:
    assert str(change) == text
    assert MonthChange.from_json(json.loads(json.dumps(change.as_json()))) == change
    assert MonthChange.from_json({"status": "other"}) is None
    assert MonthChange.from_json(None) is None


@pytest.mark.parametrize(
    ("found", "stored", "expected", "missing"),
    [
        # The requested months.
        (["2024-02"], ["2024-01", "2024-02", "2024-03"], ["2024-02", "2024-03"], ("2024-03",)),
        ([], ["2024-02"], ["2024-02"], ("2024-02",)),
        (["2024-02"], ["2023-02"], ["2024-01", "2024-02"], ()),
        # The latest months: the newest, one in the middle, and one that has left the window.
        (["2024-01", "2024-02"], ["2024-01", "2024-02", "2024-03"], 3, ("2024-03",)),
        (["2024-01", "2024-03"], ["2024-01", "2024-02"], 3, ("2024-02",)),
        (["2024-02", "2024-03"], ["2023-12", "2024-01"], 2, ()),
        # Unknown.
        (["2024-01", "2024-03"], ["2023-12", "2024-02", "2024-04"], None, ("2024-02",)),
        ([], ["2024-02"], None, ()),
    ],
)
def test_a_stored_month_that_was_requested_is_missing(
    found: list[str], stored: list[str], expected: Any, missing: tuple[str, ...]
) -> None:
    assert missing_months(found, stored, expected) == missing


# Against the emulator, with restated months.


class NoLimit:
    """The emulator accepts any number of requests here."""

    def acquire(self) -> Any:
        return ExitStack()

    def block_for(self, seconds: float) -> None:
        pass


class Lake:
    """Twelve months of an emulator at a destination."""

    def __init__(self, emulator: Emulator, client: IsvappClient, destination: Destination) -> None:
        self.emulator = emulator
        self.client = client
        self.destination = destination
        self.events: list[Event] = []

    def fetch(self, **options: Any) -> WriteResult:
        """Fetch the latest twelve months and compare them."""
        request = ExportRequest.checked(timeframe="LATEST_12_COMPLETED_MONTHS", taxonomy_ids=["all"])
        export_id = self.client.create_export(request).id
        defaults = {"partition_by": "reference_date", "if_changed": "publish", "expected_months": 12}
        return download_with(
            partial(self.client.open_download, export_id),
            self.destination,
            export_id=export_id,
            sleep=lambda seconds: None,
            observe=self.events.append,
            **{**defaults, **options},
        )

    def restate(self, month: str, restatement: str) -> None:
        """Let the emulator change a month from the next export on."""
        fault = Fault(endpoint="create_export", kind="month_restated", month=month, restatement=restatement, times=None)
        self.emulator.inject(fault)

    def place(self, month: str) -> Destination:
        return self.destination.with_value(MONTH_PLACEHOLDER, month)

    def stored(self, months: list[str]) -> dict[str, Any]:
        """Return versions and bytes of the objects and their manifests."""
        found = {}
        for month in months:
            for item in (self.place(month), manifest_of(self.place(month))):
                there = item.target().info()
                assert there is not None
                found[item.uri] = (there.version, read(item))
        return found


@pytest.fixture(scope="module")
def client() -> Iterator[tuple[Emulator, IsvappClient]]:
    with Emulator(EmulatorConfig(rows=100, export_seconds=0.0, requests_per_second=None)) as emulator:
        access = IsvappSettings.from_connection(
            login=emulator.client_id, password=emulator.client_secret, host=emulator.url
        )
        with IsvappClient(access, limiter=NoLimit(), sleep=lambda seconds: None) as client:
            yield emulator, client


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def lake(client: tuple[Emulator, IsvappClient], tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Lake]:
    """A lake on the storage of the fixture ``store`` if the test uses it, or else in local files."""
    with ExitStack() as running:
        if "store" in request.fixturenames and request.getfixturevalue("store") == "s3":
            s3 = s3_client(running.enter_context(moto()))
            s3.create_bucket(Bucket="lake")
            destination = in_s3(s3, "lake/usage/{reference_date}.ndjson")
        else:
            destination = local_destination(str(tmp_path / "usage" / "{reference_date}.ndjson"))
        client[0].clear_faults()
        yield Lake(*client, destination)
        client[0].clear_faults()


def statuses(result: WriteResult) -> dict[str, str]:
    assert result.changes is not None
    return {month: str(change.status) for month, change in result.changes.items()}


def test_exactly_the_restated_month_is_published(lake: Lake, store: str) -> None:
    first = lake.fetch()
    months = list(first.months)
    assert statuses(first) == dict.fromkeys(months, "new")
    assert (len(months), len(first.objects), len(first.manifests), first.outcome) == (12, 12, 12, Outcome.WRITTEN)
    before = lake.stored(months)

    again = lake.fetch()
    assert statuses(again) == dict.fromkeys(months, "unchanged")
    assert (again.objects, again.manifests, again.outcome) == ((), (), Outcome.UNCHANGED)
    assert lake.stored(months) == before

    march = months[4]
    lake.restate(march, "counters")
    third = lake.fetch()
    assert statuses(third) == dict.fromkeys(months, "unchanged") | {march: "restated"}
    assert third.outcome is Outcome.WRITTEN
    assert [item.reference_date for item in third.objects] == [march]
    assert third.manifests == (manifest_of(lake.place(march)).uri,)
    after = lake.stored(months)
    changed = {uri for uri in after if after[uri] != before[uri]}
    assert changed == {lake.place(march).uri, manifest_of(lake.place(march)).uri}
    plain = lake.emulator.export_bytes(third.export_id or "").splitlines(keepends=True)
    expected = b"".join(line for line in plain if json.loads(line)["reference_date"] == march)
    assert after[lake.place(march).uri][1] == expected
    assert third.changes is not None
    differences = third.changes[march].differences
    old = summarize_stored(before[lake.place(march).uri][1], march)
    new = summarize_stored(expected, march)
    assert differences == {
        "rows": 0, "accounts": 0, **{name: new.counters[name] - old.counters[name] for name in COUNTERS}
    }  # fmt: skip
    assert any(differences.values())
    assert statuses(lake.fetch()) == dict.fromkeys(months, "unchanged")
    finished = [event.restated_months for event in lake.events if isinstance(event, DownloadFinished)]
    assert finished == [0, 0, 1, 0]


def summarize_stored(lines: bytes, month: str) -> MonthSummary:
    summarizer = RowSummarizer()
    summarizer.feed(lines)
    summarizer.finish()
    return summarizer.summary().months[month]


@pytest.mark.parametrize("output_format", ["ndjson", "parquet"])
def test_each_change_of_a_month_is_detected(lake: Lake, output_format: str) -> None:
    if output_format == "parquet":
        pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    months = list(lake.fetch(output_format=output_format).months)
    before = lake.stored(months)
    restated = {
        "order": "unchanged",
        "serializer": "unchanged",
        "accounts_renamed": "relabelled",
        "counters": "restated",
        "rows_lost": "restated",
        "rows_doubled": "restated",
    }
    expected = dict.fromkeys(months, "unchanged") | dict(zip(months, restated.values(), strict=False))
    for month, restatement in zip(months, restated, strict=False):
        lake.restate(month, restatement)
    result = lake.fetch(output_format=output_format)
    assert statuses(result) == expected
    published = [month for month in months if expected[month] != "unchanged"]
    assert [item.reference_date for item in result.objects] == published
    after = lake.stored(months)
    assert {uri for uri in after if after[uri] != before[uri]} == {
        item.uri for month in published for item in (lake.place(month), manifest_of(lake.place(month)))
    }


def test_a_month_in_another_form_is_new(lake: Lake) -> None:
    """Even with equal rows: the stored format is not the requested one."""
    months = list(lake.fetch().months)
    then = {"exclude_fields": ["salesforce_account_name"]}
    assert statuses(lake.fetch(**then)) == dict.fromkeys(months, "new")
    assert statuses(lake.fetch(**then, validate="full")) == dict.fromkeys(months, "unchanged"), "the same rows"
    if find_spec("pyarrow") is not None:
        assert statuses(lake.fetch(**then, output_format="parquet")) == dict.fromkeys(months, "new")


def test_a_month_whose_manifest_does_not_describe_it_is_new(lake: Lake, store: str) -> None:
    months = list(lake.fetch().months)
    replaced, emptied, junk, other = map(lake.place, months[:4])
    for place, text in (
        (replaced, read(replaced).split(b"\n", 1)[1]),
        (manifest_of(emptied), b""),
        (manifest_of(junk), b"[]"),
        (manifest_of(other), read(manifest_of(lake.place(months[4])))),
    ):
        staged = place.target().stage(exclusive=False, content_type="text/plain", provenance=None)
        staged.write(text)
        staged.flush()
        staged.commit()
    expected = dict.fromkeys(months, "unchanged") | dict.fromkeys(months[:4], "new")
    assert statuses(lake.fetch()) == expected
    assert statuses(lake.fetch()) == dict.fromkeys(months, "unchanged")


def read(place: Destination) -> bytes:
    with place.target().open() as file:
        return file.read()


def test_the_result_of_a_retry_has_the_months_that_an_earlier_try_published(lake: Lake) -> None:
    """Even with a new export, since a try that fails may have lost the old one."""
    months = list(lake.fetch(task_run="dag/may/export/-1").months)
    lake.restate(months[2], "rows_lost")
    lost = lake.fetch(task_run="dag/june/export/-1")
    retry = lake.fetch(task_run="dag/june/export/-1")
    assert retry.changes == lost.changes
    assert statuses(retry)[months[2]] == "restated"
    assert (retry.objects, retry.outcome) == ((), Outcome.UNCHANGED), "it is there already"
    assert statuses(lake.fetch(task_run="dag/july/export/-1")) == dict.fromkeys(months, "unchanged")
    assert statuses(lake.fetch()) == dict.fromkeys(months, "unchanged")


def test_a_month_without_rows_stays_and_is_missing(lake: Lake) -> None:
    months = list(lake.fetch().months)
    before = lake.stored(months)
    lake.emulator.inject(Fault(endpoint="create_export", kind="month_missing", month=months[-1], times=None))
    assert statuses(lake.fetch()) == dict.fromkeys(months, "unchanged") | {months[-1]: "missing"}
    with pytest.raises(ExportRefused, match="months: 11, requested: 12"):
        lake.fetch(require_months=True)
    assert lake.stored(months) == before
    lake.emulator.clear_faults()
    assert statuses(lake.fetch()) == dict.fromkeys(months, "unchanged")


def test_a_refused_export_is_not_compared(lake: Lake) -> None:
    months = list(lake.fetch().months)
    before = lake.stored(months)
    lake.restate(months[0], "rows_lost")
    with pytest.raises(ExportRefused, match="min_rows is 1200"):
        lake.fetch(min_rows=1200)
    assert lake.stored(months) == before


@pytest.mark.parametrize("options", [{"partition_by": None}, {"if_exists": "skip"}, {"if_exists": "fail"}])
def test_it_needs_months_that_are_replaced(lake: Lake, options: dict[str, Any]) -> None:
    destination = lake.destination if options.get("partition_by", ...) is not None else lake.place("x")
    with pytest.raises(InvalidArgument, match="if_changed='publish' needs partition_by"):
        download_with(
            lambda **_: pytest.fail("requested"),
            destination,
            **{"partition_by": "reference_date", "if_changed": "publish", **options},
        )


def test_it_needs_rows_that_are_documented() -> None:
    options = WriteOptions(partition_by="reference_date", if_changed="publish")
    options.check_for_type("TAXONOMY_ITEM")
    with pytest.raises(
        InvalidArgument, match="if_changed='publish' needs documented rows, and the type 'NEW' has none"
    ):
        options.check_for_type("NEW")
    with pytest.raises(InvalidArgument, match="if_changed must be None for a list"):
        WriteOptions(if_changed="publish").check_for_list("/lake/accounts")


KILLED = """
import os, signal, sys
from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.api.schema.isvapp import ExportStatus
from airflow_provider_isvapp.transfer.destination import local_destination
from airflow_provider_isvapp.transfer.staging.local import LocalFile
from tests.support.doubles import AnyRow
from tests.support.downloads import download_with
from tests.support.file_server import Source

commit = LocalFile.commit
seen = []

def killed(self):
    info = commit(self)
    seen.append(self)
    if len(seen) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return info

LocalFile.commit = killed
download_with(
    Source(sys.argv[1], Export(id="e-2", status=ExportStatus.COMPLETED), 10.0),
    local_destination(sys.argv[2]),
    partition_by="reference_date",
    if_changed="publish",
)
"""


@pytest.mark.parametrize(
    ("commits", "then"),
    [
        # After the first object; after both and the first manifest.
        (1, {"2024-02": "new", "2024-03": "restated"}),
        (3, {"2024-02": "unchanged", "2024-03": "new"}),
    ],
)
def test_a_month_that_a_killed_run_left_without_its_manifest_is_new(
    tmp_path: Path, commits: int, then: dict[str, str]
) -> None:
    """The existing manifest describes the previous object, and does not count."""
    target = tmp_path / "{reference_date}.ndjson"
    old, new = (ndjson(rows, months=tuple(then)) for rows in (40, 60))
    options = {"partition_by": "reference_date", "if_changed": "publish"}
    with FileServer(FileResponse(gzip_bytes(old))) as server:
        download_with(server.source(), local_destination(str(target)), **options)
    with FileServer(FileResponse(gzip_bytes(new))) as server:
        ended = subprocess.run(
            [sys.executable, "-c", KILLED, server.url, str(target), str(commits)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            check=False,
        )
        assert ended.returncode == -signal.SIGKILL
        result = download_with(server.source(), local_destination(str(target)), **options)
        assert statuses(result) == then
        again = download_with(server.source(), local_destination(str(target)), **options)
    assert statuses(again) == dict.fromkeys(then, "unchanged")
    for month in then:
        expected = b"".join(line for line in new.splitlines(keepends=True) if month.encode() in line)
        assert (tmp_path / f"{month}.ndjson").read_bytes() == expected
