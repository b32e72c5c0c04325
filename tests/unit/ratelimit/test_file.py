# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The file storage: its lock, permissions and content."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
import tracemalloc
from pathlib import Path

import pytest

from airflow_provider_isvapp.errors import LimiterUnavailable
from airflow_provider_isvapp.ratelimit import open_limiter
from airflow_provider_isvapp.ratelimit.storage import LONGEST_TEXT, FileStorage, default_directory


def written(text: str | None, now: float) -> tuple[str, str | None]:
    """Write a short text and return the previous one."""
    return "written", text


def never(text: str | None, now: float) -> tuple[str, None]:
    pytest.fail("updated all the same")


@pytest.fixture
def storage(tmp_path: Path) -> FileStorage:
    return FileStorage(tmp_path / "limiter", "key")


def test_returns_nothing_first_and_then_the_written_text(storage: FileStorage) -> None:
    assert storage.update(written, timeout=1) is None
    assert storage.update(written, timeout=1) == "written"


def test_time_is_the_hosts_monotonic_clock(storage: FileStorage) -> None:
    now = storage.update(lambda text, now: ("", now), timeout=1)
    assert abs(time.clock_gettime(time.CLOCK_MONOTONIC) - now) < 60


def test_only_this_user_has_rights_on_directory_and_file(storage: FileStorage, tmp_path: Path) -> None:
    storage.update(written, timeout=1)
    assert (tmp_path / "limiter").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "limiter" / "key.json").stat().st_mode & 0o777 == 0o600


def test_a_directory_for_a_group_makes_files_for_the_group(tmp_path: Path) -> None:
    (tmp_path / "limiter").mkdir()
    (tmp_path / "limiter").chmod(0o770)
    FileStorage(tmp_path / "limiter", "key").update(written, timeout=1)
    assert (tmp_path / "limiter" / "key.json").stat().st_mode & 0o777 == 0o660


def test_an_emptied_file_is_not_a_new_one(storage: FileStorage, tmp_path: Path) -> None:
    storage.update(written, timeout=1)
    (tmp_path / "limiter" / "key.json").write_text("")
    assert storage.update(written, timeout=1) == ""


def test_a_broken_file_costs_one_pause(tmp_path: Path) -> None:
    (tmp_path / "key.json").write_bytes(b'{"at": 17\xff\x00')
    limiter = open_limiter(f"file://{tmp_path}", key="key", requests_per_second=2)
    start = time.monotonic()
    with limiter.acquire():
        assert 0.99 <= time.monotonic() - start < 5


def test_a_short_text_after_a_long_one(storage: FileStorage) -> None:
    storage.update(lambda text, now: ("a much longer text than the next", None), timeout=1)
    storage.update(written, timeout=1)
    assert storage.update(written, timeout=1) == "written"


def test_a_lock_that_stays_is_an_error_that_names_the_file(storage: FileStorage, tmp_path: Path) -> None:
    storage.update(written, timeout=1)
    path = tmp_path / "limiter" / "key.json"
    start = time.monotonic()
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LimiterUnavailable, match=f"locked.*{path}"):
            storage.update(never, timeout=0.2)
    assert 0.2 <= time.monotonic() - start < 5


def test_a_lock_is_free_again_after_a_failed_update(storage: FileStorage) -> None:
    with pytest.raises(ZeroDivisionError):
        storage.update(lambda text, now: ("", 1 / 0), timeout=1)
    assert storage.update(written, timeout=0.1) == ""


def test_a_removed_file_is_created_again(storage: FileStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.update(written, timeout=1)
    path = tmp_path / "limiter" / "key.json"
    lock = fcntl.flock

    def flock_after_a_cleaner_came(file: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        path.unlink()
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock_after_a_cleaner_came)
    assert storage.update(written, timeout=1) is None
    assert path.read_text().startswith("written\n")


@pytest.mark.parametrize("hindrance", ["file instead of directory", "directory instead of file", "link"])
def test_an_unusable_path_is_named_in_the_error(tmp_path: Path, hindrance: str) -> None:
    directory = tmp_path / "limiter"
    if hindrance == "file instead of directory":
        directory.write_text("")
    else:
        directory.mkdir()
        path = directory / "key.json"
        path.mkdir() if hindrance == "directory instead of file" else path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LimiterUnavailable, match=f"{directory}.*rate_limit_storage") as raised:
        FileStorage(directory, "key").update(never, timeout=0.1)
    assert raised.value.__context__ is None
    assert not (tmp_path / "elsewhere").exists()


