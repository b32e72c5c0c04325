# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Months, Parquet, gzip, manifests, and existing objects."""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
import zlib
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.errors import DamagedDownload, ExportRefused, InvalidArgument
from airflow_provider_isvapp.transfer import parquet
from airflow_provider_isvapp.transfer.destination import local_destination
from airflow_provider_isvapp.transfer.results import WriteResult
from airflow_provider_isvapp.transfer.summary import COUNTERS
from tests.support.downloads import download_with
from tests.support.file_server import MONTHS, FileResponse, FileServer, export_row, gzip_bytes, ndjson

PLAIN = ndjson(3_000, months=("2024-02", "2024-03"))


def download(path: Path | str, plain: bytes = PLAIN, **options: Any) -> WriteResult:
    body = options.pop("body", None) or gzip_bytes(plain)
    options = {"sleep": lambda seconds: None, "attempts": 1, **options}
    with FileServer(FileResponse(body)) as server:
        return download_with(server.source(), local_destination(str(path)), **options)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("order", ["sorted", "mixed"])
def test_one_object_per_month_equals_twelve_exports(tmp_path: Path, order: str) -> None:
    rows = [(month, export_row(number, month)) for number in range(400) for month in MONTHS]
    if order == "sorted":
        rows.sort(key=lambda row: row[0])
    monthly = {month: b"".join(row + b"\n" for of, row in rows if of == month) for month in MONTHS}
    year = b"".join(row + b"\n" for _, row in rows)
    result = download(tmp_path / "month={reference_date}" / "usage.ndjson", year, partition_by="reference_date")
    for month in MONTHS:
        download(tmp_path / "monthly" / month, monthly[month])
        assert (tmp_path / f"month={month}" / "usage.ndjson").read_bytes() == monthly[month]
        assert (tmp_path / "monthly" / month).read_bytes() == monthly[month]
    assert result.months == dict.fromkeys(MONTHS, 400)
    assert [(item.reference_date, item.rows, item.bytes) for item in result.objects] == [
        (month, 400, len(monthly[month])) for month in MONTHS
    ]
    assert [item.path for item in result.objects] == [f"{tmp_path}/month={month}/usage.ndjson" for month in MONTHS]


def test_a_last_row_without_newline_gets_one_in_its_month(tmp_path: Path) -> None:
    download(tmp_path / "{reference_date}", PLAIN[:-1], partition_by="reference_date")
    assert (tmp_path / "2024-03").read_bytes().endswith(b"}\n")


def test_months_may_be_compressed(tmp_path: Path) -> None:
    download(tmp_path / "{reference_date}.gz", partition_by="reference_date", compression="gzip")
    expected = b"".join(line for line in PLAIN.splitlines(keepends=True) if b'"2024-02"' in line)
    assert gzip.decompress((tmp_path / "2024-02.gz").read_bytes()) == expected


def test_damage_in_the_last_month_publishes_none(tmp_path: Path) -> None:
    (tmp_path / "2024-02").write_bytes(b"old\n")
    body = gzip_bytes(PLAIN)
    with pytest.raises(DamagedDownload):
        download(tmp_path / "{reference_date}", body=body[:-4] + b"\0\0\0\0", partition_by="reference_date")
    assert names(tmp_path) == ["2024-02"]
    assert (tmp_path / "2024-02").read_bytes() == b"old\n"


@pytest.mark.parametrize("value", ["../../etc", "2024/03", "", "2024-3"])
def test_a_month_cannot_lead_elsewhere(tmp_path: Path, value: str) -> None:
    row = json.dumps({"reference_date": value}).encode() + b"\n"
    with pytest.raises(DamagedDownload, match="line 1 has no reference_date to partition the export by"):
        download(tmp_path / "in" / "{reference_date}", row, partition_by="reference_date")
    assert names(tmp_path) == []


def test_a_row_without_month_cannot_be_divided(tmp_path: Path) -> None:
    with pytest.raises(DamagedDownload, match="line 3001 has no reference_date"):
        download(tmp_path / "{reference_date}", PLAIN + b'{"a":1}\n', partition_by="reference_date")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"partition_by": "reference_date"}, r"must contain \{reference_date\}"),
        ({"partition_by": "type"}, "partition_by must be"),
        ({"output_format": "csv"}, "output_format must be"),
        ({"compression": "zstd"}, "compression must be"),
        ({"output_format": "parquet", "compression": "gzip"}, "compression is for ndjson"),
        ({"compression": "gzip"}, r"/x': compression='gzip' needs a name that ends in \.gz"),
        ({"storage_options": "x"}, "storage_options must be a mapping of names to values, not str"),
        ({"validate": "yes"}, "validate must be"),
        ({"if_exists": "append"}, "if_exists must be 'overwrite', 'skip' or 'fail', not 'append'"),
        ({"min_rows": -1}, "min_rows must be an integer >= 0, or None, not -1"),
        ({"min_rows": True}, "min_rows must be"),
        ({"min_rows": "1"}, "min_rows must be"),
        ({"require_months": True}, "require_months needs expected_months"),
    ],
)
def test_arguments_are_checked_before_any_request(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        download_with(lambda **_: pytest.fail("requested"), local_destination(str(tmp_path / "x")), **options)


def test_the_error_of_parquet_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InvalidArgument, match=r"pip install 'airflow-provider-isvapp\[parquet\]'"):
        download(tmp_path / "x", output_format="parquet")


