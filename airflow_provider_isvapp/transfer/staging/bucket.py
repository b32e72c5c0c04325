# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The base of S3, Google Cloud Storage and Azure: a bucket, the location of an object in it, an upload in parts."""

from __future__ import annotations

import contextlib
import io
import secrets
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager
from typing import IO, Any, ClassVar, Literal

from airflow_provider_isvapp.errors import DestinationExists, InvalidArgument, StorageFailed
from airflow_provider_isvapp.transfer.staging.base import (
    METADATA_KEY,
    WRITE_ID_KEY,
    FoundObject,
    ObjectInfo,
    Provenance,
    RangeReader,
    StorageKind,
    storage_errors,
)
from airflow_provider_isvapp.transfer.threads import STALL_SECONDS, P, T, Watchdog, raise_if_cancelled

# S3 and Google Cloud Storage count bytes, Azure counts characters.
_LONGEST_KEY = 1024
# How long an abort waits for the requests in progress, and then for the request that drops the upload.
_ABORT_SECONDS = 3.0
# The bytes that go to the socket at once.
_PIECE_BYTES = 64 * 1024
_TICK_SECONDS = 0.2


class RequestBody:
    """The body of a request, which goes to the socket in pieces.

    The connection's timeout then applies to each piece and not to the whole body, the watchdog sees the progress of a
    slow link, and a cancelled write ends at its next piece.

    :param data: must not change before the request has ended.
    """

    def __init__(self, data: memoryview, watchdog: Watchdog) -> None:
        self.data = data
        self._watchdog = watchdog
        self._start = self._position = self._furthest = 0
        self._is_sent = False

    def begin(self) -> None:
        """Rewind before the request is sent. Earlier reads are those of a client that computes a checksum."""
        self._position = self._start
        self._is_sent = True

    def resume(self, start: int) -> None:
        """Leave out the bytes before ``start``, which have arrived."""
        self._start = self._position = start

    def __len__(self) -> int:
        return len(self.data) - self._start

    def tell(self) -> int:
        """Return the position."""
        return self._position - self._start

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position; clients do so before and after they compute a checksum."""
        self._is_sent = False
        self._position = offset + {0: self._start, 1: self._position, 2: len(self.data)}[whence]
        return self.tell()

    def read(self, size: int | None = -1) -> memoryview:
        """Return the next piece, whatever the size. The pieces before it have gone to the socket."""
        # Bytes that are sent again are not progress.
        if self._is_sent and self._position > self._furthest:
            self._furthest = self._position
            self._watchdog.acknowledge()
        raise_if_cancelled()
        piece = self.data[self._position : self._position + _PIECE_BYTES]
        self._position += len(piece)
        return piece


def before_request(body: object) -> None:
    """Refuse the request of a cancelled write, or begin its body. Every store calls this before each attempt.

    :raises StorageFailed: if the write was cancelled.
    """
    raise_if_cancelled()
    if isinstance(body, RequestBody):
        body.begin()


class PartPool:
    """Bounds the memory of all uploads to one kind of storage; the months of a partitioned export upload together.

    :param parts: the number of parts in flight. A larger part takes the room of two or three, so memory does not grow
        with the export.
    """

    def __init__(self, parts: int) -> None:
        self._room = threading.BoundedSemaphore(parts)
        # Without it, two writes that each hold some room could wait for each other.
        self._taking = threading.Lock()
        self._held: list[tuple[Watchdog, int]] = []
        self._changing = threading.Lock()
        # Sent parts, to be filled again: new ones of this size would fragment the heap.
        self._emptied: deque[bytearray] = deque(maxlen=parts)

    def empty_part(self, size: int) -> bytearray:
        """Return a part to fill."""
        with contextlib.suppress(IndexError):
            while True:
                part = self._emptied.pop()
                if len(part) == size:
                    return part
        return bytearray(size)

    def acquire(self, room: int, watchdog: Watchdog) -> None:
        """Wait for the room of a part.

        :raises StorageFailed: if the storage stalls for the writes that hold the room.
        """
        with self._taking:
            for taken in range(room):
                try:
                    while not self._room.acquire(timeout=_TICK_SECONDS):
                        # This write may have no request in progress: others of this thread may hold all the room.
                        for holder, _ in ((watchdog, 0), *self._held):
                            holder.check()
                except BaseException:
                    if taken:
                        self._room.release(taken)
                    raise
            self._held.append((watchdog, room))

    def release(self, room: int, watchdog: Watchdog, part: bytearray | None = None) -> None:
        """Return the room of a part, and the part itself to be filled again."""
        with self._changing:
            if (watchdog, room) not in self._held:
                return
            self._held.remove((watchdog, room))
            self._room.release(room)
        if part is not None:
            self._emptied.append(part)

    def release_all(self, watchdog: Watchdog) -> None:
        """Return the room of all parts of a write that has ended, and free the sent parts.

        A cancelled request can hang until its connection's timeout. Other writes do not wait for it.
        """
        for holder, room in tuple(self._held):
            if holder is watchdog:
                self.release(room, holder)
        self._emptied.clear()


class BucketStore(ABC):
    """A bucket or container.

    :ivar errors: :func:`~airflow_provider_isvapp.transfer.staging.base.storage_errors` with the storage's own messages.
    """

    kind: StorageKind
    service: ClassVar[str]
    target_type: ClassVar[type[BucketTarget]]
    errors: Callable[..., AbstractContextManager[None]] = staticmethod(storage_errors)

    def __init__(
        self,
        client: Any,
        bucket: str,
        *,
        options: Mapping[str, Any] | None = None,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self.client = client
        self.bucket = bucket
        self.options = dict(options or {})
        self.stall_seconds = stall_seconds

    @property
    @abstractmethod
    def namespace(self) -> str:
        """The URI of the bucket."""

    def target(self, key: str, uri: str) -> BucketTarget:
        """Return the location of an object."""
        return self.target_type(self, key, uri)

    def names(self, prefix: str) -> Iterator[str]:
        """List keys and folders that begin with a prefix."""
        uri = f"{self.namespace}/{prefix}"
        with self.errors(uri, reading=True):
            pages = self._pages(prefix)
            watchdog = Watchdog(uri, seconds=self.stall_seconds)
            while (page := watchdog.call(next, pages, None)) is not None:
                yield from (name.rstrip("/") for name in page)

    @abstractmethod
    def _pages(self, prefix: str) -> Iterator[list[str]]: ...

    def check_options(self) -> None:
        """Check that the storage takes the options.

        :raises InvalidArgument: naming the wrong option.
        """
        known = self._known_options()
        for name, value in self.options.items():
            if name not in known:
                names = ", ".join(sorted(known))
                raise InvalidArgument(f"storage_options: {self.service} takes no {name!r} here. It takes {names}.")
            self._check_option(name, value)

    @abstractmethod
    def _known_options(self) -> Collection[str]: ...

    @abstractmethod
    def _check_option(self, name: str, value: Any) -> None: ...


class BucketTarget(ABC):
    """The location of an object in a bucket.

    :param uri: the URI for messages.
    """

    object_type: ClassVar[type[BucketObject]]
    # The bytes that one request reads.
    range_bytes = 8 * 1024 * 1024

    def __init__(self, store: Any, key: str, uri: str) -> None:
        self.store = store
        self.key = key
        self.uri = uri

    def check(self) -> None:
        """Check the key and the options."""
        if not self.key:
            raise InvalidArgument(f"path {self.uri!r} names a bucket; add the name of the object to write.")
        if len(self.key) > _LONGEST_KEY:
            raise InvalidArgument(
                f"path {self.uri!r}: the key has {len(self.key)} characters, and at most {_LONGEST_KEY} are allowed."
            )
        self.store.check_options()

    @abstractmethod
    def check_rights(self) -> None:
        """Check the rights to write, with a request that leaves nothing behind."""

    def info(self) -> ObjectInfo | None:
        """Request the object's description."""
        with self.store.errors(self.uri, reading=True):
            found = self.call(self._find)
        return None if found is None else found.info

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the object for reading. If another writer replaces it, the next read fails."""
        with self.store.errors(self.uri, reading=True):
            found = self.call(self._find)
            if found is None:
                raise FileNotFoundError(self.uri)
            read = found.read
            ranges = RangeReader(lambda begin, end: self.call(read, begin, end), found.size, self.range_bytes)
            with io.BufferedReader(ranges) as reader:
                yield reader

    def stage(self, *, exclusive: bool, content_type: str, provenance: Provenance | None) -> BucketObject:
        """Begin an object."""
        return self.object_type(self, exclusive=exclusive, content_type=content_type, provenance=provenance)

    def call(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that sends requests, and cancel it if the storage stalls."""
        return Watchdog(self.uri, seconds=self.store.stall_seconds).call(call, *args, **kwargs)

    @abstractmethod
    def _find(self) -> FoundObject | None: ...


