# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Results of exports that an operator refuses to publish: missing months, too few rows, malformed rows, checks."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow import DAG
from airflow.serialization import serialized_objects

from airflow_provider_isvapp.checks import Candidate, MaxChange
from airflow_provider_isvapp.emulator import Emulator, Fault, ManualClock
from airflow_provider_isvapp.operators.isvapp import (
    IsvappDownloadExportOperator,
    IsvappExportOperator,
)
from airflow_provider_isvapp.version_compat import AirflowException, AirflowFailException
from tests.airflow.operators.conftest import Store, create_operator, export_to
from tests.support.task_context import TaskStateStore, run_to_its_end, task_context

# SerializedDAG before Airflow 3.2.
DAG_SERIALIZATION: Any = vars(serialized_objects).get("DagSerialization") or vars(serialized_objects)["SerializedDAG"]
OLD_CONTENT = b'{"what was": "here before"}\n'
pytestmark = pytest.mark.usefixtures("quick_polls")


class TestChecks:
    def test_a_refused_month_requests_a_new_export_and_can_be_accepted(
        self, store: Store, isvapp: Emulator, finish_exports: Callable[[Any], None]
    ) -> None:
        def run(context: Any, **arguments: Any) -> Any:
            arguments = {"checks": [MaxChange(), lambda candidate: None], **arguments}
            return run_to_its_end(
                lambda: export_to(
                    f"{store.root}/usage", timeframe="2024-02", min_rows=0, deferrable=False, **arguments
                ),
                context,
            )

        def lose_the_month() -> None:
            isvapp.inject(Fault(endpoint="create_export", kind="month_missing", month="2024-02"))

        first = run(task_context())
        assert first["baseline"] is None
        assert [(item["check"], item["outcome"]) for item in first["checks"]] == [
            ("MaxChange", "passed"),
            ("<lambda>", "passed"),
        ]
        before = {name: store.read(name) for name in store.names()}
        assert set(before) == {"usage", "_usage.manifest.json"}
        lose_the_month()
        context = task_context(TaskStateStore())
        refused = r"checks\. MaxChange: it has 0 rows, 100% fewer than the 200 of .* A retry of this task creates a new"
        with pytest.raises(AirflowException, match=refused):
            run(context, rejected_path=f"{store.root}/rejected")
        assert {name: store.read(name) for name in store.names()} == {**before, "rejected": b""}
        again = run(context)
        assert (again["rows"], again["baseline"]) == (200, f"{store.root}/usage")
        assert isvapp.request_counts()["create_export"] == 3
        lose_the_month()
        accepted = run(task_context(), skip_checks="True")
        assert (accepted["rows"], accepted["baseline"]) == (0, f"{store.root}/usage")
        assert {item["outcome"] for item in accepted["checks"]} == {"skipped"}
        assert store.read("usage") == b""

    def test_the_single_download_fails_at_once(self, store: Store, isvapp: Emulator, clock: ManualClock) -> None:
        export_id = create_operator(timeframe="2024-02").execute(task_context())
        clock.advance(61)
        operator = IsvappDownloadExportOperator(
            task_id="download",
            export_id=export_id,
            path=f"{store.root}/usage",
            checks=[lambda candidate: "never"],
            rejected_path=f"{store.root}/rejected",
        )
        with pytest.raises(AirflowFailException, match=r"did not pass its checks\. <lambda>: never"):
            operator.execute(task_context())
        assert store.names() == ["rejected"]
        assert store.read("rejected") == isvapp.export_bytes(export_id)

    def test_a_dag_is_stored_with_them_and_is_the_same_at_every_parse(self) -> None:
        """Airflow stores a new version of a DAG whose serialized form has changed."""

        def at_least(rows: int, candidate: Candidate) -> str | None:
            return None if candidate.rows >= rows else "too few"

        def stored() -> str:
            checks = [MaxChange(), lambda candidate: None, functools.partial(at_least, 1)]
            with DAG("checked", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
                export_to(Path("/lake/usage"), checks=checks)
                IsvappExportOperator.partial(task_id="mapped", taxonomy_ids=["taxonomy"], checks=checks).expand(
                    path=["/lake/usage"]
                )
            return json.dumps(DAG_SERIALIZATION.to_dict(dag), sort_keys=True)

        assert stored() == stored()
        read = DAG_SERIALIZATION.from_dict(json.loads(stored()))
        assert sorted(read.task_ids) == ["export", "mapped"]


class TestRequiredMonths:
    def test_a_missing_month_is_named_and_the_old_object_stays(
        self, isvapp: Emulator, tmp_path: Path, finish_exports: Callable[[Any], None]
    ) -> None:
        isvapp.inject(Fault(endpoint="create_export", kind="month_missing", month="2024-02"))
        file = tmp_path / "usage"
        file.write_bytes(OLD_CONTENT)
        context = task_context(TaskStateStore())

        def run() -> Any:
            return run_to_its_end(
                lambda: export_to(file, timeframe="2024-02", require_months=True, deferrable=False), context
            )

        with pytest.raises(AirflowException, match="no rows of requested months: 2024-02"):
            run()
        assert file.read_bytes() == OLD_CONTENT
        assert run()["months"] == {"2024-02": 200}
        assert isvapp.request_counts()["create_export"] == 2

    def test_a_gap_in_twelve_months_is_named(
        self, isvapp: Emulator, tmp_path: Path, finish_exports: Callable[[Any], None]
    ) -> None:
        latest = datetime.now(UTC).replace(day=1)
        gone = (latest - timedelta(days=150)).strftime("%Y-%m")
        isvapp.inject(Fault(endpoint="create_export", kind="month_missing", month=gone))
        operator = export_to(
            tmp_path / "{reference_date}",
            timeframe="LATEST_12_COMPLETED_MONTHS",
            partition_by="reference_date",
            require_months=True,
            deferrable=False,
        )

        with pytest.raises(AirflowException, match=f"no rows of {gone}, between"):
            operator.execute(task_context())
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("months", ["2024-02", ["2024-02"]])
    def test_the_single_download_takes_the_months(
        self, isvapp: Emulator, clock: ManualClock, tmp_path: Path, months: Any
    ) -> None:
        isvapp.inject(Fault(endpoint="create_export", kind="month_missing", month="2024-02", after=1))
        exports = [create_operator(timeframe="2024-02").execute(task_context()) for _ in range(2)]
        clock.advance(61)

        def download(export_id: str) -> Any:
            return IsvappDownloadExportOperator(
                task_id="download",
                export_id=export_id,
                path=str(tmp_path / "usage"),
                expected_months=months,
                require_months=True,
            ).execute(task_context())

        assert download(exports[0])["months"] == {"2024-02": 200}
        with pytest.raises(AirflowException, match="no rows of requested months: 2024-02"):
            download(exports[1])

    def test_the_single_download_needs_the_expected_months(self, isvapp: Emulator, tmp_path: Path) -> None:
        operator = IsvappDownloadExportOperator(
            task_id="download", export_id="export-1", path=str(tmp_path / "usage"), require_months=True
        )

        with pytest.raises(AirflowFailException, match="require_months needs expected_months"):
            operator.execute(task_context())
        assert isvapp.requests == []


class TestMinRows:
    """An export without rows, at the path of an object with rows."""

    @pytest.fixture(autouse=True)
    def no_rows(self, isvapp: Emulator) -> None:
        isvapp.inject(Fault(endpoint="create_export", kind="month_missing", month="2024-02"))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, r"it has no rows, and the object at the path has some\. Set min_rows=0"),
            ({"min_rows": 10}, r"it has 0 rows, and min_rows is 10\. Set min_rows=0"),
        ],
    )
    def test_the_next_try_of_the_one_task_requests_a_new_export(
        self, isvapp: Emulator, tmp_path: Path, finish_exports: Any, options: dict[str, Any], message: str
    ) -> None:
        file = tmp_path / "usage"
        file.write_bytes(OLD_CONTENT)
        context = task_context(TaskStateStore())

        def run() -> Any:
            return export_to(file, timeframe="2024-02", deferrable=False, **options).execute(context)

        with pytest.raises(AirflowException, match=message) as caught:
            run()
        assert not isinstance(caught.value, AirflowFailException)
        assert file.read_bytes() == OLD_CONTENT
        assert list(tmp_path.iterdir()) == [file]
        assert run()["rows"] == 200
        assert isvapp.request_counts()["create_export"] == 2

    def test_the_single_download_fails_at_once_since_its_file_stays_the_same(
        self, isvapp: Emulator, clock: ManualClock, tmp_path: Path
    ) -> None:
        file = tmp_path / "usage"
        file.write_bytes(OLD_CONTENT)
        export_id = create_operator(timeframe="2024-02").execute(task_context())
        clock.advance(61)

        def download(**options: Any) -> Any:
            return IsvappDownloadExportOperator(
                task_id="download", export_id=export_id, path=str(file), **options
            ).execute(task_context())

        with pytest.raises(AirflowFailException, match="it has no rows, and the object at the path has some"):
            download()
        assert file.read_bytes() == OLD_CONTENT
        assert download(min_rows=0)["outcome"] == "written"
        assert file.read_bytes() == b""


