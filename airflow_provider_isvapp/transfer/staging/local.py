# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Publishes a local file by renaming it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from airflow_provider_isvapp.errors import DestinationExists, InvalidArgument, StorageFailed
from airflow_provider_isvapp.transfer.staging.base import (
    METADATA_KEY,
    ObjectInfo,
    Provenance,
    StorageKind,
    storage_errors,
)

_SUFFIX = ".isvapp-part"
# The bytes of one system call. More gain nothing, and hold back the reading thread for longer.
_GATHERED_BYTES = 256 * 1024
# The bytes between two requests to the kernel to write to the disk.
_WRITEBACK_BYTES = 8 * 1024 * 1024

_ATTRIBUTE = f"user.{METADATA_KEY}"


class LocalStore:
    """The file systems of this host. Files have no content type and take no options.

    :param options: must be empty.
    """

    kind: StorageKind = "local"
    namespace = "file"

    def __init__(self, *, options: Mapping[str, Any] | None = None) -> None:
        self._options = dict(options or {})

    def target(self, key: str, uri: str) -> LocalTarget:
        """Return the location of a file."""
        if self._options:
            raise InvalidArgument(f"storage_options: local files take none. Remove {', '.join(self._options)}.")
        return LocalTarget(key)

    def names(self, prefix: str) -> Iterator[str]:
        """List the files and folders of one folder that begin with a prefix."""
        folder, slash, beginning = prefix.rpartition("/")
        with storage_errors(prefix, reading=True):
            try:
                found = os.listdir(f"{folder}{slash}" or ".")
            except (FileNotFoundError, NotADirectoryError):
                return
        yield from (f"{folder}{slash}{name}" for name in found if name.startswith(beginning))


class LocalTarget:
    """The location of a local file.

    :param path: the path. Symbolic links in it are followed.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(os.path.realpath(path))

    def check(self) -> None:
        """Check the name, that no folder or device has it, and the permissions of the folder.

        :raises InvalidArgument: if the path can never name a file.
        :raises StorageFailed: if this process may not write there.
        """
        folder = self._path.parent
        while not os.path.lexists(folder):
            folder = folder.parent
        if not folder.is_dir():
            raise InvalidArgument(f"path {str(self._path)!r}: {folder} is not a folder. Choose another path.")
        with storage_errors(str(self._path)):
            longest = os.pathconf(folder, "PC_NAME_MAX")
        for name in self._path.relative_to(folder).parts:
            if len(os.fsencode(name)) > longest:
                raise InvalidArgument(
                    f"path {str(self._path)!r}: the name {name!r} has {len(os.fsencode(name))} bytes, and the file "
                    f"system takes {longest}. Choose a shorter one."
                )
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            raise StorageFailed(
                f"Cannot write {self._path}: user {os.geteuid()} has no permission to create files in {folder}. "
                "Nothing was requested or written. Grant it, or choose another path."
            )
        with storage_errors(str(self._path)):
            problem = _obstacle(self._path)
        if problem:
            raise InvalidArgument(f"path {str(self._path)!r}: {problem}. Remove it, or choose another path.")

    def check_rights(self) -> None:
        """Create an unnamed file in the folder or, if that does not exist, in its closest existing parent."""
        folder = self._path.parent
        while not os.path.lexists(folder):
            folder = folder.parent
        try:
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            problem = error.strerror or type(error).__name__
        else:
            return
        raise StorageFailed(
            f"Cannot write {self._path}: no file can be created in {folder} ({problem}). Nothing was "
            "requested or written. Correct the folder, or choose another path."
        )

    def info(self) -> ObjectInfo | None:
        """Describe the file. Its provenance counts only if the file has not changed since."""
        with storage_errors(str(self._path), reading=True):
            try:
                status = self._path.stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
        provenance = None
        with contextlib.suppress(OSError, AttributeError, ValueError):
            touched, _, text = os.getxattr(self._path, _ATTRIBUTE).decode().partition(" ")
            if touched == _version(status):
                provenance = Provenance.from_text(text)
        return ObjectInfo(version=_version(status), provenance=provenance, write_id=_identity(status))

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the file for reading; refuse anything but a regular file."""
        with (
            storage_errors(str(self._path), reading=True),
            os.fdopen(_open_regular(self._path, os.O_RDONLY), "rb") as file,
        ):
            yield file

    def stage(self, *, exclusive: bool, content_type: str, provenance: Provenance | None) -> LocalFile:
        """Begin a file. It gets its provenance at the end, and has no content type."""
        return LocalFile(self._path, exclusive=exclusive)


