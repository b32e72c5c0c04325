# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Downloads through a file system of fsspec that renames: Arrow's, on files of this host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.errors import DamagedDownload, DestinationExists, InvalidArgument, StorageFailed
from airflow_provider_isvapp.transfer.destination import Destination, fsspec_destination
from airflow_provider_isvapp.transfer.results import Outcome
from tests.support.downloads import download_with
from tests.support.file_server import FileResponse, FileServer, gzip_bytes, ndjson
from tests.support.object_stores import FsspecPath, in_fsspec

OLD = b'{"old":true}\n'
BIG = ndjson(4_000)


@pytest.fixture
def destination(tmp_path: Path) -> Destination:
    (tmp_path / "usage").write_bytes(OLD)
    return in_fsspec(tmp_path / "usage")


def test_exact_bytes_replace_the_old_ones(destination: Destination, tmp_path: Path) -> None:
    with FileServer(FileResponse(gzip_bytes(BIG))) as server:
        result = download_with(server.source(), destination, manifest=True)
    assert (tmp_path / "usage").read_bytes() == BIG
    assert sorted(path.name for path in tmp_path.iterdir()) == ["_usage.manifest.json", "usage"]
    assert result.objects[0].version is not None
    assert result.objects[0].version.startswith(f"{len(BIG)}-")


def test_nothing_shows_before_the_last_step(destination: Destination, tmp_path: Path) -> None:
    staged = destination.target().stage(exclusive=False, content_type="text/plain", provenance=None)
    staged.write(BIG)
    staged.flush()
    (hidden,) = [path for path in tmp_path.iterdir() if path.name != "usage"]
    assert hidden.name.startswith(".usage.")
    assert (tmp_path / "usage").read_bytes() == OLD
    staged.abort()
    assert [path.name for path in tmp_path.iterdir()] == ["usage"]


def test_a_damaged_download_publishes_nothing(destination: Destination, tmp_path: Path) -> None:
    with FileServer(FileResponse(gzip_bytes(BIG)[:-1])) as server, pytest.raises(DamagedDownload):
        download_with(server.source(), destination, attempts=1)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("usage", OLD)]


def test_an_existing_object_that_may_not_be_replaced_stays(destination: Destination, tmp_path: Path) -> None:
    staged = destination.target().stage(exclusive=True, content_type="text/plain", provenance=None)
    staged.write(BIG)
    staged.flush()
    with pytest.raises(DestinationExists):
        staged.commit()
    staged.abort()
    with FileServer(FileResponse(gzip_bytes(BIG))) as server:
        assert download_with(server.source(), destination, if_exists="skip").outcome is Outcome.SKIPPED
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("usage", OLD)]


def test_a_rename_that_was_not_done_is_a_failure(
    destination: Destination, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As WebHDFS reports it: in a value that its client ignores."""
    store: Any = destination.store
    monkeypatch.setattr(type(store.fs), "mv", lambda *_: False)
    with (
        FileServer(FileResponse(gzip_bytes(BIG))) as server,
        pytest.raises(StorageFailed, match="did not rename the file"),
    ):
        download_with(server.source(), destination)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("usage", OLD)]


def test_a_storage_that_copies_instead_of_renaming_is_refused() -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    destination = fsspec_destination(FsspecPath(MemoryFileSystem(), "/lake/usage"))
    with pytest.raises(InvalidArgument, match="cannot rename a file in one step"):
        download_with(lambda **_: pytest.fail("requested"), destination)
