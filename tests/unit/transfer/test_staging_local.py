# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Anything at the target's name or at a temporary one: an error that names it, or a write that ignores it."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from airflow_provider_isvapp.errors import InvalidArgument, StorageFailed
from airflow_provider_isvapp.transfer.destination import local_destination
from airflow_provider_isvapp.transfer.lists import write_list
from airflow_provider_isvapp.transfer.results import WriteResult
from airflow_provider_isvapp.transfer.staging.local import LocalFile, LocalTarget
from tests.support.doubles import AnyRow
from tests.support.downloads import download_with
from tests.support.file_server import FileResponse, FileServer, gzip_bytes, ndjson

PLAIN = ndjson(300, months=("2024-02", "2024-03"))
BODY = gzip_bytes(PLAIN)

# Opening such a name would block the tests forever.
pytestmark = pytest.mark.timeout(30)


def download(path: Path | str, **options: Any) -> WriteResult:
    options = {"sleep": lambda seconds: None, "attempts": 1, **options}
    with FileServer(FileResponse(BODY)) as server:
        return download_with(server.source(), local_destination(str(path)), **options)


def refused(path: Path | str, **options: Any) -> str:
    """Return the error about a path, for which nothing may be requested from the vendor."""
    with pytest.raises((InvalidArgument, StorageFailed)) as caught:
        download_with(lambda **_: pytest.fail("requested"), local_destination(str(path)), attempts=1, **options)
    return str(caught.value)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def named_pipe(path: Path) -> None:
    os.mkfifo(path)


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def loop_of_two(path: Path) -> None:
    path.symlink_to("other")
    path.with_name("other").symlink_to(path.name)


def listening_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


OTHER_KINDS = [named_pipe, Path.mkdir, link_to_itself, loop_of_two, listening_socket]


@pytest.mark.parametrize("make", OTHER_KINDS)
@pytest.mark.parametrize("which", ["object", "manifest", "month", "manifest of a month"])
def test_a_target_that_is_not_a_file_is_refused_before_any_request(tmp_path: Path, make: Any, which: str) -> None:
    options: dict[str, Any] = {"manifest": "manifest" in which}
    path, in_the_way = tmp_path / "x", "x"
    if "month" in which:
        options |= {"partition_by": "reference_date", "expected_months": ["2024-02", "2024-03"]}
        path, in_the_way = tmp_path / "{reference_date}", "2024-03"
    in_the_way = f"_{in_the_way}.manifest.json" if "manifest" in which else in_the_way
    make(tmp_path / in_the_way)
    before = names(tmp_path)
    message = refused(path, **options)
    assert in_the_way in message
    assert "Remove it, or choose another path" in message
    assert names(tmp_path) == before