class BucketObject(ABC):
    """An object that is uploaded, and becomes visible with the last request.

    :param exclusive: do not replace an existing object; the storage decides that in the last request.
    :param provenance: stored as metadata.
    """

    def __init__(self, target: Any, *, exclusive: bool, content_type: str, provenance: Provenance | None) -> None:
        self.write_id = secrets.token_hex(8)
        self._target = target
        self._store = target.store
        self._key: str = target.key
        self._uri: str = target.uri
        self._exclusive = exclusive
        self._content_type = content_type
        self._provenance = provenance
        self._stored_provenance: Provenance | None = None
        self._watchdog = Watchdog(target.uri, seconds=target.store.stall_seconds)
        # The id or the URL of the upload.
        self._upload: Future[str] | None = None
        self._in_flight: deque[Future[Any]] = deque()
        self._ended = False

    @abstractmethod
    def write(self, data: bytes | memoryview) -> None:
        """Append bytes; blocks while too many are in flight."""

    @abstractmethod
    def flush(self, provenance: Provenance | None = None) -> None:
        """Send everything that need not be part of the last request."""

    def commit(self) -> ObjectInfo:
        """Send the last request, which makes the object visible.

        :raises DestinationExists: if there is an object that it must not replace.
        """
        with self._errors():
            version, checksum = self._publish()
        self._end()
        return ObjectInfo(
            version=version, checksum=checksum, provenance=self._stored_provenance, write_id=self.write_id
        )

    def abort(self) -> None:
        """Stop all requests and drop the upload, unless it is committed."""
        if self._ended:
            return
        self._end()
        self._watchdog.cancel()
        # A part that arrives after the upload is dropped would stay.
        wait([*self._in_flight, *([self._upload] if self._upload else [])], timeout=_ABORT_SECONDS)
        if self._upload is not None:
            with contextlib.suppress(Exception):
                upload = self._upload.result(timeout=0)
                Watchdog(self._uri, seconds=_ABORT_SECONDS).call(self._abort_upload, upload)

    def _abort_upload(self, upload: str) -> None:  # noqa: B027 - Azure has no request for it
        """Drop the upload."""

    @abstractmethod
    def _publish(self) -> tuple[str | None, str | None]:
        """Make the object visible, and return its version and checksum."""

    @abstractmethod
    def _conflict(self, error: Exception) -> Literal["exists", "replaced"] | None:
        """Return whether an error means that an object exists, or that another writer was faster; None if neither."""

    def _metadata(self) -> dict[str, str]:
        self._stored_provenance = self._provenance
        provenance = {} if self._provenance is None else {METADATA_KEY: self._provenance.to_text()}
        return {WRITE_ID_KEY: self.write_id} | provenance

    def _exists(self) -> DestinationExists:
        return DestinationExists(f"{self._uri} exists, and the task may not overwrite it.")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        with self._store.errors(self._uri):
            try:
                yield
            except Exception as error:
                kind = self._conflict(error)
                if kind is None:
                    raise
            else:
                return
        if kind == "exists":
            raise self._exists()
        raise StorageFailed(
            f"Another writer replaced {self._uri} or aborted the upload, probably another task that writes the same "
            "object. Nothing was published. Ensure that only one task writes it."
        )

    def _end(self) -> None:
        self._ended = True


