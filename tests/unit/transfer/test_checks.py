# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A result that fails a check is not published, and the existing object stays."""

from __future__ import annotations

import functools
import json
import logging
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.checks import Candidate, MaxChange, TotalsAddUp, UniqueKeys
from airflow_provider_isvapp.errors import (
    CheckError,
    CheckFailed,
    ExportCheckFailed,
    ExportRefused,
    InvalidArgument,
    StorageFailed,
)
from airflow_provider_isvapp.events import ChecksFailed, DownloadFinished
from airflow_provider_isvapp.transfer.destination import local_destination
from airflow_provider_isvapp.transfer.lists import write_list
from airflow_provider_isvapp.transfer.manifest import read_baseline
from airflow_provider_isvapp.transfer.options import WriteOptions
from airflow_provider_isvapp.transfer.results import CheckResult, Outcome, WriteResult
from airflow_provider_isvapp.transfer.summary import KeyIndex, MonthSummary, RepeatedKeys, RowSummarizer, Summary
from tests.support import ROOT
from tests.support.doubles import AnyRow
from tests.support.downloads import download_with
from tests.support.file_server import FileResponse, FileServer, gzip_bytes, ndjson

MONTHS = ("2024-02", "2024-03")
BOTH = ["MaxChange", "UniqueKeys"]
BY_MONTH = {"partition_by": "reference_date"}


def download(path: Path, plain: bytes, **arguments: Any) -> WriteResult:
    arguments = {"attempts": 3, "sleep": lambda seconds: None, "checks": [MaxChange()], **arguments}
    for name in ("baseline", "rejected"):
        if name in arguments:
            arguments[name] = local_destination(str(arguments[name]))
    with FileServer(FileResponse(gzip_bytes(plain))) as server:
        return download_with(server.source(), local_destination(str(path)), **arguments)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "gzip"}, {"output_format": "parquet"}, {"exclude_fields": ["taxonomy_label"]}],
    ids=str,
)
def test_a_month_that_halves_its_rows_is_refused_and_can_be_accepted(tmp_path: Path, options: dict[str, Any]) -> None:
    if options.get("output_format") == "parquet":
        pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    path = tmp_path / "x.gz"
    first = download(path, ndjson(40, MONTHS), **options)
    assert (first.checks, first.baseline) == ((CheckResult(check="MaxChange", outcome="passed"),), None)
    before = files(tmp_path)
    # February has 4 rows instead of 20, and March as many as before.
    shrunk = ndjson(8, MONTHS) + ndjson(16, MONTHS[1:])

    with pytest.raises(ExportCheckFailed) as caught:
        download(path, shrunk, **options)

    assert caught.value.permanent
    assert str(caught.value) == (
        "Export e-1 did not pass its checks. MaxChange: 2024-02 has 4 rows, 80% fewer than the 20 of the baseline, and "
        f"50% is allowed; {caught.value.reasons['MaxChange'].partition('; ')[2]}. Nothing was published. To "
        "publish it anyway, set skip_checks='MaxChange'."
    )
    assert "2024-02 has" in caught.value.reasons["MaxChange"].partition("; ")[2]
    assert files(tmp_path) == before
    accepted = download(path, shrunk, skip_checks="MaxChange", **options)
    assert accepted.checks == (CheckResult(check="MaxChange", outcome="skipped"),)
    assert accepted.baseline == str(path)
    # It is the baseline from now on.
    again = download(path, shrunk, **options)
    assert (again.checks, again.baseline) == ((CheckResult(check="MaxChange", outcome="passed"),), str(path))


def test_each_month_is_compared_with_its_own_object(tmp_path: Path) -> None:
    path = tmp_path / "{reference_date}"
    assert download(path, ndjson(40, MONTHS), **BY_MONTH).baseline is None
    before = files(tmp_path)
    with pytest.raises(ExportCheckFailed, match=r"2024-03 has 8 rows, 60% fewer than the 20"):
        download(path, ndjson(40, MONTHS[:1]) + ndjson(8), **BY_MONTH, checks=[MaxChange(rows=0.5, operations=None)])
    assert files(tmp_path) == before
    (tmp_path / "_2024-03.manifest.json").unlink()
    result = download(path, ndjson(24, MONTHS[:1]) + ndjson(8), **BY_MONTH, checks=[MaxChange(operations=None)])
    assert result.baseline == str(path)