class LocalFile:
    """A file under a temporary name beside its target, so that the rename is atomic (same file system).

    What a reader of the target sees if the process dies

    - before :meth:`commit`: the old file, or none. ``.<name>.<random>.isvapp-part`` beside it holds the bytes so far;
      the next write to the same target removes it. A live writer holds a lock on its temporary file, which the kernel
      drops when the process dies, so leftovers can be told from the files of concurrent tasks.
    - in or after :meth:`commit`: the old file or the whole new one, even after a power cut: the bytes are on the disk
      before the rename, and the directory is flushed after it.

    The new file gets the permissions of the file that it replaces, and its owner and group as far as this process may
    set them. If it cannot keep the group, the members get no more rights than other users. Set-id and sticky bits are
    dropped.

    :param target: the location of the file. Missing directories are created, as in an object store.
    :param exclusive: do not replace an existing file.
    """

    def __init__(self, target: Path, *, exclusive: bool = False) -> None:
        self._target = target
        self._exclusive = exclusive
        with storage_errors(str(target)):
            self._target.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(self._target)
            self._temporary, self._fd = _create_locked(self._target)
            # A network file system can lose the response to a rename or a link, too.
            self.write_id = _identity(os.fstat(self._fd))
        self._ended = False
        self._using_fd = threading.Lock()
        self._gathered: list[bytes | memoryview] = []
        self._gathered_bytes = 0
        self._written = 0
        self._handed_over = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        self._gathered.append(data)
        self._gathered_bytes += len(data)
        # All systems take 1,024 buffers in one call (IOV_MAX).
        if self._gathered_bytes >= _GATHERED_BYTES or len(self._gathered) == 1024:
            self._write_gathered()

    def _write_gathered(self) -> None:
        with self._using_fd, storage_errors(str(self._target)):
            while self._gathered_bytes:
                count = os.writev(self._fd, self._gathered)
                self._written += count
                self._gathered_bytes -= count
                self._gathered = _after(count, self._gathered)
            if self._written - self._handed_over >= _WRITEBACK_BYTES:
                self._begin_writeback()

    def _begin_writeback(self) -> None:
        """Write to the disk during the download, so that the flush at the end takes little time.

        On this advice, Linux writes dirty pages in the background (mm/fadvise.c); other systems lack the call.
        """
        if hasattr(os, "posix_fadvise"):
            length = self._written - self._handed_over
            os.posix_fadvise(self._fd, self._handed_over, length, os.POSIX_FADV_DONTNEED)
        self._handed_over = self._written

    def flush(self, provenance: Provenance | None = None) -> None:
        """Flush the bytes to the disk, and the provenance if the file system has extended attributes."""
        self._write_gathered()
        with storage_errors(str(self._target)):
            if provenance is not None:
                with contextlib.suppress(OSError, AttributeError):
                    text = f"{_version(os.fstat(self._fd))} {provenance.to_text()}"
                    os.setxattr(self._fd, _ATTRIBUTE, text.encode())
            os.fsync(self._fd)

    def commit(self) -> ObjectInfo:
        """Rename the file onto its target.

        :raises DestinationExists: if there is a file that it must not replace.
        """
        with storage_errors(str(self._target)):
            try:
                if self._exclusive:
                    os.link(self._temporary, self._target)
                else:
                    if problem := _obstacle(self._target):
                        raise OSError(problem)
                    self._temporary.replace(self._target)
            except FileExistsError:
                taken = True
            else:
                taken = False
                self._ended = True
        if taken:
            raise DestinationExists(f"{self._target} exists, and the task may not overwrite it.")
        # The file is published: an error below must not fail the task.
        version = None
        with contextlib.suppress(OSError):
            self._temporary.unlink()
        with contextlib.suppress(OSError):
            version = _version(os.fstat(self._fd))
            os.close(self._fd)
        _flush_directory(self._target.parent)
        return ObjectInfo(version=version, write_id=self.write_id)

    def abort(self) -> None:
        """Remove the temporary file, unless it is committed."""
        if self._ended:
            return
        self._ended = True
        with contextlib.suppress(OSError):
            self._temporary.unlink()
        # While a write hangs in another thread, its descriptor must stay open: a new file could get the same number.
        if self._using_fd.acquire(blocking=False):
            os.close(self._fd)


