# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Salesforce accounts and apps, with every option, in a local file and on S3."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow import DAG
from airflow.timetables.interval import CronDataIntervalTimetable
from airflow.timetables.trigger import CronTriggerTimetable

from airflow_provider_isvapp.checks import MaxChange
from airflow_provider_isvapp.emulator import Emulator, Fault, ManualClock
from airflow_provider_isvapp.errors import AuditRefused, DestinationExists, LateSnapshot
from airflow_provider_isvapp.events import DownloadFinished, Event
from airflow_provider_isvapp.hooks.isvapp import IsvappHook
from airflow_provider_isvapp.hooks.productiv import ProductivHook
from airflow_provider_isvapp.operators.download import latest_snapshot
from airflow_provider_isvapp.operators.isvapp import IsvappFetchSalesforceAccountsOperator
from airflow_provider_isvapp.operators.productiv import ProductivFetchAppsOperator
from airflow_provider_isvapp.operators.storage_clients import resolve_destination
from airflow_provider_isvapp.version_compat import AirflowException, AirflowFailException, Asset
from tests.airflow.operators.conftest import Store
from tests.support import ROOT
from tests.support.task_context import task_context

OLD = b'{"old":true}\n'


def utc(*numbers: int) -> datetime:
    return datetime(*numbers, tzinfo=UTC)  # type: ignore[misc]


HOUR = {"data_interval_start": utc(2026, 3, 6, 5), "data_interval_end": utc(2026, 3, 6, 6)}


def run_of(schedule: Any, **run: Any) -> Any:
    """The context of a task in a run of a schedule."""
    dag = DAG("a_list", schedule=schedule, start_date=utc(2025, 1, 1))
    return task_context() | {"dag": dag, "dag_run": SimpleNamespace(**run)}


@dataclass
class VendorList:
    """A list of a vendor, and how it is fetched."""

    name: str
    endpoint: str
    rows_field: str
    operator: type[Any]
    request: dict[str, str]
    store: Store
    emulator: Emulator
    clock: ManualClock

    def run(self, name: str = "list", *, context: Any = None, **options: Any) -> dict[str, Any]:
        operator = self.operator(task_id="fetch", path=f"{self.store.root}/{name}", **options)
        result: dict[str, Any] = operator.execute(task_context() if context is None else context)
        return result

    def lines(self) -> bytes:
        """The whole list, as the vendor sends it."""
        if self.name == "apps":
            with ProductivHook() as productiv:
                rows = productiv.get_conn().list_apps().lines
        else:
            with IsvappHook() as isvapp:
                rows = isvapp.get_conn().salesforce_account_lines().lines
        return b"".join(row + b"\n" for row in rows)

    @property
    def key(self) -> str:
        """The key of a row."""
        return "ApplicationId" if self.name == "apps" else "salesforce_id"

    def snapshot_date(self) -> str:
        """The date that the list describes."""
        age = 1 if self.name == "apps" else 0
        return (self.clock.now() - timedelta(days=age)).date().isoformat()

    def spoil(self, **fault: Any) -> None:
        """Change the next response."""
        self.emulator.inject(Fault(endpoint=self.endpoint, **fault))


@pytest.fixture(params=["salesforce_accounts", "apps"])
def listed(
    request: pytest.FixtureRequest, store: Store, isvapp: Emulator, productiv: Emulator, clock: ManualClock
) -> VendorList:
    # The date of a list is the vendor's, not this machine's.
    clock.advance(40 * 24 * 3600)
    if request.param == "apps":
        return VendorList(
            name="apps",
            endpoint="productiv_apps",
            rows_field="Apps",
            operator=ProductivFetchAppsOperator,
            request={"path": "/pull/v1/apps"},
            store=store,
            emulator=productiv,
            clock=clock,
        )
    return VendorList(
        name="salesforce_accounts",
        endpoint="salesforce_accounts",
        rows_field="data",
        operator=IsvappFetchSalesforceAccountsOperator,
        request={"path": "/api/v1/salesforce_accounts"},
        store=store,
        emulator=isvapp,
        clock=clock,
    )