def test_another_path_is_the_baseline(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    january = tmp_path / "2024-01"
    download(january, ndjson(40, ["2024-01"]))
    with pytest.raises(ExportCheckFailed, match=r"it has 10 rows, 75% fewer than the 40"):
        download(tmp_path / "2024-02", ndjson(10, ["2024-02"]), baseline=january)
    (reason,) = (message for message in caplog.messages if message.startswith("Check MaxChange: failed: "))
    assert "it has 10 rows, 75% fewer than the 40 of the baseline, and 50% is allowed" in reason
    result = download(tmp_path / "2024-02", ndjson(30, ["2024-02"]), baseline=january)
    assert result.baseline == str(january)
    missing = tmp_path / "2023-12"
    assert download(tmp_path / "2024-03", ndjson(1), baseline=missing).baseline is None
    assert f"No baseline: no object with a summary in its manifest at {missing}" in caplog.messages


def killed(url: str, path: Path) -> None:
    command = [sys.executable, "-m", "tests.unit.transfer.killed_download", url, str(path), "without manifest"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def test_a_process_that_is_killed_between_object_and_manifest_leaves_no_baseline(tmp_path: Path) -> None:
    path = tmp_path / "x"
    download(path, ndjson(40))
    old = (tmp_path / "_x.manifest.json").read_bytes()
    with FileServer(FileResponse(gzip_bytes(ndjson(30)))) as server:
        killed(server.url, path)

    assert path.read_bytes() == ndjson(30)
    assert (tmp_path / "_x.manifest.json").read_bytes() == old
    assert read_baseline(local_destination(str(path))) is None
    # 12 are too few for 40 and for 30, but no valid summary has those numbers.
    assert download(path, ndjson(12)).baseline is None
    assert set(files(tmp_path)) == {"x", "_x.manifest.json"}


def test_an_existing_export_must_pass_a_new_check(tmp_path: Path) -> None:
    path = tmp_path / "x"
    doubled = ndjson(3) + ndjson(1)
    download(path, doubled, export_id="e-1")
    assert download(path, doubled, export_id="e-1").outcome is Outcome.UNCHANGED
    with pytest.raises(ExportCheckFailed, match=r"UniqueKeys: 1 rows have the .* first are rows 1 and 4"):
        download(path, doubled, export_id="e-1", checks=[MaxChange(), UniqueKeys()])
    assert download(path, doubled, export_id="e-1", checks=[UniqueKeys()], skip_checks=True).outcome is (
        Outcome.UNCHANGED
    )


@pytest.mark.parametrize("options", [{}, BY_MONTH], ids=str)
def test_a_refused_result_can_be_kept_for_inspection(tmp_path: Path, options: dict[str, Any]) -> None:
    names = "{reference_date}.ndjson" if options else "x.ndjson"
    (tmp_path / "rejected").mkdir()
    events: list[Any] = []
    doubled = ndjson(2) + ndjson(1)
    with pytest.raises(ExportCheckFailed, match=r"rows 1 and 3\..* It is kept at .*rejected.* for inspection\.$"):
        download(
            tmp_path / names,
            doubled,
            checks=[UniqueKeys(), MaxChange()],
            rejected=tmp_path / "rejected" / names,
            observe=events.append,
            min_rows=1,
            **options,
        )
    kept = names.replace("{reference_date}", "2024-03")
    assert (tmp_path / "rejected" / kept).read_bytes() == doubled
    assert [path.name for path in tmp_path.iterdir()] == ["rejected"]
    assert events == [ChecksFailed(checks=1)]
    assert not any(isinstance(event, DownloadFinished) for event in events)


def test_a_result_that_cannot_be_kept_is_refused_nevertheless(tmp_path: Path) -> None:
    rejected = tmp_path / "rejected"

    def refuse(candidate: Candidate) -> str:
        rejected.mkdir()
        return "never"

    with pytest.raises(ExportCheckFailed, match=r"refuse: never\..* It could not be kept at .*rejected: "):
        download(tmp_path / "x", ndjson(1), checks=[refuse], rejected=rejected)


def test_all_checks_run_after_the_rules(tmp_path: Path) -> None:
    calls = []

    def first(candidate: Candidate) -> str:
        calls.append(candidate)
        return "one"

    checks: list[Callable[..., Any]] = [first, functools.partial(lambda sign, candidate: f"{sign}two", "+")]
    with pytest.raises(ExportRefused, match="min_rows is 9"):
        download(tmp_path / "x", ndjson(3), min_rows=9, checks=checks)
    assert calls == []
    with pytest.raises(ExportCheckFailed) as caught:
        download(tmp_path / "x", ndjson(3), checks=checks)
    assert caught.value.reasons == {"first": "one", "<lambda>": "+two"}
    (candidate,) = calls
    assert candidate.rows == candidate.summary.rows == candidate.summary.months["2024-03"].rows == 3


def test_a_check_that_raises_is_named(tmp_path: Path) -> None:
    def careless(candidate: Candidate) -> str | None:
        raise KeyError("2024-01")

    def confused(candidate: Candidate) -> Any:
        return True

    with pytest.raises(CheckError, match=r"The check careless raised KeyError: '2024-01'\. Nothing was published"):
        download(tmp_path / "x", ndjson(1), checks=[careless])
    with pytest.raises(CheckError, match=r"The check confused returned True\. It must return None, or a string"):
        download(tmp_path / "x", ndjson(1), checks=[confused])
    assert files(tmp_path) == {}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"checks": "MaxChange"}, "checks must be a list of functions"),
        ({"checks": [MaxChange]}, r"checks: MaxChange is a class; pass an instance: MaxChange\(\)"),
        ({"skip_checks": "UniqueKey"}, "skip_checks: 'UniqueKey' is not one of the checks: they are MaxChange"),
        ({"skip_checks": 1}, "skip_checks must be names of checks, or True for all, not 1"),
        ({"skip_checks": "[MaxChange]"}, r"skip_checks: '\[MaxChange\]' is not a JSON list"),
        (
            {"checks": [], "skip_checks": "MaxChange"},
            "skip_checks: 'MaxChange' is not one of the checks: there are none",
        ),
        ({"checks": [UniqueKeys()], "exclude_fields": ["taxonomy_item_id"]}, "UniqueKeys needs taxonomy_item_id"),
        ({"checks": [TotalsAddUp()], "exclude_fields": ["operations"]}, "TotalsAddUp needs operations"),
        ({"rejected": "/tmp/x/{reference_date}"}, "without partition_by, it must not"),
    ],
    ids=str,
)
def test_wrong_arguments_are_named_before_anything_is_requested(
    tmp_path: Path, arguments: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        download(tmp_path / "x", ndjson(1), **arguments)
    with pytest.raises(InvalidArgument, match="equals path"):
        download(tmp_path / "x", ndjson(1), rejected=tmp_path / "x")


@pytest.mark.parametrize("share", [0, -1, "0.5", True, float("nan")])
def test_a_share_is_a_number_above_zero(share: Any) -> None:
    with pytest.raises(InvalidArgument, match="MaxChange: rows must be a share above 0 or None"):
        MaxChange(rows=share)


@pytest.mark.parametrize(
    ("skip", "skipped"),
    [
        (None, []), (False, []), ("", []), ("False", []), ("None", []), ([], []), ("[]", []),
        (True, BOTH), ("true", BOTH), ("UniqueKeys", ["UniqueKeys"]),
        (" UniqueKeys , MaxChange", BOTH), ('["MaxChange"]', ["MaxChange"]),
    ],
    ids=str,
)  # fmt: skip
def test_skip_checks_accepts_the_texts_of_a_template(skip: Any, skipped: list[str]) -> None:
    options = WriteOptions(checks=[MaxChange(), UniqueKeys()], skip_checks=skip)
    assert sorted(options.skipped_checks) == skipped
    assert options.indexes_keys is ("UniqueKeys" not in skipped)


def month(rows: int, **counters: int) -> MonthSummary:
    return MonthSummary(rows=rows, bytes=rows, accounts=1, counters=counters, digest="0", digest_unnamed="0")


def summary(**months: MonthSummary) -> Summary:
    named = {name.replace("m", "2024-"): found for name, found in months.items()}
    return Summary(rows=sum(found.rows for found in named.values()), bytes=1, months=named)


def candidate(found: Summary, baseline: Summary | None = None, **more: Any) -> Candidate:
    from airflow_provider_isvapp.transfer.staging.base import Provenance

    staged = Provenance(format="ndjson", rows=found.rows, bytes=found.bytes)
    return Candidate(staged=staged, replaces_rows=lambda: False, figures=found, baseline=baseline, **more)


@pytest.mark.parametrize(
    ("found", "baseline", "problem"),
    [
        (summary(m01=month(50)), summary(m01=month(100)), None),
        (summary(m01=month(49)), summary(m01=month(100)), "2024-01 has 49 rows, 51% fewer than the 100"),
        (summary(m01=month(151)), summary(m01=month(100)), "2024-01 has 151 rows, 51% more than the 100"),
        (summary(m01=month(9)), summary(m01=month(0)), None),
        (summary(m01=month(0)), summary(m01=month(9)), "2024-01 has 0 rows, 100% fewer than the 9"),
        # Only the month that both have counts: the window has moved by one month.
        (summary(m02=month(9), m03=month(90)), summary(m01=month(9), m02=month(9)), None),
        (summary(m01=month(9), m03=month(9)), summary(m01=month(9), m02=month(9), m03=month(9)), "2024-02 has 0 rows"),
        (summary(m02=month(4)), summary(m01=month(9)), "it has 4 rows, 56% fewer than the 9"),
        (Summary(rows=4, bytes=1), Summary(rows=9, bytes=1), "it has 4 rows, 56% fewer than the 9"),
        (
            summary(m01=month(9, operations=10**30)),
            summary(m01=month(9, operations=4 * 10**30)),
            "2024-01 has 1,000,000,000,000,000,000,000,000,000,000 operations, 75% fewer",
        ),
        (summary(m01=month(9)), summary(m01=month(9, operations=5)), "2024-01 has 0 operations, 100% fewer than the 5"),
        (summary(m01=month(9, operations=5)), summary(m01=month(9)), None),
    ],
)  # fmt: skip
def test_max_change_refuses_large_changes(found: Summary, baseline: Summary, problem: str | None) -> None:
    reason = MaxChange()(candidate(found, baseline))
    assert reason is None if problem is None else problem in (reason or "")
    assert MaxChange()(candidate(found)) is None
    assert MaxChange(rows=None, operations=None)(candidate(found, baseline)) is None


@pytest.mark.parametrize(
    ("counters", "problem"),
    [
        ({"operations": 5, "operations_internal": 2, "operations_external": 3}, None),
        ({"operations": 6, "operations_internal": 2, "operations_external": 3}, "2024-01 has 6 operations, and 5 int"),
        ({"operations": 5, "operations_internal": 5}, "2024-01 has no operations_external"),
    ],
)
def test_totals_add_up(counters: dict[str, int], problem: str | None) -> None:
    reason = TotalsAddUp()(candidate(summary(m01=month(1, **counters))))
    assert reason is None if problem is None else problem in (reason or "")


def keys_of(rows: Iterable[dict[str, Any]]) -> RepeatedKeys | None:
    index = KeyIndex()
    summarizer = RowSummarizer(keys=index)
    for row in rows:
        summarizer.feed(json.dumps(row).encode() + b"\n")
    found = index.repeated()
    index.close()
    return found


def key(month: str = "2024-01", account: str = "0" * 18, item: Any = "i", **more: Any) -> dict[str, Any]:
    return {"reference_date": month, "salesforce_account_id": account, "taxonomy_item_id": item, **more}


def test_only_rows_with_the_same_month_account_and_item_repeat_a_key() -> None:
    apart = [key(), key(month="2024-02"), key(account="1" * 18), key(item="j"), key(item=None), key(item="I")]
    assert keys_of(apart) is None
    # An account id with and without its checksum is the same account.
    assert keys_of([*apart, key(account="0" * 15, operations="7")]) == RepeatedKeys(rows=1, first=(1, 7))
    assert keys_of([*apart, *apart, key()]) == RepeatedKeys(rows=7, first=(1, 13))


def test_a_disk_that_has_no_room_for_the_keys_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    index = KeyIndex()
    index.close()
    with pytest.raises(StorageFailed, match=r"UniqueKeys needs about 100 bytes per row there: set TMPDIR"):
        index.repeated()


def write(path: Path, *rows: bytes, **options: Any) -> WriteResult:
    places = {name: local_destination(str(options.pop(name))) for name in ("baseline", "rejected") if name in options}
    return write_list(
        rows, local_destination(str(path)), dataset="apps", row_type=AnyRow, options=WriteOptions(**options), **places
    )


def test_a_list_is_checked_and_fetched_again_by_a_retry(tmp_path: Path) -> None:
    checks = [MaxChange()]
    assert write(tmp_path / "x", *[b"{}"] * 10, checks=checks).baseline is None
    before = files(tmp_path)
    with pytest.raises(
        CheckFailed, match=r"The list apps did not pass its checks\. MaxChange: it has 4 rows"
    ) as caught:
        write(tmp_path / "x", *[b"{}"] * 4, checks=checks, rejected=tmp_path / "rejected")
    assert not caught.value.permanent
    assert files(tmp_path) == {**before, "rejected": b"{}\n" * 4}
    accepted = write(tmp_path / "x", *[b"{}"] * 4, checks=checks, skip_checks="true")
    assert (accepted.rows, accepted.checks[0].outcome, accepted.baseline) == (4, "skipped", str(tmp_path / "x"))
    for check in (UniqueKeys(), TotalsAddUp()):
        with pytest.raises(InvalidArgument, match=r"needs the fields .*, and a list has no such fields"):
            write(tmp_path / "x", b"{}", checks=[check])
