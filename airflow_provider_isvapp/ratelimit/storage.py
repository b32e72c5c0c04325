# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The protocol of a storage for text that processes share, and the storages without a driver: memory and file.

The storages on servers share the compare-and-set update and the error messages.
"""

from __future__ import annotations

import fcntl
import os
import random
import re
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import SplitResult, parse_qsl, quote, quote_plus, unquote, urlsplit

from airflow_provider_isvapp.errors import InvalidConnection, LimiterUnavailable

T = TypeVar("T")

LONGEST_TEXT = 512 * 1024
"""The number of characters of a stored text that are read. A limiter never writes more."""

# Takes the stored text (None: never written) and the storage's time in seconds, and returns the new text and a result.
# One update may call it several times, so it must be pure.
Change = Callable[[str | None, float], tuple[str, T]]


class Storage(Protocol):
    """Keeps one text for all processes that share a limiter, and has a clock.

    At most about `LONGEST_TEXT` of a text that another program wrote are read; the next update replaces it.
    """

    @property
    def name(self) -> str:
        """The location without a password, for messages."""

    def update(self, change: Change[T], *, timeout: float) -> T:
        """Replace the text with the result of ``change``, atomically.

        :param timeout: seconds to retry for while the storage is busy or unreachable.
        :raises LimiterUnavailable: it was busy or unreachable for that long.
        """

    def release(self) -> None:
        """Release any connection held between updates."""


_PAUSE_AFTER_CONFLICT = 0.005
_PAUSE_AFTER_FAILURE = 0.25
_LONGEST_MESSAGE = 500


class Cell(Protocol):
    """One text on a server. Both methods raise LimiterUnavailable if the server does not respond."""

    name: str

    def read(self) -> tuple[str | None, float]:
        """Return the text and the server's time in seconds."""

    def replace(self, old: str | None, new: str) -> bool:
        """Write ``new`` if the text is still ``old``; return whether it was written."""


def compare_and_set(cell: Cell, change: Change[T], *, timeout: float) -> T:
    """Update the text, and retry if another update interferes; see `Storage.update`."""
    deadline = time.monotonic() + timeout
    while True:
        pause = _PAUSE_AFTER_CONFLICT
        try:
            old, now = cell.read()
            new, result = change(old, now)
            if cell.replace(old, new):
                return result
            failure = LimiterUnavailable(
                f"The rate limiter's storage {cell.name} is too slow for the number of processes that use it:"
                f" another process won every update for {timeout:g} s."
            )
        except LimiterUnavailable as error:
            # A server that restarts or fails over is back soon.
            failure, pause = error, _PAUSE_AFTER_FAILURE
        if time.monotonic() >= deadline:
            raise failure
        time.sleep(pause * random.uniform(0.2, 1.0))  # noqa: S311 - spreads attempts, no secret


def storage_name(url: SplitResult) -> str:
    """Return the URL without user, password and options."""
    port = f":{url.port}" if url.port else ""
    return f"{url.scheme}://{url.hostname}{port}{url.path}"


def unavailable(url: SplitResult, error: Exception) -> LimiterUnavailable:
    """Build an error with a driver's message, but without its exception, whose frames contain the password."""
    return LimiterUnavailable(
        f"The rate limiter's storage {storage_name(url)} does not respond: {_driver_message(url, error)}. Requests are"
        " not sent without it: check that it runs, and rate_limit_storage of the connection or of Airflow's"
        " configuration."
    )


def refused(url: SplitResult, error: Exception, *, where: str) -> LimiterUnavailable:
    """Build an error with the reason why a server rejects a statement; see `unavailable`.

    :param where: the key or table of the statement, which another program may use.
    """
    return LimiterUnavailable(
        f"The rate limiter's storage {storage_name(url)} refuses what the limiter needs: {_driver_message(url, error)}."
        f" Requests are not sent without it: check the user's privileges, and whether another program uses {where}, or"
        " set the connection's extra rate_limit_storage to another place."
    )