def test_a_written_list_is_reported_as_an_export_is(
    listed: VendorList, logs: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    monkeypatch.setattr("airflow_provider_isvapp.operators.download.record", events.append)
    asset, context = Asset(uri="s3://lake/list"), task_context()

    written = listed.run("list.gz", manifest=True, compression="gzip", outlets=[asset], context=context)

    plain, stored, path = listed.lines(), listed.store.read("list.gz"), f"{listed.store.root}/list.gz"
    assert gzip.decompress(stored) == plain
    manifest = f"{listed.store.root}/_list.gz.manifest.json"
    there = resolve_destination(path).target().info()
    assert there is not None
    assert there.version
    assert written == {
        "path": path,
        "outcome": "written",
        "rows": plain.count(b"\n"),
        "bytes": len(plain),
        "compressed_bytes": None,
        "drift": [],
        "crc32": f"{zlib.crc32(plain):08x}",
        "sizes_verified": None,
        "checks": [],
        "baseline": None,
        "export_id": None,
        "months": {},
        "snapshot_date": listed.snapshot_date(),
        "objects": [
            {
                "path": path,
                "rows": plain.count(b"\n"),
                "bytes": len(stored),
                "crc32": f"{zlib.crc32(stored):08x}",
                "sha256": hashlib.sha256(stored).hexdigest(),
                "reference_date": None,
                "version": there.version,
                "checksum": there.checksum,
            }
        ],
        "manifests": [manifest],
        "changes": None,
    }
    assert context["outlet_events"][asset].extra == written
    described = json.loads(listed.store.read("_list.gz.manifest.json"))
    assert described["request"] == listed.request
    assert described["source"]["snapshot_date"] == listed.snapshot_date()
    assert described["source"]["dataset"] == listed.name
    (event,) = events
    assert isinstance(event, DownloadFinished)
    assert (event.rows, event.bytes, event.compressed_bytes) == (written["rows"], len(plain), None)
    log_text = logs()
    assert f"Wrote {path}: {written['rows']} rows, {written['objects'][0]['bytes']:,} bytes in " in log_text
    assert f"; as of {listed.snapshot_date()}" in log_text
    assert f"Wrote its manifest, {manifest}" in log_text


@pytest.mark.parametrize("options", [{}, {"manifest": True, "if_exists": "fail"}, {"if_exists": "skip"}], ids=str)
def test_an_unchanged_list_is_not_written_again(listed: VendorList, options: dict[str, Any]) -> None:
    first, version = listed.run(**options), listed.store.version("list")

    again = listed.run(**options)

    assert again == {**first, "outcome": "unchanged", "objects": []}
    assert listed.store.version("list") == version


def test_an_existing_object_that_may_not_be_replaced_stays(listed: VendorList) -> None:
    listed.store.put("list", OLD)

    skipped = listed.run(if_exists="skip")
    with pytest.raises(AirflowFailException, match="exists, and if_exists is 'fail'") as caught:
        listed.run(if_exists="fail")

    assert isinstance(caught.value.__context__, DestinationExists)
    assert (skipped["outcome"], skipped["rows"], skipped["objects"]) == ("skipped", None, [])
    assert listed.store.read("list") == OLD
    assert listed.run()["outcome"] == "written"
    assert listed.store.read("list") == listed.lines()


@pytest.mark.parametrize("manifest", [False, True])
def test_an_empty_list_is_refused_and_fetched_again_by_a_retry(listed: VendorList, manifest: bool) -> None:
    listed.store.put("list", OLD)
    listed.spoil(kind="edit", replace={listed.rows_field: []})

    with pytest.raises(AirflowException, match=r"it has 0 rows, and min_rows is 1\. Set min_rows=0") as caught:
        listed.run(manifest=manifest)

    assert not isinstance(caught.value, AirflowFailException)
    assert isinstance(caught.value.__context__, AuditRefused)
    assert listed.store.read("list") == OLD
    assert listed.store.names() == ["list"]
    assert listed.run(manifest=manifest)["outcome"] == "written"


def test_an_empty_list_may_be_accepted(listed: VendorList) -> None:
    listed.store.put("list", OLD)
    listed.spoil(kind="edit", replace={listed.rows_field: []})

    assert listed.run(min_rows=0)["rows"] == 0
    assert listed.store.read("list") == b""


def test_a_list_that_shrinks_is_refused_and_can_be_accepted(listed: VendorList) -> None:
    def run(**options: Any) -> dict[str, Any]:
        return listed.run(checks=[MaxChange()], min_rows=0, **options)

    rows = run()["rows"]
    before = {name: listed.store.read(name) for name in listed.store.names()}
    listed.spoil(kind="edit", replace={listed.rows_field: []}, times=2)
    with pytest.raises(AirflowException, match=f"MaxChange: it has 0 rows, 100% fewer than the {rows} ") as caught:
        run(rejected_path=f"{listed.store.root}/rejected")
    assert not isinstance(caught.value, AirflowFailException)
    assert {name: listed.store.read(name) for name in listed.store.names()} == {**before, "rejected": b""}
    accepted = run(skip_checks="MaxChange")
    assert accepted["checks"] == [{"check": "MaxChange", "outcome": "skipped", "reason": None}]
    assert (accepted["rows"], accepted["baseline"]) == (0, f"{listed.store.root}/list")


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_excluded_fields_are_neither_stored_nor_in_the_schema(listed: VendorList, compression: str | None) -> None:
    gone, more = ("AppContacts", {"verbose": True}) if listed.name == "apps" else ("name", {})
    name = "list.gz" if compression else "list"
    operator = listed.operator(
        task_id="fetch",
        path=f"{listed.store.root}/{name}",
        exclude_fields=(gone,),
        compression=compression,
        **more,
    )

    written = operator.execute(task_context())

    stored = listed.store.read(name)
    rows = [json.loads(row) for row in (gzip.decompress(stored) if compression else stored).splitlines()]
    assert len(rows) == written["rows"] > 1
    assert f'"{gone}"' not in json.dumps(rows)
    assert "Instances" in rows[0] or "salesforce_id" in rows[0]
    (published,) = operator._published
    assert gone not in dict(published.fields)


def test_a_field_that_is_unknown_publishes_nothing(listed: VendorList) -> None:
    listed.store.put("list", OLD)

    with pytest.raises(AirflowFailException, match="'AppContcts': no row has it"):
        listed.run(exclude_fields=["AppContcts"], manifest=True)

    assert listed.store.read("list") == OLD
    assert listed.store.names() == ["list"]
    # Documented, but in none of the requested rows.
    documented = ["Instances[].AppContacts"] if listed.name == "apps" else ["health_scores[].score"]
    assert listed.run(exclude_fields=documented)["outcome"] == "written"
    assert listed.store.read("list") == listed.lines()


@pytest.mark.parametrize("kind", ["cut", "reset"])
def test_a_list_that_is_cut_in_the_middle_publishes_nothing(listed: VendorList, kind: str) -> None:
    listed.store.put("list", OLD)
    listed.spoil(kind=kind, at=0.5)

    with pytest.raises(AirflowException) as caught:
        listed.run(manifest=True)

    assert not isinstance(caught.value, AirflowFailException)
    assert listed.store.read("list") == OLD
    assert listed.store.names() == ["list"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output_format": "csv"}, "output_format must be 'ndjson' or 'parquet', not 'csv'"),
        ({"compression": "zstd"}, "compression must be None or 'gzip', not 'zstd'"),
        ({"if_exists": "append"}, "if_exists must be"),
        ({"min_rows": -1}, "min_rows must be"),
        ({"name": "{reference_date}"}, "{reference_date} is for exports"),
    ],
)
def test_a_wrong_argument_is_named_and_nothing_is_sent(
    listed: VendorList, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(AirflowFailException, match=re.escape(message)):
        listed.run(**arguments)
    assert listed.emulator.requests == []
    assert listed.store.names() == []


def test_a_task_that_is_killed_while_staging_leaves_the_old_object(listed: VendorList) -> None:
    listed.store.put("list", OLD)
    command = [sys.executable, "-m", "tests.airflow.operators.killed_list", listed.name, f"{listed.store.root}/list"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120, check=False)

    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert listed.store.read("list") == OLD
    assert listed.run()["outcome"] == "written"
    assert listed.store.read("list") == listed.lines()
    assert listed.store.names() == ["list"]


MONTHLY = "0 6 6 * *"
FEBRUARY = {"data_interval_start": utc(2026, 2, 6, 6), "data_interval_end": utc(2026, 3, 6, 6)}
NO_LENGTH = dict.fromkeys(("data_interval_start", "data_interval_end"), utc(2026, 3, 6, 6))
NO_INTERVAL = dict.fromkeys(("data_interval_start", "data_interval_end"))


@pytest.mark.parametrize(
    ("schedule", "run", "latest"),
    [
        # One interval after the run's own, of the same length.
        (CronDataIntervalTimetable(MONTHLY, timezone="UTC"), FEBRUARY, utc(2026, 4, 3, 6)),
        (CronDataIntervalTimetable("0 * * * *", timezone="UTC"), HOUR, utc(2026, 3, 6, 7)),
        # Without a length, until the next run.
        (CronTriggerTimetable(MONTHLY, timezone="UTC"), NO_LENGTH, utc(2026, 4, 6, 6)),
        (CronTriggerTimetable("30 6 * * *", timezone="UTC"), NO_LENGTH, utc(2026, 3, 6, 6, 30)),
        (timedelta(days=2), NO_LENGTH, utc(2026, 3, 8, 6)),
        ("@once", NO_LENGTH, None),
        # A partition of Airflow 3.2, which does not expose its date.
        (
            CronTriggerTimetable(MONTHLY, timezone="UTC"),
            {**NO_INTERVAL, "run_after": utc(2026, 3, 6, 6)},
            utc(2026, 4, 6, 6),
        ),
    ],
    ids=["interval", "hourly", "plain cron", "daily plain cron", "delta", "once", "partition of 3.2"],
)
@pytest.mark.parametrize("run_type", ["scheduled", "backfill"])
def test_a_run_is_late_one_interval_after_its_own(
    schedule: Any, run: dict[str, Any], latest: Any, run_type: str
) -> None:
    assert latest_snapshot(run_of(schedule, run_type=run_type, **run)) == latest


@pytest.mark.parametrize(
    ("run_type", "partition_date"),
    [
        ("scheduled", utc(2026, 2, 6, 6)),
        ("backfill", utc(2026, 2, 6, 6)),
        # Of a run that is triggered with a key, Airflow reads the date from the key.
        ("manual", utc(2026, 2, 1)),
    ],
)
def test_a_partition_is_late_two_intervals_after_its_date(run_type: str, partition_date: datetime) -> None:
    timetables = pytest.importorskip("airflow.sdk.definitions.timetables.trigger", reason="needs Airflow 3.2")
    schedule = timetables.CronPartitionTimetable(MONTHLY, timezone="UTC", run_offset=-1, key_format="%Y-%m")
    run = {**NO_INTERVAL, "run_after": utc(2026, 3, 6, 6), "partition_date": partition_date}
    assert latest_snapshot(run_of(schedule, run_type=run_type, **run)) == utc(2026, 4, 6, 6)


@pytest.mark.parametrize("run_type", ["manual", "asset_triggered", "dataset_triggered", "operator_triggered"])
def test_a_run_that_a_user_or_an_asset_started_is_never_late(run_type: str) -> None:
    schedule = CronDataIntervalTimetable(MONTHLY, timezone="UTC")
    assert latest_snapshot(run_of(schedule, run_type=run_type, **FEBRUARY)) is None


@pytest.mark.parametrize("days", [-1, 1])
def test_a_late_run_is_a_permanent_error_and_the_old_object_stays(listed: VendorList, days: int) -> None:
    listed.store.put("list", OLD)
    date = datetime.fromisoformat(listed.snapshot_date()).replace(tzinfo=UTC)
    # A daily run whose time ends some days before or after the date of the list.
    end = date - timedelta(days=1 + days)
    interval = {"data_interval_start": end - timedelta(days=1), "data_interval_end": end}
    context = run_of(CronDataIntervalTimetable("@daily", timezone="UTC"), run_type="scheduled", **interval)
    if days < 0:
        assert listed.run(context=context)["outcome"] == "written"
        return

    with pytest.raises(AirflowFailException, match=f"The list describes {listed.snapshot_date()}") as caught:
        listed.run(context=context, manifest=True)

    assert isinstance(caught.value.__context__, LateSnapshot)
    assert listed.store.read("list") == OLD
    assert listed.store.names() == ["list"]
    assert listed.run(context=context, allow_late_snapshot=True)["outcome"] == "written"
    dated = listed.run("{snapshot_date}", context=context)
    assert dated["path"] == f"{listed.store.root}/{listed.snapshot_date()}"


def rows_of(listed: VendorList, count: int) -> list[dict[str, Any]]:
    """Rows as documented, each with a different key."""
    first = json.loads(listed.lines().splitlines()[0])
    return [first | {listed.key: f"{number:015d}"} for number in range(1, count + 1)]


@pytest.mark.parametrize("place", [1, 3_000])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("empty", "row {place} has no {key}, which identifies it"),
        ("twice", "rows {other} and {place} have the same {key}"),
    ],
)
def test_rows_without_a_unique_key_publish_nothing(listed: VendorList, damage: str, message: str, place: int) -> None:
    listed.store.put("list", OLD)
    rows = rows_of(listed, 3_000)
    other = 1 if place > 1 else 2
    rows[place - 1] = {} if damage == "empty" else rows[other - 1]
    listed.spoil(kind="edit", replace={listed.rows_field: rows})

    first, second = sorted((other, place))
    expected = message.format(place=place if damage == "empty" else second, other=first, key=listed.key)
    with pytest.raises(AirflowException, match=expected) as caught:
        listed.run(manifest=True)

    assert not isinstance(caught.value, AirflowFailException)
    assert listed.store.read("list") == OLD
    assert listed.store.names() == ["list"]


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"New": 1}, "unknown_field", r"\$\.New is not documented"),
        ("wrong type", "wrong_type", r"\$\.\w+ is not of the documented type"),
        ("absent", "absent", r"\$\.\w+ is documented but absent"),
    ],
    ids=["new field", "wrong type", "absent field"],
)
def test_what_differs_from_the_documentation_is_reported_or_refused(
    listed: VendorList,
    change: Any,
    kind: str,
    sentence: str,
    logs: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events: list[Event] = []
    monkeypatch.setattr("airflow_provider_isvapp.operators.download.record", events.append)
    listed.store.put("list", OLD)
    rows = rows_of(listed, 3_001)
    name = "VendorName" if listed.name == "apps" else "name"
    if change == "absent":
        del rows[2_999][name]
    else:
        rows[2_999] |= {name: 5} if change == "wrong type" else change
    listed.spoil(kind="edit", replace={listed.rows_field: rows}, times=2)

    with pytest.raises(AirflowException, match=sentence + r" \(1 row, the first is row 3000\)"):
        listed.run(manifest=True, on_drift="fail")
    assert listed.store.read("list") == OLD
    assert listed.store.names() == ["list"]
    assert events == []

    asset, context = Asset(uri="s3://lake/list"), task_context()
    written = listed.run(outlets=[asset], context=context)

    (found,) = written["drift"]
    assert (found["kind"], found["rows"], found["first_row"]) == (kind, 1, 3_000)
    assert [json.loads(line) for line in listed.store.read("list").splitlines()] == rows
    assert context["outlet_events"][asset].extra["drift"] == [found]
    assert [event.drifted_fields for event in events if isinstance(event, DownloadFinished)] == [1]
    # Airflow 2.11 logs each line to two places.
    assert len(re.findall("differ from their documentation: " + sentence, logs())) in (1, 2)
