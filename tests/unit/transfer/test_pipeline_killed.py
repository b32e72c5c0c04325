# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""SIGKILL at every step: readers see the old object or the whole new one, and the next run cleans up."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_isvapp.transfer.destination import local_destination
from airflow_provider_isvapp.transfer.download import download_export
from airflow_provider_isvapp.transfer.staging.local import LocalFile
from tests.support import ROOT
from tests.support.file_server import FileResponse, FileServer, gzip_bytes, ndjson
from tests.support.object_stores import gcs_client, in_gcs, in_s3, s3_client

OLD = b'{"old":true}\n'
PLAIN = ndjson(22_000)
NEW = ndjson(100)
STEPS_BEFORE = ["staging", "writing", "sealing", "flushed"]


def run_killed(url: str, where: str, step: str) -> None:
    command = [sys.executable, "-m", "tests.unit.transfer.killed_download", url, where, step]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.fixture(scope="module")
def body() -> bytes:
    return gzip_bytes(PLAIN)


@pytest.mark.parametrize("step", [*STEPS_BEFORE, "renamed", "committed"])
def test_a_local_file(tmp_path: Path, body: bytes, step: str) -> None:
    target = tmp_path / "export.ndjson"
    target.write_bytes(OLD)
    with FileServer(FileResponse(body)) as server:
        run_killed(server.url, str(target), step)
    left = [path.name for path in tmp_path.iterdir() if path != target]
    if step in STEPS_BEFORE:
        assert target.read_bytes() == OLD
        (name,) = left
        assert name.startswith(".export.ndjson.")
        assert name.endswith(".isvapp-part")
    else:
        assert target.read_bytes() == PLAIN
        assert left == []
    with FileServer(FileResponse(gzip_bytes(NEW))) as server:
        download_export(server.source(), local_destination(str(target)))
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    assert target.read_bytes() == NEW


@pytest.mark.parametrize("step", [*STEPS_BEFORE, "committed"])
def test_an_s3_object(s3_server: str, body: bytes, step: str) -> None:
    import s3fs

    fs = s3fs.S3FileSystem(key="x", secret="y", endpoint_url=s3_server, client_kwargs={"region_name": "us-east-1"})
    bucket, key = f"lake-{step}", "export.ndjson"
    fs.call_s3("create_bucket", Bucket=bucket)
    fs.pipe_file(f"{bucket}/{key}", OLD)

    def open_uploads() -> int:
        return len(fs.call_s3("list_multipart_uploads", Bucket=bucket).get("Uploads", []))

    with FileServer(FileResponse(body)) as server:
        run_killed(server.url, f"{s3_server} {bucket}/{key}", step)
    fs.invalidate_cache()
    if step in STEPS_BEFORE:
        assert fs.cat_file(f"{bucket}/{key}") == OLD
        # A separate thread opens the upload, so all steps but "flushed" can come before it.
        assert open_uploads() in {"staging": (0,), "flushed": (1,)}.get(step, (0, 1))
    else:
        assert fs.cat_file(f"{bucket}/{key}") == PLAIN
        assert open_uploads() == 0
    destination = in_s3(s3_client(s3_server), f"{bucket}/{key}")
    with FileServer(FileResponse(gzip_bytes(NEW))) as server:
        download_export(server.source(), destination)
    fs.invalidate_cache()
    assert fs.cat_file(f"{bucket}/{key}") == NEW
    assert fs.find(bucket) == [f"{bucket}/{key}"]
    assert open_uploads() == 0


@pytest.mark.parametrize("step", [*STEPS_BEFORE, "unlabelled", "committed"])
def test_a_gcs_object(body: bytes, step: str) -> None:
    pytest.importorskip("google.cloud.storage", reason="needs the extra gcs")
    from tests.support.gcs_server import GcsServer

    with GcsServer("lake") as gcs:
        client = gcs_client(gcs.url)
        client.bucket("lake").blob("export.ndjson").upload_from_string(OLD)
        destination = in_gcs(client, "lake/export.ndjson")
        with FileServer(FileResponse(body)) as server:
            run_killed(server.url, f"{gcs.url} {destination.uri}", step)
        objects = gcs.store.buckets["lake"]
        assert objects["export.ndjson"][1] == (OLD if step in STEPS_BEFORE else PLAIN)
        gcs.seen.clear()
        with FileServer(FileResponse(body)) as server:
            again = download_export(server.source(), destination, export_id="e-1")
            assert again.outcome == ("written" if step in STEPS_BEFORE else "unchanged")
        # Without its figures, the object is read again to count them.
        assert any("alt=media" in request for request in gcs.seen) == (step == "unlabelled")
        assert (again.rows, again.bytes) == (22_000, len(PLAIN))
        assert objects["export.ndjson"][1] == PLAIN
        assert list(objects) == ["export.ndjson"]


def test_the_file_of_a_running_writer_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "export.ndjson"
    first = LocalFile(target)
    first.write(b"first\n")
    second = LocalFile(target)
    second.write(b"second\n")
    assert len(list(tmp_path.iterdir())) == 2
    first.flush()
    first.commit()
    assert target.read_bytes() == b"first\n"
    second.flush()
    second.commit()
    assert target.read_bytes() == b"second\n"
    assert [path.name for path in tmp_path.iterdir()] == ["export.ndjson"]


def test_files_of_others_are_no_leftovers(tmp_path: Path) -> None:
    others = [".export.ndjson.swp", "export.ndjson.1.isvapp-part", ".other.ndjson.12345678.isvapp-part"]
    for name in others:
        (tmp_path / name).write_bytes(b"")
    LocalFile(tmp_path / "export.ndjson").abort()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_a_file_keeps_its_mode_and_its_link(tmp_path: Path) -> None:
    target = tmp_path / "real"
    target.write_bytes(OLD)
    target.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(target)
    with FileServer(FileResponse(gzip_bytes(NEW))) as server:
        download_export(server.source(), local_destination(str(link)))
    assert link.is_symlink()
    assert target.read_bytes() == NEW
    assert target.stat().st_mode & 0o777 == 0o640