class MultipartObject(BucketObject):
    """An object whose parts are sent in parallel."""

    pool: ClassVar[PartPool]

    def __init__(self, target: Any, **arguments: Any) -> None:
        super().__init__(target, **arguments)
        self._part: bytearray | None = None
        self._filled = 0
        self._sent: list[Any] = []

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes; blocks while too many parts are in flight."""
        rest = memoryview(data)
        with self._errors():
            while rest:
                if self._part is None:
                    self._part = self.pool.empty_part(self._part_bytes(self._count()))
                taken = min(len(rest), len(self._part) - self._filled)
                memoryview(self._part)[self._filled : self._filled + taken] = rest[:taken]
                self._filled += taken
                rest = rest[taken:]
                if self._filled == len(self._part):
                    self._send_part(self._part)

    def flush(self, provenance: Provenance | None = None) -> None:
        """Send the last part and wait for all of them."""
        self._provenance = provenance or self._provenance
        with self._errors():
            if self._part is not None:
                self._send_part(self._part)
            while self._in_flight:
                self._take_oldest()

    @abstractmethod
    def _part_bytes(self, index: int) -> int:
        """Return the size of a part: that of the first one, or a multiple of it."""

    @abstractmethod
    def _send(self, index: int, body: RequestBody) -> Any:
        """Send a part, and return what the last request needs of it."""

    def _count(self) -> int:
        return len(self._sent) + len(self._in_flight)

    def _send_part(self, part: bytearray) -> None:
        while self._in_flight and self._in_flight[0].done():
            self._take_oldest()
        index, body = self._count(), RequestBody(memoryview(part)[: self._filled], self._watchdog)
        room = len(part) // self._part_bytes(0)
        self._part, self._filled = None, 0
        self.pool.acquire(room, self._watchdog)
        try:
            sending = self._watchdog.start(self._send, index, body)
        except BaseException:
            self.pool.release(room, self._watchdog)
            raise
        sending.add_done_callback(lambda _: self.pool.release(room, self._watchdog, part))
        self._in_flight.append(sending)

    def _take_oldest(self) -> None:
        self._sent.append(self._watchdog.wait(self._in_flight[0]))
        self._in_flight.popleft()

    def _end(self) -> None:
        super()._end()
        self.pool.release_all(self._watchdog)