def _driver_message(url: SplitResult, error: Exception) -> str:
    text = str(error)
    for spelling in sorted(_spellings(url), key=len, reverse=True):
        text = text.replace(spelling, "***")
    text = " ".join(text.split()) or type(error).__name__
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}…"


def _spellings(url: SplitResult) -> set[str]:
    """Return the spellings of the secrets in a URL: as given, decoded, and as a driver may encode them."""
    # redis decodes a plus sign in the options to a space, libpq does not.
    options = [*parse_qsl(url.query), *parse_qsl(url.query.replace("+", "%2B"))]
    secrets = {url.password or "", *(value for name, value in options if "pass" in name.lower())}
    plain = secrets | {unquote(secret) for secret in secrets}
    encoded = {encode(secret, safe=safe) for secret in plain for encode in (quote, quote_plus) for safe in ("", "/")}
    return {spelling for secret in plain | encoded for spelling in (secret, repr(secret)[1:-1]) if spelling}


class _Cell:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.text: str | None = None


class MemoryStorage:
    """One text per key, for the life of the process."""

    def __init__(self, key: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._key = key
        self._clock = clock
        self.name = "memory://"

    def update(self, change: Change[T], *, timeout: float) -> T:
        """See `Storage`."""
        cell = _cells.setdefault(self._key, _Cell())
        with cell.lock:
            cell.text, result = change(cell.text, self._clock())
        return result

    def release(self) -> None:
        """No connection is held."""


_cells: dict[str, _Cell] = {}
# A forked child starts without them: it could never acquire a lock that another thread of the parent held.
os.register_at_fork(after_in_child=_cells.clear)


# An update takes much less than a millisecond, so one of the next attempts finds the lock free.
_ATTEMPT_EVERY = 0.002
_NEXT_STEP = "Correct it, or set the connection's extra rate_limit_storage to another place."


def default_directory() -> Path:
    """Return the directory of this user on this host. Users cannot disturb each other's limiters."""
    return Path(tempfile.gettempdir()) / f"airflow-provider-isvapp-{os.getuid()}"


class FileStorage:
    """One small file per key, updated in place under ``flock``; the kernel releases the lock of a killed process.

    Times are those of CLOCK_MONOTONIC, which all processes of a host share and which cannot be set.

    A user with write access to the directory can replace the file. So the limiter writes only to files as it creates
    them: regular, with a single link, and owned by this user or by the directory's owner, or by any user if the
    directory is writable for its group alone.

    :param directory: None for the per-user default. Another directory is made if it is missing; if its group may write
        in it, and no other user, the group may use the limiter's files, too.
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
            # Opened for every update: a lock belongs to an open file, which threads and forks must not share.
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
                    # A cleaner of temporary files may have removed it meanwhile: then other processes use a new one.
                    if os.fstat(file).st_nlink:
                        yield file, is_new
                        return
                finally:
                    # close() is not enough: a child forked by another thread would keep the lock.
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
        """Reject a file that another user put there to have this user write to it."""
        trusted = {os.getuid(), directory.st_uid}
        if not stat.S_ISREG(file.st_mode):
            problem = "is not a regular file"
        elif file.st_nlink > 1:
            problem = f"has {file.st_nlink} names (hard links), so writing to it could damage another file"
        elif file.st_uid not in trusted and not _rights_of_group(directory) & stat.S_IWGRP:
            problem = (
                f"belongs to another user (id {file.st_uid}), in a directory that is not for a group: users can share"
                " a limiter in a directory that is writable for their group alone"
            )
        else:
            return
        raise LimiterUnavailable(
            f"The rate limiter's {self.name} {problem}. Nothing was written to it. Find out which user created it, and"
            " remove it (the limiter creates a new one), or set the connection's extra rate_limit_storage to another"
            " place."
        )

    def _checked_directory(self) -> os.stat_result:
        if not self._private:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return self._directory.stat()
        self._directory.mkdir(mode=0o700, exist_ok=True)
        info = self._directory.lstat()
        # Any user can create this name in the system's directory for temporary files.
        if not stat.S_ISDIR(info.st_mode):
            problem = "is not a directory"
        elif info.st_uid != os.getuid():
            problem = f"belongs to another user (id {info.st_uid}) and not to this one (id {os.getuid()})"
        elif info.st_mode & 0o022:
            problem = f"is writable for other users (mode {stat.S_IMODE(info.st_mode):o}, 700 is safe)"
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
    # What follows the first line is the rest of a longer, earlier text.
    return os.pread(file, min(size, LONGEST_TEXT + 1), 0).partition(b"\n")[0].decode("utf-8", "replace")


def _rights_of_group(directory: os.stat_result) -> int:
    """Return the group's permissions for files in a directory: none if all users may write there."""
    return 0 if directory.st_mode & stat.S_IWOTH else directory.st_mode & (stat.S_IRGRP | stat.S_IWGRP)


def _write(file: int, text: str) -> None:
    os.pwrite(file, f"{text}\n".encode(), 0)


_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def open_storage(storage: str, *, key: str) -> Storage:
    """Open the storage of one text.

    :param storage: as for :func:`open_limiter`.
    :param key: names the text; it is visible in the storage.
    :raises InvalidConnection: the storage cannot be used as given.
    """
    if not _KEY.fullmatch(key):
        raise ValueError(f"A storage's key has letters, digits, '.', '_' and '-' only, at most 128: {key!r}")
    # Drivers are imported only where they are used: importing them takes hundreds of milliseconds.
    url = _split(storage.strip() or "file://")
    match url.scheme:
        case "file":
            if url.netloc or url.query:
                raise _invalid("a directory is written with three slashes, as in file:///var/lib/airflow/limiter.")
            return FileStorage(Path(unquote(url.path)) if url.path else None, key)
        case "memory":
            if url.netloc or url.path or url.query:
                raise _invalid("nothing may follow memory://.")
            return MemoryStorage(key)
        case "redis" | "rediss" | "postgresql" | "postgres":
            return _open_server(url, key)
        case _:
            # Only the scheme is quoted: the rest may contain a password.
            hint = f"{url.scheme}:// is not known" if url.scheme else "it is not a URL"
            raise _invalid(
                f"{hint}. Use file:///directory, redis://host:port/0 or postgresql://host:port/database,"
                " or leave it empty for a file of this host."
            )


def _open_server(url: SplitResult, key: str) -> Storage:
    if not url.hostname:
        raise _invalid(f"{url.scheme}:// needs a host, as in {url.scheme}://host:port/….")
    extra = "redis" if url.scheme.startswith("redis") else "postgresql"
    try:
        if extra == "redis":
            from airflow_provider_isvapp.ratelimit.storage_redis import RedisStorage

            return RedisStorage(url, key)
        from airflow_provider_isvapp.ratelimit.storage_postgresql import PostgresqlStorage

        return PostgresqlStorage(url, key)
    except ImportError:
        problem = (
            f"the driver for {url.scheme}:// is not installed here."
            f" Install it with: pip install 'airflow-provider-isvapp[{extra}]'"
        )
    except ValueError:
        problem = f"the driver for {url.scheme}:// does not understand the part after the host."
    # Raised outside the handler, as a driver's exception may contain the password.
    raise _invalid(problem)


def _split(storage: str) -> SplitResult:
    url = None
    try:
        url = urlsplit(storage)
        _ = url.port
    except ValueError:
        url = None
    # An unescaped / or @ in a password ends the host part, and an error message about host, path or port would quote
    # the rest of the password.
    if url is None or url.fragment or url.netloc.count("@") > 1 or "@" in url.path + url.query:
        raise _invalid(
            "it cannot be read. Percent-encode special characters of user name and password (@ is %40, / is %2F)."
        )
    if url.password == "***":  # noqa: S105 - what Airflow's UI shows instead of a password
        raise _invalid("its password is three asterisks, which Airflow shows instead of one. Enter it again.")
    return url


def _invalid(problem: str) -> InvalidConnection:
    return InvalidConnection(
        f"rate_limit_storage, of the connection or of [isvapp] in Airflow's configuration, is wrong: {problem}"
    )