def test_a_template_needs_partition_by(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="without partition_by, it must not"):
        download(tmp_path / "{reference_date}")


def test_gzip_keeps_the_vendors_file(tmp_path: Path) -> None:
    body = gzip_bytes(PLAIN[:1000], PLAIN[1000:], level=9)
    result = download(tmp_path / "x.gz", body=body, compression="gzip")
    assert (tmp_path / "x.gz").read_bytes() == body
    assert (result.bytes, result.compressed_bytes, result.rows) == (len(PLAIN), len(body), 3_000)
    assert result.objects[0].bytes == len(body)
    assert int(result.objects[0].crc32, 16) == zlib.crc32(body)
    assert result.crc32 is not None
    assert int(result.crc32, 16) == zlib.crc32(PLAIN)


def test_an_empty_export_is_a_gzip_file_nevertheless(tmp_path: Path) -> None:
    with FileServer(FileResponse(b"")) as server:
        download_with(server.source(), local_destination(str(tmp_path / "x.gz")), compression="gzip")
    assert gzip.decompress((tmp_path / "x.gz").read_bytes()) == b""
    assert (tmp_path / "x.gz").stat().st_size > 0


class TestParquet:
    @pytest.fixture(autouse=True)
    def _pyarrow(self) -> None:
        pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")

    def read(self, path: Path) -> Any:
        import pyarrow.parquet as pq

        return pq.read_table(path)

    def test_columns_are_typed_and_nothing_is_lost(self, tmp_path: Path) -> None:
        result = download(tmp_path / "x.parquet", output_format="parquet")
        rows = self.read(tmp_path / "x.parquet").to_pylist()
        expected = [json.loads(line) for line in PLAIN.splitlines()]
        for row in expected:
            row["reference_date"] = date.fromisoformat(row["reference_date"] + "-01")
            row["other_fields"] = None
            for name in COUNTERS:
                row[name] = int(row[name])
        assert rows == expected
        assert (result.rows, result.bytes) == (3_000, len(PLAIN))
        assert result.objects[0].bytes == (tmp_path / "x.parquet").stat().st_size

    def test_unknown_and_missing_fields_are_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parquet, "_BLOCK_BYTES", 10_000)
        new = changed(reference_date="2024-04", operations="7", unique_users=..., colour="red", tags=["a", {"b": None}])
        result = download(tmp_path / "x.parquet", PLAIN + new, output_format="parquet")
        table = self.read(tmp_path / "x.parquet")
        last = table.slice(3_000).to_pylist()[0]
        assert table.num_rows == 3_001
        assert (last["reference_date"], last["operations"], last["unique_users"]) == (date(2024, 4, 1), 7, None)
        assert json.loads(last["other_fields"]) == {"colour": "red", "tags": ["a", {"b": None}]}
        assert table.slice(0, 3_000).column("other_fields").null_count == 3_000
        assert result.drift is not None
        assert {(found.path, found.kind, found.first_row) for found in result.drift} == {
            ("$.unique_users", "absent", 3_001),
            ("$.colour", "unknown_field", 3_001),
            ("$.tags", "unknown_field", 3_001),
        }

    def test_row_groups_are_bounded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import pyarrow.parquet as pq

        monkeypatch.setattr(parquet, "_BLOCK_BYTES", 50_000)
        monkeypatch.setattr(parquet, "_ROW_GROUP_ROWS", 500)
        download(tmp_path / "x.parquet", output_format="parquet")
        metadata = pq.read_metadata(tmp_path / "x.parquet")
        groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        assert sum(groups) == 3_000
        assert len(groups) > 3
        # The surplus of a piece may fill a second one.
        assert max(groups) <= 1_000

    @pytest.mark.parametrize("bad", ["seven", "1.5"])
    def test_a_non_integer_counter_is_an_error(self, tmp_path: Path, bad: str) -> None:
        row = changed(operations=bad)
        with pytest.raises(DamagedDownload, match="operations"):
            download(tmp_path / "x.parquet", row, output_format="parquet")
        assert names(tmp_path) == []

    @pytest.mark.parametrize(
        ("bad", "reason"),
        [
            (b'"taxonomy_label":"\xff"', "utf-8"),
            (b'"colour":"\xff"', "utf-8"),
            (b'"colour":1e999', "out of range"),
            (b'"operations":1e999', "$.operations is not of the documented type"),
            (b'"operations":' + b"9" * 5_000, "$.operations is not of the documented type"),
            (b'"operations":"' + b"9" * 5_000 + b'"', "operations: Failed to parse"),
            (b'"colour":' + b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_a_row_that_parquet_cannot_hold_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: bytes, reason: str
    ) -> None:
        monkeypatch.setattr(parquet, "_BLOCK_BYTES", 100_000)
        lines = PLAIN.splitlines(keepends=True)
        lines.insert(1_234, changed().removesuffix(b"}\n") + b"," + bad + b"}\n")
        with pytest.raises(DamagedDownload, match=r"(row|line) 1235\b") as caught:
            download(tmp_path / "x.parquet", b"".join(lines), output_format="parquet")
        assert reason in str(caught.value)
        assert len(str(caught.value)) < 600
        assert names(tmp_path) == []

    @pytest.mark.parametrize("states_sizes", [False, True])
    def test_the_first_of_two_malformed_rows_is_named(self, tmp_path: Path, states_sizes: bool) -> None:
        """The checks find the second one before the columns of the first one are built."""
        lines = PLAIN.splitlines(keepends=True)
        lines[1_000], lines[2_900] = changed(operations="seven"), b"{\n"
        plain = b"".join(lines)
        body, target = gzip_bytes(plain), local_destination(str(tmp_path / "x.parquet"))
        with FileServer(FileResponse(body)) as server:
            source = server.source(compressed=len(body), uncompressed=len(plain)) if states_sizes else server.source()
            error = ExportRefused if states_sizes else DamagedDownload
            with pytest.raises(error, match=r"row 1001: \$\.operations is not"):
                download_with(source, target, output_format="parquet", attempts=1)
        assert names(tmp_path) == []

    def test_by_month_and_empty(self, tmp_path: Path) -> None:
        download(tmp_path / "{reference_date}.parquet", output_format="parquet", partition_by="reference_date")
        assert self.read(tmp_path / "2024-02.parquet").num_rows == 1_500
        download(tmp_path / "empty.parquet", b"", output_format="parquet")
        empty = self.read(tmp_path / "empty.parquet")
        assert empty.num_rows == 0
        assert empty.schema == self.read(tmp_path / "2024-03.parquet").schema


def test_a_manifest_is_written_last(tmp_path: Path) -> None:
    target = tmp_path / "x.ndjson"
    result = download(target, manifest=True, request={"timeframe": "LATEST_12_COMPLETED_MONTHS"})
    assert result.manifests == (str(tmp_path / "_x.ndjson.manifest.json"),)
    manifest = json.loads((tmp_path / "_x.ndjson.manifest.json").read_bytes())
    assert manifest["object"]["sha256"] == hashlib.sha256(PLAIN).hexdigest()
    assert manifest["object"]["path"] == str(target)
    assert manifest["source"]["export_id"] == "e-1"
    assert manifest["source"]["months"] == {"2024-02": 1_500, "2024-03": 1_500}
    assert manifest["request"] == {"timeframe": "LATEST_12_COMPLETED_MONTHS"}
    assert target.stat().st_mtime_ns <= (tmp_path / "_x.ndjson.manifest.json").stat().st_mtime_ns


def test_each_month_has_its_manifest(tmp_path: Path) -> None:
    result = download(tmp_path / "{reference_date}", manifest=True, partition_by="reference_date")
    assert names(tmp_path) == ["2024-02", "2024-03", "_2024-02.manifest.json", "_2024-03.manifest.json"]
    assert len(result.manifests) == 2


def test_a_failed_download_leaves_the_manifest_of_the_old_object(tmp_path: Path) -> None:
    download(tmp_path / "x", manifest=True)
    before = (tmp_path / "_x.manifest.json").read_bytes()
    with pytest.raises(DamagedDownload):
        download(tmp_path / "x", manifest=True, body=gzip_bytes(PLAIN)[:-1])
    assert (tmp_path / "_x.manifest.json").read_bytes() == before


def test_months_must_be_those_that_were_requested(tmp_path: Path) -> None:
    with pytest.raises(ExportRefused, match="rows of months that were not requested: 2024-02"):
        download(tmp_path / "x", expected_months=["2024-03"])
    with pytest.raises(ExportRefused, match="no rows of requested months: 2024-04, 2024-05"):
        download(tmp_path / "x", expected_months=["2024-02", "2024-03", "2024-04", "2024-05"], require_months=True)
    assert names(tmp_path) == []
    download(tmp_path / "x", expected_months=["2024-02", "2024-03", "2024-04"])
    download(tmp_path / "x", expected_months=["2024-02", "2024-03"], require_months=True)


def changed(**fields: Any) -> bytes:
    row = json.loads(export_row(1)) | fields
    return json.dumps({name: value for name, value in row.items() if value is not ...}).encode() + b"\n"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"operations": "many"}, r"\$\.operations is not of the documented type"),
        ({"operations": 7}, r"\$\.operations is not of the documented type"),
        ({"taxonomy_label": []}, r"\$\.taxonomy_label is not of the documented type"),
        ({"reference_date": "2024-13"}, r"\$\.reference_date is not of the documented type"),
        ({"salesforce_account_id": "short"}, r"\$\.salesforce_account_id is not of the documented type"),
        ({"salesforce_account_id": ...}, "has no salesforce_account_id, which identifies it"),
        ({"taxonomy_item_id": ""}, "has no taxonomy_item_id, which identifies it"),
        ({"reference_date": None}, "has no reference_date, which identifies it"),
    ],
)
@pytest.mark.parametrize("place", [0, 1_500, 3_000])
def test_full_validation_refuses_another_type_and_a_row_without_its_key(
    tmp_path: Path, fields: dict[str, Any], message: str, place: int
) -> None:
    lines = PLAIN.splitlines(keepends=True)
    plain = b"".join([*lines[:place], changed(**fields), *lines[place:]])
    with pytest.raises(DamagedDownload, match=f"row {place + 1}:? {message}"):
        download(tmp_path / "x", plain, validate="full")
    assert names(tmp_path) == []
    assert download(tmp_path / "x", plain).drift is None


