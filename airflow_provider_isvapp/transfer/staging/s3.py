# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Publishes an S3 object by a multipart upload whose parts are sent at the same time."""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
from base64 import b64encode
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import IO, Any
from weakref import WeakKeyDictionary

import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import Credentials
from fsspec.asyn import sync

from airflow_provider_isvapp.errors import DestinationExists, StorageFailed
from airflow_provider_isvapp.transfer.gzip import Crc32
from airflow_provider_isvapp.transfer.staging.base import METADATA_KEY, Provenance, check_key, storage_errors

# A part is tried again by botocore (429, 500, 503, resets), with growing waits.
_RETRIES = {"mode": "standard", "max_attempts": 6}

# A client costs a third of a second, and may be used by many threads.
_clients: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def botocore_client(fs: Any) -> Any:
    """Return a botocore client that signs as the file system does, to the same endpoint.

    :param fs: an ``s3fs.S3FileSystem``.
    """
    if fs not in _clients:
        _clients[fs] = _new_client(fs)
    return _clients[fs]


def _new_client(fs: Any) -> Any:
    fs.connect()
    session = botocore.session.get_session()
    options = {"endpoint_url": fs.endpoint_url, "use_ssl": fs.use_ssl, "region_name": fs.s3.meta.region_name}
    config = {"retries": _RETRIES} | fs.config_kwargs
    if fs.anon:
        config["signature_version"] = UNSIGNED
    elif fs.key:
        options |= {"aws_access_key_id": fs.key, "aws_secret_access_key": fs.secret, "aws_session_token": fs.token}
    else:
        session.register_component("credential_provider", _CredentialsOfSession(fs))
    return session.create_client("s3", config=Config(**config), **(options | fs.client_kwargs))


class _CredentialsOfSession:
    """What botocore asks for credentials: those of the file system's own, asynchronous session."""

    def __init__(self, fs: Any) -> None:
        self._loop = fs.loop
        self._session = fs.session

    def load_credentials(self) -> Credentials | None:
        """Return credentials, or None if the session has none."""
        credentials = sync(self._loop, self._session.get_credentials)
        return None if credentials is None else _RenewedElsewhere(self._loop, credentials)


class _RenewedElsewhere(Credentials):  # type: ignore[misc] # botocore has no types
    """Credentials that the other session renews when they are about to expire."""

    def __init__(self, loop: Any, credentials: Any) -> None:
        self._loop = loop
        self._credentials = credentials
        super().__init__(*self.get_frozen_credentials()[:3], method=credentials.method)

    def get_frozen_credentials(self) -> Any:
        """Return a key, a secret and a token that are good now."""
        return sync(self._loop, self._credentials.get_frozen_credentials)


# S3 takes no less than 5 MiB; a fifth less time goes by with 8.
PART_BYTES = 8 * 1024 * 1024
# S3 takes 10,000 parts of an object. The later ones are larger, which is enough for 180 GB.
_LARGER_AFTER = {2_000: 2, 6_000: 3}
_PARTS_ON_THEIR_WAY = 5
_JOIN_SECONDS = 3.0

# Of all objects together: the months of a divided export are written at the same time. A larger part takes the room of
# two or three, so that memory does not grow with the export.
_room = threading.BoundedSemaphore(_PARTS_ON_THEIR_WAY)
# Two that took their room bit by bit at the same time could wait for each other.
_taking_room = threading.Lock()
# Parts that were sent, to be filled again: fresh ones of this size would scatter over the heap.
_emptied: deque[bytearray] = deque(maxlen=_PARTS_ON_THEIR_WAY)

# Metadata travels as headers, and some proxies drop those with an underscore.
_METADATA_KEY = METADATA_KEY.replace("_", "-")
_WRITE_ID_KEY = "isvapp-write-id"

_LOG = logging.getLogger(__name__)