class TestWhatOthersPutThere:
    """A user with write access to the directory must not make the limiter write to another user's file."""

    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        directory = tmp_path / "limiter"
        directory.mkdir()
        directory.chmod(0o770)
        return directory

    def refused(self, directory: Path) -> str:
        with pytest.raises(LimiterUnavailable, match="rate_limit_storage") as raised:
            FileStorage(directory, "key").update(never, timeout=0.1)
        assert raised.value.__context__ is None
        assert str(directory / "key.json") in str(raised.value)
        return str(raised.value)

    def test_a_hard_link_is_refused_and_its_file_stays_as_it_is(self, directory: Path, tmp_path: Path) -> None:
        precious = tmp_path / "precious"
        precious.write_text("precious")
        os.link(precious, directory / "key.json")
        assert "2 names (hard links)" in self.refused(directory)
        assert precious.read_text() == "precious"

    def test_a_pipe_is_refused(self, directory: Path) -> None:
        os.mkfifo(directory / "key.json")
        assert "not a regular file" in self.refused(directory)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's file")
    @pytest.mark.parametrize("mode", [0o700, 0o755, 0o777, 0o1777])
    def test_another_users_file_is_refused(self, directory: Path, mode: int) -> None:
        directory.chmod(mode)
        (directory / "key.json").touch()
        os.chown(directory / "key.json", 12345, 12345)
        assert "another user (id 12345)" in self.refused(directory)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's file")
    @pytest.mark.parametrize("mode", [0o770, 0o2775])
    def test_another_users_file_is_shared_in_a_directory_for_a_group(self, directory: Path, mode: int) -> None:
        directory.chmod(mode)
        (directory / "key.json").write_text("theirs")
        os.chown(directory / "key.json", 12345, 12345)
        assert FileStorage(directory, "key").update(written, timeout=1) == "theirs"

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's file")
    def test_a_file_of_the_directorys_owner_is_shared(self, directory: Path) -> None:
        directory.chmod(0o755)
        (directory / "key.json").write_text("theirs")
        for path in (directory, directory / "key.json"):
            os.chown(path, 12345, 12345)
        assert FileStorage(directory, "key").update(written, timeout=1) == "theirs"

    def test_in_a_world_writable_directory_the_file_is_private(self, directory: Path) -> None:
        directory.chmod(0o1777)
        FileStorage(directory, "key").update(written, timeout=1)
        assert (directory / "key.json").stat().st_mode & 0o777 == 0o600

    def test_a_file_of_three_gib_is_read_up_to_the_bound(self, directory: Path) -> None:
        path = directory / "key.json"
        path.touch()
        os.truncate(path, 3 << 30)
        tracemalloc.start()
        try:
            text = FileStorage(directory, "key").update(written, timeout=1)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert text is not None
        assert len(text) == LONGEST_TEXT + 1
        assert peak < 10 * LONGEST_TEXT
        assert FileStorage(directory, "key").update(written, timeout=1) == "written"


class TestDefaultDirectory:
    @pytest.fixture(autouse=True)
    def temporary_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def test_it_belongs_to_this_user_alone(self) -> None:
        FileStorage(None, "key").update(written, timeout=1)
        assert str(os.getuid()) in default_directory().name
        assert default_directory().stat().st_mode & 0o777 == 0o700

    def test_one_that_others_can_write_in_is_refused(self) -> None:
        default_directory().mkdir()
        default_directory().chmod(0o777)
        with pytest.raises(LimiterUnavailable, match=r"writable for other users \(mode 777.*rate_limit_storage"):
            FileStorage(None, "key").update(never, timeout=0.1)

    def test_a_link_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "trap").mkdir(mode=0o700)
        default_directory().symlink_to(tmp_path / "trap")
        with pytest.raises(LimiterUnavailable, match=r"is not a directory.*rate_limit_storage"):
            FileStorage(None, "key").update(never, timeout=0.1)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's directory")
    def test_another_users_is_refused(self) -> None:
        default_directory().mkdir(mode=0o700)
        os.chown(default_directory(), 12345, 12345)
        with pytest.raises(LimiterUnavailable, match=r"another user \(id 12345\).*rate_limit_storage"):
            FileStorage(None, "key").update(never, timeout=0.1)