@pytest.mark.parametrize(
    ("fields", "path", "kind"),
    [
        ({"unique_users": ...}, "$.unique_users", "absent"),
        ({"type": "SOMETHING"}, "$.type", "unknown_value"),
        ({"taxonomy_label": None}, "$.taxonomy_label", "null"),
        ({"colour": "red"}, "$.colour", "unknown_field"),
    ],
)
@pytest.mark.parametrize("place", [0, 1_500, 3_000])
def test_full_validation_reports_differences_without_loss(
    tmp_path: Path, fields: dict[str, Any], path: str, kind: str, place: int
) -> None:
    lines = PLAIN.splitlines(keepends=True)
    plain = b"".join([*lines[:place], changed(**fields), *lines[place:], changed(**fields)])
    with pytest.raises(ExportRefused, match=rf"\{path} .* \(2 rows, the first is row {place + 1}\)"):
        download(tmp_path / "x", plain, validate="full", on_drift="fail")
    assert names(tmp_path) == []

    result = download(tmp_path / "x", plain, validate="full")

    assert [found.as_json() for found in result.drift or ()] == [
        {"path": path, "kind": kind, "rows": 2, "first_row": place + 1}
    ]
    assert (tmp_path / "x").read_bytes() == plain


def test_drift_can_only_fail_where_rows_are_parsed(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="on_drift='fail' needs validate='full' or output_format='parquet'"):
        download(tmp_path / "x", on_drift="fail")