class S3Target:
    """The place of an object in a bucket.

    :param fs: the ``s3fs.S3FileSystem``.
    :param path: bucket and key.
    :param uri: the address for messages.
    """

    def __init__(self, fs: Any, path: str, uri: str) -> None:
        self._fs = fs
        self._path = path
        self._uri = uri
        self._bucket, self._key, _ = fs.split_path(path)

    def check(self) -> None:
        """See that S3 takes such a key; whether it grants the right to write it, only writing shows."""
        check_key(self._key, self._uri)

    def exists(self) -> bool:
        """Ask for the object's head."""
        return self._head() is not None

    def provenance(self) -> Provenance | None:
        """Read the provenance from the object's metadata."""
        head = self._head() or {}
        return Provenance.from_text(head.get("Metadata", {}).get(_METADATA_KEY, ""))

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the object for reading."""
        with (
            storage_errors(self._uri, reading=True),
            self._fs.open(self._path, "rb", block_size=PART_BYTES) as reader,
        ):
            yield reader

    def stage(self, *, exclusive: bool, provenance: Provenance | None) -> S3Object:
        """Begin an object."""
        return S3Object(self._fs, self._bucket, self._key, self._uri, exclusive=exclusive, provenance=provenance)

    def _head(self) -> dict[str, Any] | None:
        with storage_errors(self._uri, reading=True):
            try:
                head: dict[str, Any] = self._fs.call_s3("head_object", Bucket=self._bucket, Key=self._key)
            except FileNotFoundError:
                return None
            return head


class S3Object:
    """An object in parts; one that fits into a single part is sent as one request.

    What a reader sees if the process dies

    - before :meth:`commit`: the old object, or none. What is left is an unfinished multipart upload under the object's
      key. It shows in no listing of objects, but its parts are paid for until the next write to the same key aborts it,
      or the bucket's rule ``AbortIncompleteMultipartUpload`` does.
    - in :meth:`commit`: the old object or the whole new one; S3 switches in one step.

    Whoever begins a write aborts all unfinished uploads of the key. So of two tasks that write it at once, the one that
    began first fails, which is also what is wanted when Airflow took a task for dead that was not.

    :param exclusive: never replace an existing object (If-None-Match, which S3 decides in the last step).
    :param provenance: stored as metadata.
    """

    def __init__(
        self, fs: Any, bucket: str, key: str, uri: str, *, exclusive: bool, provenance: Provenance | None
    ) -> None:
        self._fs = fs
        self._uri = uri
        self._where = {"Bucket": bucket, "Key": key}
        self._condition = {"IfNoneMatch": "*"} if exclusive else {}
        self._provenance = provenance
        self._nonce = secrets.token_hex(8)
        self._part: bytearray | None = None
        self._filled = 0
        self._upload_id: Future[str] | None = None
        self._sent: list[dict[str, Any]] = []
        self._on_their_way: deque[Future[dict[str, Any]]] = deque()
        self._threads = ThreadPoolExecutor(_PARTS_ON_THEIR_WAY, thread_name_prefix="isvapp-s3-part")
        self._over = False
        with storage_errors(uri):
            self._client = botocore_client(fs)
            self._abort_unfinished_uploads()

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes; waits while too many parts are on their way."""
        rest = memoryview(data)
        while rest:
            if self._part is None:
                self._part = self._empty_part()
            taken = min(len(rest), len(self._part) - self._filled)
            memoryview(self._part)[self._filled : self._filled + taken] = rest[:taken]
            self._filled += taken
            rest = rest[taken:]
            if self._filled == len(self._part):
                with self._errors():
                    self._send_part(self._part)

    def flush(self, provenance: Provenance | None = None) -> None:
        """Send the last part and wait for all of them."""
        self._provenance = provenance or self._provenance
        with self._errors():
            if self._upload_id is not None:
                if self._part is not None:
                    del self._part[self._filled :]
                    self._send_part(self._part)
                while self._on_their_way:
                    self._take_oldest()

    def commit(self) -> None:
        """Put the parts together.

        :raises DestinationExists: if it must not replace an object and there is one.
        """
        with self._errors():
            if self._upload_id is None:
                self._call(
                    "put_object",
                    Body=bytes(memoryview(self._part or b"")[: self._filled]),
                    Metadata=self._metadata(),
                    **self._condition,
                )
            else:
                self._complete(self._upload_id.result())
            self._end()
            self._fs.invalidate_cache()

    def abort(self) -> None:
        """Abort the upload, unless it is committed."""
        if self._over:
            return
        parts = list(self._on_their_way)
        for part in parts:
            part.cancel()
        if self._upload_id is not None:
            # A part that arrives after the abort would stay.
            under_way: list[Future[Any]] = [self._upload_id, *parts]
            wait(under_way, timeout=_JOIN_SECONDS)
            with contextlib.suppress(Exception):
                self._call("abort_multipart_upload", UploadId=self._upload_id.result(timeout=0))
        self._end()

    def _empty_part(self) -> bytearray:
        size = PART_BYTES * _times_as_large(self._parts)
        with contextlib.suppress(IndexError):
            while True:
                part = _emptied.pop()
                if len(part) == size:
                    return part
        return bytearray(size)

    @property
    def _parts(self) -> int:
        return len(self._sent) + len(self._on_their_way)

    def _send_part(self, part: bytearray) -> None:
        if self._upload_id is None:
            # The next part can be filled meanwhile.
            self._upload_id = self._threads.submit(self._begin_upload)
        while self._on_their_way and self._on_their_way[0].done():
            self._take_oldest()
        self._part, self._filled = None, 0
        room = _times_as_large(self._parts)
        with _taking_room:
            for _ in range(room):
                _room.acquire()
        try:
            sending = self._threads.submit(self._upload, self._upload_id, self._parts + 1, part)
        except BaseException:
            _room.release(room)
            raise
        sending.add_done_callback(lambda _: _room.release(room))
        self._on_their_way.append(sending)

    def _begin_upload(self) -> str:
        upload_id: str = self._call("create_multipart_upload", Metadata=self._metadata())["UploadId"]
        return upload_id

    def _upload(self, upload_id: Future[str], number: int, part: bytearray) -> dict[str, Any]:
        checksum = self._checksum(part)
        answer = self._call("upload_part", UploadId=upload_id.result(), PartNumber=number, Body=part, **checksum)
        _emptied.append(part)
        return answer

    def _checksum(self, part: bytearray) -> dict[str, str]:
        """Compute what botocore would by default, but with isal, which takes a tenth of zlib's time."""
        computed = getattr(self._client.meta.config, "request_checksum_calculation", None) == "when_supported"
        if not computed or "ChecksumAlgorithm" in self._fs.s3_additional_kwargs:
            return {}
        crc32 = Crc32()
        crc32.update(part)
        return {"ChecksumCRC32": b64encode(crc32.digest()).decode()}

    def _take_oldest(self) -> None:
        answer = self._on_their_way[0].result()
        self._on_their_way.popleft()
        names = ("ETag", "ChecksumCRC32", "ChecksumCRC64NVME", "ChecksumSHA256")
        self._sent.append(
            {name: answer[name] for name in names if name in answer} | {"PartNumber": len(self._sent) + 1}
        )

    def _complete(self, upload_id: str) -> None:
        if self._condition and self._exists():
            # Some servers take the condition for small objects only (Ceph 16).
            raise self._taken()
        try:
            self._call(
                "complete_multipart_upload",
                UploadId=upload_id,
                MultipartUpload={"Parts": self._sent},
                **self._condition,
            )
        except self._client.exceptions.NoSuchUpload:
            # The answer to a first, successful try may have been lost.
            head = self._client.head_object(**self._where)
            if head.get("Metadata", {}).get(_WRITE_ID_KEY) != self._nonce:
                raise

    def _exists(self) -> bool:
        try:
            self._client.head_object(**self._where)
        except self._client.exceptions.ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
                return False
            raise
        return True

    def _taken(self) -> DestinationExists:
        return DestinationExists(f"{self._uri} exists, and the task may not overwrite it.")

    def _metadata(self) -> dict[str, str]:
        provenance = {} if self._provenance is None else {_METADATA_KEY: self._provenance.to_text()}
        return {_WRITE_ID_KEY: self._nonce} | provenance

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Call S3 with the connection's additional arguments, such as encryption, where the operation takes them."""
        model = self._client.meta.service_model.operation_model(_api_name(operation))
        additional = {
            name: value for name, value in self._fs.s3_additional_kwargs.items() if name in model.input_shape.members
        }
        answer: dict[str, Any] = getattr(self._client, operation)(**(additional | self._where | arguments))
        return answer

    def _abort_unfinished_uploads(self) -> None:
        try:
            listing = self._client.list_multipart_uploads(Bucket=self._where["Bucket"], Prefix=self._where["Key"])
            for upload in listing.get("Uploads", []):
                if upload["Key"] == self._where["Key"]:
                    _LOG.info("Aborting an upload to %s that was left unfinished on %s", self._uri, upload["Initiated"])
                    with contextlib.suppress(self._client.exceptions.NoSuchUpload):
                        self._client.abort_multipart_upload(**self._where, UploadId=upload["UploadId"])
        except self._client.exceptions.ClientError as error:
            # Cleaning needs rights that writing does not (s3:ListBucketMultipartUploads).
            _LOG.debug("Looking for unfinished uploads to %s failed: %s", self._uri, error)

    @contextlib.contextmanager
    def _errors(self) -> Any:
        with storage_errors(self._uri):
            try:
                yield
            except self._client.exceptions.ClientError as error:
                code = error.response.get("Error", {}).get("Code")
                if code not in ("NoSuchUpload", "PreconditionFailed"):
                    raise
            else:
                return
        if code == "PreconditionFailed":
            raise self._taken()
        raise StorageFailed(
            f"The upload to {self._uri} was aborted by someone else, probably by another task that writes the same "
            "object. Nothing was published. See that only one task writes it."
        )

    def _end(self) -> None:
        self._over = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        _emptied.clear()


def _times_as_large(parts: int) -> int:
    """Return how many times PART_BYTES the part has that follows after so many."""
    return max((times for after, times in _LARGER_AFTER.items() if parts >= after), default=1)


def _api_name(operation: str) -> str:
    return "".join(word.capitalize() for word in operation.split("_"))