def test_a_device_is_not_replaced() -> None:
    assert "a device is there, not a file" in refused("/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_list_replaces_only_a_file(tmp_path: Path) -> None:
    named_pipe(tmp_path / "x")
    with pytest.raises(InvalidArgument, match="a named pipe is there"):
        write_list([b"{}"], local_destination(str(tmp_path / "x")), dataset="apps", row_type=AnyRow)


@pytest.mark.parametrize("make", [named_pipe, Path.mkdir])
def test_an_object_that_appears_during_the_download_is_not_replaced(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    target = tmp_path / "x"
    file = LocalFile(target)
    file.write(b"new\n")
    file.flush()
    make(target)
    with pytest.raises(StorageFailed, match="Could not publish "):
        file.commit()
    file.abort()
    assert names(tmp_path) == ["x"]
    assert not target.is_file()


@pytest.mark.parametrize("make", [*OTHER_KINDS, lambda path: os.link(path.with_name("precious"), path)])
def test_something_at_a_temporary_name_does_not_prevent_a_write(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "precious").write_bytes(b"precious\n")
    make(tmp_path / ".x.0123abcd.isvapp-part")
    download(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == PLAIN
    assert (tmp_path / "precious").read_bytes() == b"precious\n"


def longest(folder: Path) -> int:
    return os.pathconf(folder, "PC_NAME_MAX")


@pytest.mark.parametrize("letter", ["n", "ä"])
def test_the_longest_name_is_written_and_leaves_nothing(tmp_path: Path, letter: str) -> None:
    name = letter * (longest(tmp_path) // len(letter.encode()))
    download(tmp_path / name)
    assert names(tmp_path) == [name]


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("n" * 256, {}),
        ("ä" * 128, {}),
        ("new/folder/" + "n" * 256, {}),
        ("n" * 256 + "/x", {}),
        ("n" * 250, {"manifest": True}),
        ("{reference_date}" + "n" * 249, {"partition_by": "reference_date"}),
        ("{reference_date}/{reference_date}" + "n" * 240, {"partition_by": "reference_date", "manifest": True}),
    ],
)
def test_a_name_that_is_too_long_is_refused_before_any_request(
    tmp_path: Path, path: str, options: dict[str, Any]
) -> None:
    message = refused(tmp_path / path, **options)
    assert "bytes, and the file system takes 255. Choose a shorter one." in message
    assert names(tmp_path) == []


def test_a_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    assert "File name too long" in refused(tmp_path / "/".join(["n" * 200] * 25))
    assert names(tmp_path) == []


def test_a_temporary_file_is_removed_if_it_cannot_be_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.raises(StorageFailed, match="No locks available"):
        LocalFile(tmp_path / "x")
    assert names(tmp_path) == []


@pytest.mark.parametrize("path", ["/tmp/a\0b", "/tmp/\udc80\ud800", "/tmp/folder/"])
def test_a_path_that_names_no_file_is_an_invalid_argument(path: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^path "):
        local_destination(path)


def test_a_file_as_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert "file is not a folder" in refused(tmp_path / "file" / "x")
    assert "file is not a folder" in refused(tmp_path / "file" / "further" / "x")


def as_nobody(code: str, folder: Path) -> str:
    """Run code as a user without rights, and return its output."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    drop = "import os, sys; os.setgid(65534); os.setuid(65534);"
    sources = Path(__file__).parents[3]
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(sources)!r}); {_IMPORTS}; {drop} {code}"]
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


_IMPORTS = "from pathlib import Path; from airflow_provider_isvapp.transfer.staging.local import LocalFile, LocalTarget"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder whose parents every user may pass. Pytest closes those of tmp_path again whenever another run starts."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("mode", [0o555, 0o700])
def test_a_folder_without_the_right_to_write_is_named(open_folder: Path, mode: int) -> None:
    folder = open_folder / "closed"
    folder.mkdir(mode=mode)
    said = as_nobody(
        "\ntry: LocalTarget(sys.argv[1] + '/new/x').check()\nexcept Exception as error: print(repr(error))", folder
    )
    assert said.startswith("StorageFailed")
    assert f"has no permission to create files in {folder}. Nothing was requested or written." in said


def test_a_folder_that_may_be_written_but_not_listed_is_written(open_folder: Path) -> None:
    folder = open_folder / "drop"
    folder.mkdir()
    folder.chmod(0o733)
    as_nobody(
        "target = LocalTarget(sys.argv[1] + '/x'); target.check();"
        "file = target.stage(exclusive=False, content_type='text/plain', provenance=None);"
        "file.write(b'new'); file.flush(); file.commit()",
        folder,
    )
    assert (folder / "x").read_bytes() == b"new"


def rewritten(target: Path) -> os.stat_result:
    file = LocalFile(target)
    file.write(b"new\n")
    file.flush()
    file.commit()
    assert target.read_bytes() == b"new\n"
    return target.stat()


def test_a_file_keeps_mode_and_owner_and_loses_special_bits(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    target = tmp_path / "x"
    target.write_bytes(b"old\n")
    os.chown(target, 65534, 12345)
    target.chmod(0o7640)
    status = rewritten(target)
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert (status.st_uid, status.st_gid) == (65534, 12345)


def test_a_group_that_cannot_be_kept_passes_on_no_rights(open_folder: Path) -> None:
    folder = open_folder / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    target = folder / "x"
    target.write_bytes(b"old\n")
    target.chmod(0o664)
    as_nobody(
        "file = LocalFile(Path(sys.argv[1])); file.write(b'new'); file.flush(); file.commit()",
        target,
    )
    status = target.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (65534, 65534, 0o644)


def test_a_link_is_followed_even_to_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("folder/real")
    download(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "real").read_bytes() == PLAIN
    assert names(tmp_path / "folder") == ["real"]


@pytest.mark.parametrize("exclusive", [False, True])
def test_an_error_after_publication_does_not_claim_that_nothing_was_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exclusive: bool
) -> None:
    file = LocalFile(tmp_path / "x", exclusive=exclusive)
    file.write(b"new\n")
    file.flush()
    real_close = os.close

    def close(fd: int) -> None:
        real_close(fd)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "close", close)
    file.commit()
    monkeypatch.undo()
    assert names(tmp_path) == ["x"]


def no_room_for_manifests(folder: Path) -> Callable[[], bool]:
    """Return a function to call during a download; it takes the manifest's name."""

    def cancelled() -> bool:
        (folder / "_x.manifest.json").mkdir(exist_ok=True)
        return False

    return cancelled


def test_the_error_of_a_manifest_names_the_published_object(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed) as caught:
        download(tmp_path / "x", manifest=True, cancelled=no_room_for_manifests(tmp_path))
    assert "The object is published, but its manifest" in str(caught.value)
    assert (tmp_path / "x").read_bytes() == PLAIN
    assert names(tmp_path) == ["_x.manifest.json", "x"]


def test_a_manifest_that_cannot_be_staged_keeps_the_object_from_being_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").write_bytes(b"old\n")
    stage = LocalTarget.stage

    def full(place: LocalTarget, **options: Any) -> LocalFile:
        if ".manifest.json" in str(vars(place)):
            raise StorageFailed("No space left on device")
        return stage(place, **options)

    monkeypatch.setattr(LocalTarget, "stage", full)
    with pytest.raises(StorageFailed, match="No space left"):
        download(tmp_path / "x", manifest=True)
    assert (tmp_path / "x").read_bytes() == b"old\n"
    assert names(tmp_path) == ["x"]


def test_the_error_of_a_month_names_the_published_months(tmp_path: Path) -> None:
    def cancelled() -> bool:
        (tmp_path / "2024-03").mkdir(exist_ok=True)
        return False

    with pytest.raises(StorageFailed, match="The months 2024-02 of export e-1 are published, and the others are not"):
        download(tmp_path / "{reference_date}", partition_by="reference_date", cancelled=cancelled)
    assert names(tmp_path) == ["2024-02", "2024-03"]