@pytest.mark.parametrize("partition_by", [None, "reference_date"])
@pytest.mark.parametrize(
    ("output_format", "end"), [("ndjson", ".ndjson"), ("ndjson", ".ndjson.gz"), ("parquet", ".parquet")]
)
def test_readers_of_a_folder_skip_the_manifests(
    tmp_path: Path, output_format: Any, end: str, partition_by: Any
) -> None:
    """Readers skip manifests: pyarrow and Spark by the underscore, DuckDB by the pattern."""
    dataset = pytest.importorskip("pyarrow.dataset", reason="the extra 'parquet' is not installed")
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    name = "usage" if partition_by is None else "month={reference_date}/usage"
    compression = "gzip" if end.endswith(".gz") else None
    options = {"output_format": output_format, "compression": compression, "partition_by": partition_by}
    download(tmp_path / f"{name}{end}", manifest=True, **options)
    assert len(list(tmp_path.rglob("_usage*.manifest.json"))) == (1 if partition_by is None else 2)

    function = "read_parquet" if output_format == "parquet" else "read_json"
    ((count,),) = duckdb.sql(f"SELECT count(*) FROM {function}('{tmp_path}/**/*{end}')").fetchall()
    assert count == PLAIN.count(b"\n")
    if compression is None:
        reading = dataset.dataset(tmp_path, format="parquet" if output_format == "parquet" else "json")
        assert reading.count_rows() == PLAIN.count(b"\n")
