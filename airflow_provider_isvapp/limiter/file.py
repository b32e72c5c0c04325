# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Shares a limit between all processes of one host, with nothing but a file and the kernel's lock on it."""

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
from airflow_provider_isvapp.limiter.interfaces import Change, T

# An update takes well under a millisecond, so this finds the lock free at one of the next attempts.
_ATTEMPT_EVERY = 0.002
_NEXT_STEP = "Correct it, or set the connection's extra rate_limit_storage to another place."


def default_directory() -> Path:
    """One directory for each user of this host, so that nobody can disturb another user's limiter."""
    return Path(tempfile.gettempdir()) / f"airflow-provider-isvapp-{os.getuid()}"


class FileStorage:
    """One small file for each key, changed in place under ``flock``; the kernel frees the lock of a killed process.

    Times are CLOCK_MONOTONIC, which all processes of a host share and nobody can set.

    :param directory: None for the per-user default. Another directory is made if it is missing; if its group may write
        in it, the group may use the limiter's files, too.
    :param key: names the file.
    """

    def __init__(self, directory: Path | None, key: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._private = directory is None
        self._directory = directory or default_directory()
        self._path = self._directory / f"{key}.json"
        self._clock = clock
        self.name = f"file {self._path}"

    def update(self, change: Change[T], *, patience: float) -> T:
        """See `Storage`."""
        deadline = time.monotonic() + patience
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

    def rest(self) -> None:
        """Nothing is kept."""

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
                return os.open(self._path, flags), False
            except FileNotFoundError:
                pass
            try:
                file = os.open(self._path, flags | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                continue
            if for_group := directory.st_mode & 0o060:
                os.fchmod(file, 0o600 | for_group)
            return file, True

    def _checked_directory(self) -> os.stat_result:
        if not self._private:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return self._directory.stat()
        self._directory.mkdir(mode=0o700, exist_ok=True)
        info = self._directory.lstat()
        # Anybody may create names in the system's directory for temporary files, also this one, to trap its user.
        if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o022:
            raise LimiterUnavailable(
                f"The rate limiter's directory {self._directory} does not belong to this user alone. {_NEXT_STEP}"
            )
        return info

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
    # The rest of a longer line that was there before does not count.
    return os.pread(file, size, 0).decode("utf-8", "replace").partition("\n")[0]


def _write(file: int, text: str) -> None:
    os.pwrite(file, f"{text}\n".encode(), 0)
