# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Lists are written like exports: whole or not at all, audited, and not again if nothing changed."""

from __future__ import annotations

import gzip
import hashlib
import json
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.errors import AuditRefused, DamagedDownload, DestinationExists, InvalidArgument
from airflow_provider_isvapp.transfer.audit import Candidate
from airflow_provider_isvapp.transfer.destination import Destination, local_destination
from airflow_provider_isvapp.transfer.lists import check_list, write_list
from airflow_provider_isvapp.transfer.manifest import manifest_of, read_baseline
from airflow_provider_isvapp.transfer.options import WriteOptions
from airflow_provider_isvapp.transfer.results import Outcome, WriteResult
from airflow_provider_isvapp.transfer.summary import Summary
from tests.support import ROOT
from tests.support.doubles import AnyRow
from tests.support.object_stores import in_s3, s3_client
from tests.unit.transfer.killed_download import LIST

ROWS = [b'{"Id":"1","Name":"M\xc3\xbcller"}', b'{"Id":"2","Costs":1.50}']
PLAIN = b"".join(row + b"\n" for row in ROWS)
OLD = b'{"old":true}\n'


@dataclass
class Store:
    """A folder or a bucket with one name for a list."""

    destination: Destination
    read: Callable[[Destination], bytes]
    put: Callable[[bytes], object]
    names: Callable[[], list[str]]
    where: str

    def write(self, rows: list[bytes] = ROWS, *, snapshot_date: str | None = None, **options: Any) -> WriteResult:
        return write_list(
            rows,
            self.destination,
            dataset="apps",
            row_type=AnyRow,
            options=WriteOptions(**options),
            snapshot_date=snapshot_date,
            request={"verbose": "true"},
        )

    def content(self) -> bytes:
        return self.read(self.destination)

    def manifest(self) -> Any:
        return json.loads(self.read(manifest_of(self.destination)))


def on_file(folder: Path) -> Store:
    return Store(
        destination=local_destination(str(folder / "apps.gz")),
        read=lambda destination: Path(destination.key).read_bytes(),
        put=(folder / "apps.gz").write_bytes,
        names=lambda: sorted(path.name for path in folder.iterdir()),
        where=str(folder / "apps.gz"),
    )


def on_s3(server: str, bucket: str) -> Store:
    import s3fs

    fs = s3fs.S3FileSystem(key="x", secret="y", endpoint_url=server, client_kwargs={"region_name": "us-east-1"})
    fs.call_s3("create_bucket", Bucket=bucket)

    def names() -> list[str]:
        fs.invalidate_cache()
        assert "Uploads" not in fs.call_s3("list_multipart_uploads", Bucket=bucket)
        return sorted(path.partition("/")[2] for path in fs.find(bucket))

    def read(destination: Destination) -> bytes:
        fs.invalidate_cache()
        content: bytes = fs.cat_file(destination.uri)
        return content

    key = f"{bucket}/apps.gz"
    return Store(
        destination=in_s3(s3_client(server), key),
        read=read,
        put=lambda content: fs.pipe_file(key, content),
        names=names,
        where=f"{server} {key}",
    )


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "file":
        yield on_file(tmp_path)
    else:
        digest = hashlib.sha256(str(tmp_path).encode()).hexdigest()[:20]
        yield on_s3(request.getfixturevalue("s3_server"), f"list-{digest}")


def test_the_rows_keep_the_vendors_bytes(store: Store) -> None:
    store.put(OLD)
    result = store.write()
    assert store.content() == PLAIN
    assert store.names() == ["apps.gz"]
    assert (result.outcome, result.rows, result.bytes, result.path) == (
        Outcome.WRITTEN,
        2,
        len(PLAIN),
        store.destination.uri,
    )
    assert result.crc32 == f"{zlib.crc32(PLAIN):08x}"
    assert [(item.path, item.rows, item.bytes) for item in result.objects] == [(store.destination.uri, 2, len(PLAIN))]


def test_a_gzip_object_is_another_form(store: Store) -> None:
    result = store.write(compression="gzip")
    assert gzip.decompress(store.content()) == PLAIN
    assert (result.bytes, result.objects[0].bytes) == (len(PLAIN), len(store.content()))
    assert store.write(compression="gzip").outcome is Outcome.UNCHANGED
    assert store.write().outcome is Outcome.WRITTEN
    assert store.content() == PLAIN


@pytest.mark.parametrize("if_exists", ["overwrite", "skip", "fail"])
@pytest.mark.parametrize("manifest", [False, True])
def test_an_unchanged_list_is_not_written_again(store: Store, if_exists: str, manifest: bool) -> None:
    first = store.write(manifest=manifest, snapshot_date="2024-03-01")
    version = store.destination.target().info()
    again = store.write(manifest=manifest, snapshot_date="2024-03-01", if_exists=if_exists)
    assert (first.outcome, again.outcome, again.objects) == (Outcome.WRITTEN, Outcome.UNCHANGED, ())
    for figure in ("rows", "bytes", "crc32", "manifests"):
        assert getattr(again, figure) == getattr(first, figure)
    assert store.destination.target().info() == version
    assert len(again.manifests) == manifest


def test_a_changed_list_is_written(store: Store) -> None:
    store.write()
    assert store.write([*ROWS, b"{}"]).outcome is Outcome.WRITTEN
    assert store.content() == PLAIN + b"{}\n"


def test_the_same_list_of_another_day_gets_a_new_manifest(store: Store) -> None:
    store.write(manifest=True, snapshot_date="2024-03-01")
    assert store.write(manifest=True, snapshot_date="2024-03-02").outcome is Outcome.WRITTEN
    assert store.manifest()["source"]["snapshot_date"] == "2024-03-02"


