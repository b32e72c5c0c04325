# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Metadata, manifests and footers of other programs are ignored, whatever sizes they claim."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.transfer.destination import local_destination
from airflow_provider_isvapp.transfer.results import Outcome, WriteResult
from airflow_provider_isvapp.transfer.staging.base import Provenance
from airflow_provider_isvapp.transfer.staging.local import LocalTarget
from tests.support.downloads import download_with
from tests.support.file_server import FileResponse, FileServer, gzip_bytes, ndjson

PLAIN = ndjson(300)
FULL: dict[str, Any] = {
    "export_id": "e-1",
    "format": "ndjson,structure",
    "compressed_bytes": 1,
    "rows": 1,
    "bytes": 1,
    "crc32": "00000000",
    "months": {"2024-03": 1},
}


def with_(**fields: object) -> bytes:
    return json.dumps(FULL | fields).encode()


HOSTILE = [
    b"",
    b"\0",
    b"\xff\xfe",
    b"null",
    b"[]",
    b'"' + b"x" * 100_000 + b'"',
    b"[" * 100_000,
    b'{"export_id":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    with_(rows=10**400),
    with_(rows=-1),
    with_(rows="1"),
    with_(rows=1.5),
    with_(months=[1]),
    with_(months={"2024-03": None}),
    with_(months="2024-03"),
    with_(crc32=7),
    with_(later_version=1),
    with_(export_id=7),
    b'{"export_id":"\\ud800","format":"ndjson"}',
]


def download(path: Path, **options: Any) -> WriteResult:
    options = {"sleep": lambda seconds: None, "attempts": 1, "export_id": "e-1", **options}
    with FileServer(FileResponse(gzip_bytes(PLAIN))) as server:
        return download_with(server.source(), local_destination(str(path)), **options)


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Allow half a gigabyte more than the process uses now."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 512 * 1024 * 1024, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("text", [*HOSTILE, None, 7, ["a"]], ids=lambda text: str(text)[:30])
def test_invalid_provenance_is_none(text: object) -> None:
    assert Provenance.from_text(text) is None


def test_a_label_is_read_as_it_was_written() -> None:
    provenance = Provenance.from_text(with_())
    assert provenance is not None
    assert Provenance.from_text(provenance.to_text()) == provenance


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: str(text)[:30])
def test_a_corrupt_attribute_has_no_provenance(tmp_path: Path, text: bytes) -> None:
    target = tmp_path / "x"
    target.write_bytes(b"old\n")
    status = target.stat()
    try:
        os.setxattr(
            target, "user.isvapp_provenance", f"{status.st_size}-{status.st_mtime_ns} ".encode() + text[:60_000]
        )
    except OSError:
        os.setxattr(target, "user.isvapp_provenance", text[:1_000])
    there = LocalTarget(str(target)).info()
    assert there is not None
    assert there.provenance is None
    assert download(target).outcome is Outcome.WRITTEN
    assert target.read_bytes() == PLAIN


@pytest.mark.parametrize("text", [*HOSTILE, b'{"source":{"export_id":7}}', b'{"source":7}'], ids=lambda t: str(t)[:30])
def test_a_manifest_that_is_junk_is_written_again(tmp_path: Path, text: bytes) -> None:
    download(tmp_path / "x")
    (tmp_path / "_x.manifest.json").write_bytes(text)
    assert download(tmp_path / "x", manifest=True).outcome is Outcome.WRITTEN
    assert b'"export_id": "e-1"' in (tmp_path / "_x.manifest.json").read_bytes()


@pytest.mark.usefixtures("little_memory")
def test_a_manifest_of_three_gibibytes_is_not_read(tmp_path: Path) -> None:
    download(tmp_path / "x")
    (tmp_path / "_x.manifest.json").touch()
    os.truncate(tmp_path / "_x.manifest.json", 3 * 1024**3)
    assert download(tmp_path / "x", manifest=True).outcome is Outcome.WRITTEN


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("end", [b"\xff\xff\xff\xbfPAR1", b"\0\0\0\0PAR1", b"\x10\0\0\0PAR1", b"x"])
def test_a_corrupt_footer_has_no_provenance(tmp_path: Path, end: bytes) -> None:
    pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    from airflow_provider_isvapp.transfer.existing import provenance_in_footer

    target = tmp_path / "x"
    target.touch()
    os.truncate(target, 3 * 1024**3)
    with target.open("ab") as file:
        file.write(end)
    assert provenance_in_footer(LocalTarget(str(target))) is None