class TestMalformedRows:
    """Malformed rows in a file that matches its record. Rows that are too long by an option count as malformed."""

    def test_the_one_task_downloads_once_and_its_next_try_requests_a_new_export(
        self, isvapp: Emulator, tmp_path: Path, finish_exports: Any
    ) -> None:
        context = task_context(TaskStateStore())

        def run(**options: Any) -> Any:
            return export_to(tmp_path / "usage", timeframe="2024-02", deferrable=False, **options).execute(context)

        with pytest.raises(
            AirflowException, match=r"line 1 is longer than 99 bytes.*A retry of this task creates a new export"
        ):
            run(max_row_bytes=99)
        assert isvapp.request_counts()["download"] == 1
        assert run(require_sizes=True)["sizes_verified"] is True
        assert isvapp.request_counts()["create_export"] == 2

    def test_the_single_download_fails_at_once(self, isvapp: Emulator, clock: ManualClock, tmp_path: Path) -> None:
        export_id = create_operator(timeframe="2024-02").execute(task_context())
        clock.advance(61)
        download = IsvappDownloadExportOperator(
            task_id="download", export_id=export_id, path=str(tmp_path / "usage"), max_row_bytes=99
        )
        with pytest.raises(AirflowFailException, match="line 1 is longer than 99 bytes"):
            download.execute(task_context())

    def test_require_sizes_refuses_a_record_without_sizes(
        self, isvapp: Emulator, clock: ManualClock, tmp_path: Path
    ) -> None:
        sizes = ["download_size_compressed_bytes", "download_size_uncompressed_bytes"]
        isvapp.inject(Fault(endpoint="show_export", kind="edit", remove=sizes, times=9))
        export_id = create_operator(timeframe="2024-02").execute(task_context())
        clock.advance(61)
        arguments = {"task_id": "download", "export_id": export_id, "path": str(tmp_path / "usage")}
        with pytest.raises(AirflowFailException, match="cannot be verified against a size"):
            IsvappDownloadExportOperator(**arguments, require_sizes=True).execute(task_context())
        assert IsvappDownloadExportOperator(**arguments).execute(task_context())["sizes_verified"] is False