def _after(count: int, buffers: list[bytes | memoryview]) -> list[bytes | memoryview]:
    """Return the buffers without their first ``count`` bytes."""
    for position, buffer in enumerate(buffers):
        if count < len(buffer):
            return [memoryview(buffer)[count:], *buffers[position + 1 :]]
        count -= len(buffer)
    return []


def _version(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}"


def _identity(status: os.stat_result) -> str:
    return f"{status.st_dev}-{status.st_ino}"


def _obstacle(target: Path) -> str | None:
    """Describe what has the target's name, unless it is a regular file, which may be replaced."""
    try:
        mode = os.lstat(target).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISREG(mode):
        return None
    if stat.S_ISLNK(mode):
        # The constructor has followed all links; only one that leads back to itself remains.
        return "a symbolic link that leads back to itself is there"
    kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "named pipe", stat.S_IFSOCK: "socket"}
    return f"a {kinds.get(stat.S_IFMT(mode), 'device')} is there, not a file"


def _open_regular(path: Path, access: int) -> int:
    """Open a regular file only, and do not block, as a named pipe would until its other end is opened."""
    fd = os.open(path, access | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, "Not a regular file", str(path))


def _create_locked(target: Path) -> tuple[Path, int]:
    """Create the temporary file and lock it; try again if another task removed it between the two steps."""
    while True:
        temporary = target.parent / f"{_prefix(target)}{secrets.token_hex(4)}{_SUFFIX}"
        fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                with contextlib.suppress(FileNotFoundError):
                    _copy_permissions(os.lstat(target), fd)
                return temporary, fd
        except BaseException:
            temporary.unlink(missing_ok=True)
            os.close(fd)
            raise
        os.close(fd)


def _copy_permissions(old: os.stat_result, fd: int) -> None:
    if not stat.S_ISREG(old.st_mode):
        return
    mode = old.st_mode & 0o777
    with contextlib.suppress(OSError):
        os.fchown(fd, -1, old.st_gid)
    if os.fstat(fd).st_gid != old.st_gid:
        mode = mode & ~stat.S_IRWXG | (mode & stat.S_IRWXO) << 3
    os.fchmod(fd, mode)
    with contextlib.suppress(OSError):
        os.fchown(fd, old.st_uid, -1)


def _prefix(target: Path) -> str:
    # A name may have 255 bytes, or 143 in an encrypted folder; a long one is cut to leave room for the other parts.
    return f".{os.fsencode(target.name)[:100].decode(errors='ignore')}."


def _leftovers(target: Path) -> Iterator[Path]:
    prefix = _prefix(target)
    with os.scandir(target.parent) as entries:
        yield from (Path(item.path) for item in entries if item.name.startswith(prefix) and item.name.endswith(_SUFFIX))


def _remove_leftovers(target: Path) -> None:
    # An error here must not stop the write: the folder may not be readable, or the file belongs to another user.
    with contextlib.suppress(OSError):
        for leftover in _leftovers(target):
            with contextlib.suppress(OSError):
                _remove_unlocked(leftover)


def _remove_unlocked(leftover: Path) -> None:
    fd = _open_regular(leftover, os.O_WRONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        leftover.unlink()
    finally:
        os.close(fd)


def _flush_directory(directory: Path) -> None:
    # The file is published already. Some network file systems cannot flush directories, and some are not readable.
    with contextlib.suppress(OSError):
        fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