def test_the_manifest_describes_the_object(store: Store) -> None:
    result = store.write(manifest=True, snapshot_date="2024-03-01")
    assert store.names() == ["_apps.gz.manifest.json", "apps.gz"]
    assert result.manifests == (manifest_of(store.destination).uri,)
    manifest = store.manifest()
    assert manifest["source"] == {
        "dataset": "apps",
        "format": "ndjson,structure",
        "sha256": hashlib.sha256(PLAIN).hexdigest(),
        "rows": 2,
        "bytes": len(PLAIN),
        "crc32": f"{zlib.crc32(PLAIN):08x}",
        "snapshot_date": "2024-03-01",
    }
    assert manifest["object"]["sha256"] == hashlib.sha256(PLAIN).hexdigest()
    assert manifest["request"] == {"verbose": "true"}
    there = store.destination.target().info()
    assert there is not None
    assert manifest["object"]["version"] == there.version == result.objects[0].version
    assert manifest["drift"] == []


def test_a_manifest_describes_the_object_that_it_was_written_for_and_no_other(store: Store) -> None:
    assert read_baseline(store.destination) is None
    store.write(manifest=True)
    assert read_baseline(store.destination) == Summary(rows=2, bytes=len(PLAIN))
    # As after a kill between an object and its manifest.
    store.write([*ROWS, b"{}"])
    assert read_baseline(store.destination) is None
    assert store.write([*ROWS, b"{}"], manifest=True).outcome is Outcome.WRITTEN
    assert read_baseline(store.destination) == Summary(rows=3, bytes=len(PLAIN) + 3)
    assert store.names() == ["_apps.gz.manifest.json", "apps.gz"]


@pytest.mark.parametrize("old", [OLD, None])
def test_an_empty_list_is_refused_and_the_old_object_stays(store: Store, old: bytes | None) -> None:
    if old is not None:
        store.put(old)
    with pytest.raises(AuditRefused, match=r"it has 0 rows, and min_rows is 1\. Set min_rows=0") as caught:
        store.write([], manifest=True)
    assert not caught.value.permanent
    assert store.names() == ([] if old is None else ["apps.gz"])
    assert old is None or store.content() == old


def test_min_rows_is_the_fewest_that_may_replace(store: Store) -> None:
    store.write(min_rows=2)
    with pytest.raises(AuditRefused, match="it has 1 rows, and min_rows is 2"):
        store.write(ROWS[:1], min_rows=2)
    # Not even an existing list counts as enough.
    with pytest.raises(AuditRefused, match="it has 2 rows, and min_rows is 3"):
        store.write(min_rows=3)
    assert store.content() == PLAIN
    assert store.write([], min_rows=0).rows == 0
    assert store.content() == b""
    assert store.write([], min_rows=0).outcome is Outcome.UNCHANGED
    with pytest.raises(AuditRefused):
        store.write([])


@pytest.mark.parametrize("cut", [b'{"Id":"2","Co', b"", b"[]", b"{}{}", b'"x"'], ids=str)
def test_a_row_that_is_cut_or_no_object_publishes_nothing(store: Store, cut: bytes) -> None:
    store.put(OLD)
    with pytest.raises(DamagedDownload):
        store.write([ROWS[0], cut])
    assert store.content() == OLD
    assert store.names() == ["apps.gz"]


def test_skip_and_fail_leave_another_object(store: Store) -> None:
    store.put(OLD)
    result = store.write(if_exists="skip")
    assert (result.outcome, result.rows) == (Outcome.SKIPPED, None)
    with pytest.raises(DestinationExists, match="exists, and if_exists is 'fail'"):
        store.write(if_exists="fail")
    assert store.content() == OLD


def test_skip_keeps_the_date_of_the_list_even_if_the_object_appears_meanwhile(store: Store) -> None:
    def appears(candidate: Candidate) -> None:
        store.put(OLD)

    results = [store.write(if_exists="skip", snapshot_date="2026-03-06", checks=(appears,)) for _ in range(2)]
    assert [(item.outcome, item.snapshot_date) for item in results] == [(Outcome.SKIPPED, "2026-03-06")] * 2
    assert store.content() == OLD


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_format": "parquet", "compression": "gzip"}, "compression is for ndjson"),
        ({"output_format": "csv"}, "output_format must be 'ndjson' or 'parquet', not 'csv'"),
        ({"partition_by": "reference_date"}, "partition_by must be None for a list"),
        ({"validate": "full"}, "validate must be 'structure' for a list"),
        ({"compression": "zstd"}, "compression must be None or 'gzip', not 'zstd'"),
        ({"if_exists": "append"}, "if_exists must be"),
        ({"min_rows": -1}, "min_rows must be"),
    ],
)
def test_an_option_that_lists_do_not_have_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    store = on_file(tmp_path)
    with pytest.raises(InvalidArgument, match=message):
        check_list(store.destination, WriteOptions(**options))
    with pytest.raises(InvalidArgument, match=message):
        store.write(**options)
    assert store.names() == []


@pytest.mark.parametrize("step", ["staging", "writing", "flushed", "committed"])
def test_a_killed_write_leaves_the_old_object_or_the_new_one(store: Store, step: str) -> None:
    store.put(OLD)
    command = [sys.executable, "-m", "tests.unit.transfer.killed_download", "list", store.where, step]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    whole = b"".join(row + b"\n" for row in LIST)
    assert store.content() == (whole if step == "committed" else OLD)
    assert store.write(LIST).outcome is (Outcome.UNCHANGED if step == "committed" else Outcome.WRITTEN)
    assert store.content() == whole
    assert store.names() == ["apps.gz"]
