# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Shares a limit between all processes of one host, through a file and the kernel's lock on it."""

from __future__ import annotations

import fcntl
import os
import random
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from airflow_provider_isvapp.errors import LimiterUnavailable
from airflow_provider_isvapp.ratelimit.storage_base import LONGEST_TEXT, Change, T

# An update takes well under a millisecond, so this finds the lock free at one of the next attempts.
_ATTEMPT_EVERY = 0.002
_NEXT_STEP = "Correct it, or set the connection's extra rate_limit_storage to another place."


def default_directory() -> Path:
    """Return a directory per user of this host, so that no user can disturb the limiter of another."""
    return Path(tempfile.gettempdir()) / f"airflow-provider-isvapp-{os.getuid()}"


class FileStorage:
    """One small file per key, changed in place under ``flock``; the kernel frees the lock of a killed process.

    Times are CLOCK_MONOTONIC, which all processes of a host share and which cannot be set.

    A user with write access to the directory can put something else in the file's place. Only what the limiter itself
    creates is written to: a regular file with a single link that belongs to this user or to the directory's owner, or
    to any user where the directory is writable for its group alone.

    :param directory: None for the per-user default. Another directory is made if it is missing; if its group may write
        in it, and nobody else, the group may use the limiter's files, too.
    :param key: names the file.
    """

    def __init__(self, directory: Path | None, key: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._private = directory is None
        self._directory = directory or default_directory()
        self._path = self._directory / f"{key}.json"
        self._clock = clock
        self.name = f"file {self._path}"

    def update(self, change: Change[T], *, timeout: float) -> T:
        """See `Storage`."""
        deadline = time.monotonic() + timeout
        failure: str | None = None
        try:
            # Opened for every update: a lock belongs to an open file, and threads and forks must not share one.
            with self._locked(deadline) as (file, is_new):
                text, result = change(_read(file, is_new), self._clock())
                _write(file, text)
        except OSError as error:
            failure = f"The rate limiter's {self.name} cannot be used: {error.strerror or error}. {_NEXT_STEP}"
        if failure:
            raise LimiterUnavailable(failure)
        return result

    def release(self) -> None:
        """No connection is held."""

    @contextmanager
    def _locked(self, deadline: float) -> Iterator[tuple[int, bool]]:
        while True:
            file, is_new = self._open()
            try:
                self._lock(file, deadline)
                try:
                    # A cleaner of temporary files may have removed it in between: then others use a new one.
                    if os.fstat(file).st_nlink:
                        yield file, is_new
                        return
                finally:
                    # Not left to close(): a child forked by another thread right now would keep the lock alive.
                    fcntl.flock(file, fcntl.LOCK_UN)
            finally:
                os.close(file)

    def _open(self) -> tuple[int, bool]:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        while True:
            directory = self._checked_directory()
            try:
                file, is_new = os.open(self._path, flags), False
            except FileNotFoundError:
                try:
                    file, is_new = os.open(self._path, flags | os.O_CREAT | os.O_EXCL, 0o600), True
                except FileExistsError:
                    continue
            try:
                if is_new and (for_group := _rights_of_group(directory)):
                    os.fchmod(file, 0o600 | for_group)
                self._check(os.fstat(file), directory)
            except BaseException:
                os.close(file)
                raise
            return file, is_new

    def _check(self, file: os.stat_result, directory: os.stat_result) -> None:
        """Refuse what another user put there to have it written to: by us, with our rights."""
        trusted = {os.getuid(), directory.st_uid}
        if not stat.S_ISREG(file.st_mode):
            problem = "is no regular file"
        elif file.st_nlink > 1:
            problem = f"has {file.st_nlink} names (hard links), so writing to it could damage another file"
        elif file.st_uid not in trusted and not _rights_of_group(directory) & stat.S_IWGRP:
            problem = (
                f"belongs to another user (id {file.st_uid}), in a directory that is not one for a group: users share"
                " a limiter in a directory that their group may write in, and nobody else"
            )
        else:
            return
        raise LimiterUnavailable(
            f"The rate limiter's {self.name} {problem}. Nothing was written to it. Find out who put it there and remove"
            " it (the limiter makes a new one), or set the connection's extra rate_limit_storage to another place."
        )

    def _checked_directory(self) -> os.stat_result:
        if not self._private:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return self._directory.stat()
        self._directory.mkdir(mode=0o700, exist_ok=True)
        info = self._directory.lstat()
        # Any user may create this name in the system's directory for temporary files, to trap its owner.
        if not stat.S_ISDIR(info.st_mode):
            problem = "is no directory"
        elif info.st_uid != os.getuid():
            problem = f"belongs to another user (id {info.st_uid}) and not to this one (id {os.getuid()})"
        elif info.st_mode & 0o022:
            problem = f"can be written in by others (mode {stat.S_IMODE(info.st_mode):o}, 700 is safe)"
        else:
            return info
        raise LimiterUnavailable(f"The rate limiter's directory {self._directory} {problem}. {_NEXT_STEP}")

    def _lock(self, file: int, deadline: float) -> None:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            else:
                return
            if time.monotonic() >= deadline:
                raise LimiterUnavailable(
                    f"Another process keeps the rate limiter's {self.name} locked. Find it with"
                    f" `fuser {self._path}` and end it if it hangs."
                )
            time.sleep(_ATTEMPT_EVERY * random.uniform(0.5, 1.5))  # noqa: S311 - spreads attempts, no secret


def _read(file: int, is_new: bool) -> str | None:
    size = os.fstat(file).st_size
    if is_new and not size:
        return None
    # The rest of a longer line from before does not count, and its size is unknown.
    return os.pread(file, min(size, LONGEST_TEXT + 1), 0).partition(b"\n")[0].decode("utf-8", "replace")


def _rights_of_group(directory: os.stat_result) -> int:
    """Return the rights of the group on files in a directory: none where all users may write."""
    return 0 if directory.st_mode & stat.S_IWOTH else directory.st_mode & (stat.S_IRGRP | stat.S_IWGRP)


def _write(file: int, text: str) -> None:
    os.pwrite(file, f"{text}\n".encode(), 0)
