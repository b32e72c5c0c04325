# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Publishes an S3 object by a multipart upload whose parts are sent at the same time.

s3transfer, boto3's own transfer manager, is no way to do it: it takes no If-None-Match, and it publishes as soon as the
source ends, so that the last part of every month would be sent while others are visible already.
"""

from __future__ import annotations

import contextlib
import io
import logging
import secrets
import threading
from base64 import b64encode
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, wait
from typing import IO, Any

from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

from airflow_provider_isvapp.errors import DestinationExists, InvalidArgument, StorageFailed
from airflow_provider_isvapp.transfer.gzip import Crc32
from airflow_provider_isvapp.transfer.staging.base import (
    METADATA_KEY,
    STALL_SECONDS,
    WRITE_ID_KEY,
    ObjectInfo,
    Provenance,
    StorageKind,
    Watchdog,
    check_key,
    refuse_if_left_behind,
    storage_errors,
)

# S3 takes no less than 5 MiB. Each part on its way has a connection, and S3 gives each connection so much.
PART_BYTES = 6 * 1024 * 1024
# S3 takes 10,000 parts of an object. The later ones are larger, which is enough for 138 GB.
_LARGER_AFTER = {2_000: 2, 6_000: 3}
_PARTS_ON_THEIR_WAY = 7
_ABORT_SECONDS = 3.0

# Of all objects together: the months of a divided export are written at the same time. A larger part takes the room of
# two or three, so that memory does not grow with the export.
_room = threading.BoundedSemaphore(_PARTS_ON_THEIR_WAY)
# Two that took their room bit by bit at the same time could wait for each other.
_taking_room = threading.Lock()
# Parts that were sent, to be filled again: fresh ones of this size would scatter over the heap.
_emptied: deque[bytearray] = deque(maxlen=_PARTS_ON_THEIR_WAY)

# Metadata travels as headers, and some proxies drop those with an underscore.
_METADATA_KEY = METADATA_KEY.replace("_", "-")
_WRITE_ID_KEY = WRITE_ID_KEY.replace("_", "-")
_CHECKSUMS = ("ChecksumCRC64NVME", "ChecksumCRC32", "ChecksumCRC32C", "ChecksumSHA256", "ChecksumSHA1")

_LOG = logging.getLogger(__name__)


class S3Store:
    """A bucket.

    :param client: a botocore client for S3, such as ``S3Hook.get_conn()`` returns. Many threads use it.
    :param bucket: its name, or an access point.
    :param options: further arguments of the requests that make an object, such as ``ServerSideEncryption`` or
        ``StorageClass``, in boto3's spelling.
    :param stall_seconds: for how long S3 may acknowledge nothing.
    """

    kind: StorageKind = "s3"

    def __init__(
        self,
        client: Any,
        bucket: str,
        *,
        options: Mapping[str, Any] | None = None,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self.client = client
        client.meta.events.register_first(
            "before-send.s3", _refuse_if_left_behind, unique_id="isvapp-refuse-if-left-behind"
        )
        self.bucket = bucket
        self.options = dict(options or {})
        self.stall_seconds = stall_seconds

    @property
    def namespace(self) -> str:
        """The URI of the bucket."""
        return f"s3://{self.bucket}"

    def target(self, key: str, uri: str) -> S3Target:
        """Return the place of an object."""
        return S3Target(self, key, uri)

    def names(self, prefix: str) -> Iterator[str]:
        """List keys and folders that begin with a prefix."""
        uri = f"{self.namespace}/{prefix}"
        with storage_errors(uri, reading=True):
            pages = iter(
                self.client.get_paginator("list_objects_v2").paginate(
                    Bucket=self.bucket, Prefix=prefix, Delimiter="/", **self._also_for("ListObjectsV2")
                )
            )
            watchdog = Watchdog(uri, seconds=self.stall_seconds)
            while (page := watchdog.call(next, pages, None)) is not None:
                yield from (item["Key"] for item in page.get("Contents", []))
                yield from (item["Prefix"].rstrip("/") for item in page.get("CommonPrefixes", []))

    def check_options(self) -> None:
        """See that S3 knows the options, by the model of its API that botocore has.

        :raises InvalidArgument: naming the one that is wrong.
        """
        model = self.client.meta.service_model.operation_model("PutObject")
        ours = {"Bucket", "Key", "Body", "Metadata", "ContentType", "ContentEncoding", "IfNoneMatch", "IfMatch"}
        for name in self.options:
            if name not in model.input_shape.members or name in ours:
                takes = ", ".join(sorted(set(model.input_shape.members) - ours))
                raise InvalidArgument(f"storage_options: S3 takes no {name!r} here. It takes {takes}.")
        report = ParamValidator().validate({"Bucket": "b", "Key": "k"} | self.options, model.input_shape)
        if report.has_errors():
            raise InvalidArgument(f"storage_options: {report.generate_report()}.")

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Send a request for the bucket, with the options that the operation takes."""
        model_name = self.client.meta.method_to_api_mapping[operation]
        response: dict[str, Any] = getattr(self.client, operation)(
            **({"Bucket": self.bucket} | self._also_for(model_name) | arguments)
        )
        return response

    def _also_for(self, model_name: str) -> dict[str, Any]:
        members = self.client.meta.service_model.operation_model(model_name).input_shape.members
        return {name: value for name, value in self.options.items() if name in members}


class S3Target:
    """The place of an object in a bucket.

    :param uri: the URI for messages.
    """

    def __init__(self, store: S3Store, key: str, uri: str) -> None:
        self._store = store
        self._key = key
        self._uri = uri

    def check(self) -> None:
        """See that S3 takes such a key and the options."""
        check_key(self._key, self._uri)
        self._store.check_options()

    def check_rights(self) -> None:
        """Begin an upload and abort it."""
        watchdog = Watchdog(self._uri, seconds=self._store.stall_seconds)
        with storage_errors(self._uri):
            upload = watchdog.call(self._store.call, "create_multipart_upload", Key=self._key)["UploadId"]
            watchdog.call(self._store.call, "abort_multipart_upload", Key=self._key, UploadId=upload)

    def info(self) -> ObjectInfo | None:
        """Ask for the object's head."""
        head = self._head()
        if head is None:
            return None
        metadata = head.get("Metadata", {})
        return ObjectInfo(
            version=_etag(head),
            checksum=_checksum_of(head),
            provenance=Provenance.from_text(metadata.get(_METADATA_KEY, "")),
            write_id=metadata.get(_WRITE_ID_KEY),
        )

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the object for reading."""
        with storage_errors(self._uri, reading=True):
            head = self._head()
            if head is None:
                raise FileNotFoundError(self._uri)
            with io.BufferedReader(_Reader(self._store, self._key, head), PART_BYTES // 16) as reader:
                yield reader

    def stage(self, *, exclusive: bool, content_type: str, provenance: Provenance | None) -> S3Object:
        """Begin an object."""
        return S3Object(
            self._store,
            self._key,
            self._uri,
            exclusive=exclusive,
            content_type=content_type,
            provenance=provenance,
        )

    def _head(self) -> dict[str, Any] | None:
        watchdog = Watchdog(self._uri, seconds=self._store.stall_seconds)
        with storage_errors(self._uri, reading=True):
            try:
                return watchdog.call(self._store.call, "head_object", Key=self._key)
            except ClientError as error:
                if _status(error) == 404:
                    return None
                raise


class S3Object:
    """An object in parts; one that fits into a single part is sent as one request.

    What a reader sees if the process dies

    - before :meth:`commit`: the old object, or none. What is left is an unfinished multipart upload under the object's
      key. It shows in no listing of objects, but its parts are paid for until the next write to the same key aborts it,
      or the bucket's rule ``AbortIncompleteMultipartUpload`` does.
    - in :meth:`commit`: the old object or the whole new one; S3 switches in one step.

    The begin of a write aborts all unfinished uploads of the key. If two tasks write it at once, the one that
    began first fails, which is also what is wanted when Airflow took a task for dead that was not.

    :param exclusive: never replace an existing object (If-None-Match, which S3 decides in the last step).
    :param provenance: stored as metadata.
    """

    def __init__(
        self,
        store: S3Store,
        key: str,
        uri: str,
        *,
        exclusive: bool,
        content_type: str,
        provenance: Provenance | None,
    ) -> None:
        self.write_id = secrets.token_hex(8)
        self._store = store
        self._key = key
        self._uri = uri
        self._condition = {"IfNoneMatch": "*"} if exclusive else {}
        self._content_type = content_type
        self._provenance = provenance
        self._watchdog = Watchdog(uri, seconds=store.stall_seconds)
        self._part: bytearray | None = None
        self._filled = 0
        self._upload_id: Future[str] | None = None
        self._sent: list[dict[str, Any]] = []
        self._on_their_way: deque[Future[dict[str, Any]]] = deque()
        self._over = False
        with storage_errors(uri):
            self._watchdog.call(self._abort_unfinished_uploads)

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

    def commit(self) -> ObjectInfo:
        """Put the parts together.

        :raises DestinationExists: if it must not replace an object and there is one.
        """
        with self._errors():
            if self._upload_id is None:
                response = self._watchdog.call(self._put)
            else:
                response = self._watchdog.call(self._complete, self._upload_id.result())
            self._end()
        return ObjectInfo(
            version=_etag(response),
            checksum=_checksum_of(response),
            provenance=self._provenance,
            write_id=self.write_id,
        )

    def abort(self) -> None:
        """Abort the upload, unless it is committed."""
        if self._over:
            return
        self._end()
        if self._upload_id is not None and not self._watchdog.gave_up:
            # A part that arrives after the abort would stay.
            under_way: list[Future[Any]] = [self._upload_id, *self._on_their_way]
            wait(under_way, timeout=_ABORT_SECONDS)
            with contextlib.suppress(Exception):
                upload_id = self._upload_id.result(timeout=0)
                aborting = self._watchdog.start(
                    self._store.call, "abort_multipart_upload", Key=self._key, UploadId=upload_id
                )
                aborting.result(timeout=_ABORT_SECONDS)

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
            self._upload_id = self._watchdog.start(self._begin_upload)
        while self._on_their_way and self._on_their_way[0].done():
            self._take_oldest()
        self._part, self._filled = None, 0
        room = _times_as_large(self._parts)
        self._take_room(room)
        try:
            sending = self._watchdog.start(self._upload, self._upload_id, self._parts + 1, part)
        except BaseException:
            _room.release(room)
            raise
        sending.add_done_callback(lambda _: _room.release(room))
        self._on_their_way.append(sending)

    def _take_room(self, room: int) -> None:
        with _taking_room:
            taken = 0
            try:
                while taken < room:
                    if _room.acquire(timeout=1):
                        taken += 1
                    else:
                        self._watchdog.check()
            except BaseException:
                if taken:
                    _room.release(taken)
                raise

    def _begin_upload(self) -> str:
        upload_id: str = self._store.call(
            "create_multipart_upload", Key=self._key, ContentType=self._content_type, Metadata=self._metadata()
        )["UploadId"]
        return upload_id

    def _upload(self, upload_id: Future[str], number: int, part: bytearray) -> dict[str, Any]:
        checksum = self._checksum(part)
        response = self._store.call(
            "upload_part",
            Key=self._key,
            UploadId=upload_id.result(),
            PartNumber=number,
            Body=part,
            **checksum,
        )
        self._verify(checksum, response)
        _emptied.append(part)
        return response

    def _checksum(self, data: bytes | bytearray | memoryview) -> dict[str, str]:
        """Compute what botocore would by default, but with isal, which takes a tenth of zlib's time."""
        computed = getattr(self._store.client.meta.config, "request_checksum_calculation", None) == "when_supported"
        if not computed or "ChecksumAlgorithm" in self._store.options:
            return {}
        crc32 = Crc32()
        crc32.update(data)
        return {"ChecksumCRC32": b64encode(crc32.digest()).decode()}

    def _verify(self, sent: Mapping[str, str], response: Mapping[str, Any]) -> None:
        """Compare what S3 has computed of the bytes that it took; S3 itself refuses others (400 BadDigest)."""
        for name, value in sent.items():
            if response.get(name, value) != value:
                raise StorageFailed(
                    f"Bytes of {self._uri} changed on their way: the storage computed {name} {response[name]}, and "
                    f"{value} was sent. Nothing was published."
                )

    def _take_oldest(self) -> None:
        response = self._watchdog.wait(self._on_their_way[0])
        self._on_their_way.popleft()
        names = ("ETag", *_CHECKSUMS)
        self._sent.append(
            {name: response[name] for name in names if name in response} | {"PartNumber": len(self._sent) + 1}
        )

    def _put(self) -> dict[str, Any]:
        body = bytes(memoryview(self._part or b"")[: self._filled])
        return self._store.call(
            "put_object",
            Key=self._key,
            Body=body,
            ContentType=self._content_type,
            Metadata=self._metadata(),
            **self._checksum(body),
            **self._condition,
        )

    def _complete(self, upload_id: str) -> dict[str, Any]:
        if self._condition and self._exists():
            # Some servers take the condition for small objects only (Ceph 16).
            raise self._taken()
        return self._store.call(
            "complete_multipart_upload",
            Key=self._key,
            UploadId=upload_id,
            MultipartUpload={"Parts": self._sent},
            **self._condition,
        )

    def _exists(self) -> bool:
        try:
            self._store.call("head_object", Key=self._key)
        except ClientError as error:
            if _status(error) == 404:
                return False
            raise
        return True

    def _taken(self) -> DestinationExists:
        return DestinationExists(f"{self._uri} exists, and the task may not overwrite it.")

    def _metadata(self) -> dict[str, str]:
        provenance = {} if self._provenance is None else {_METADATA_KEY: self._provenance.to_text()}
        return {_WRITE_ID_KEY: self.write_id} | provenance

    def _abort_unfinished_uploads(self) -> None:
        try:
            listing = self._store.call("list_multipart_uploads", Prefix=self._key)
            for upload in listing.get("Uploads", []):
                if upload["Key"] == self._key:
                    _LOG.info("Aborting an upload to %s that was left unfinished on %s", self._uri, upload["Initiated"])
                    with contextlib.suppress(self._store.client.exceptions.NoSuchUpload):
                        self._store.call("abort_multipart_upload", Key=self._key, UploadId=upload["UploadId"])
        except ClientError as error:
            # Cleaning needs rights that writing does not (s3:ListBucketMultipartUploads).
            _LOG.debug("Looking for unfinished uploads to %s failed: %s", self._uri, error)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        with storage_errors(self._uri):
            try:
                yield
            except ClientError as error:
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
        _emptied.clear()


class _Reader(io.RawIOBase):
    """An object's bytes, one request from each place to which the reader goes.

    :param head: of the object, whose bytes alone are read: one that replaces it fails the next request.
    """

    def __init__(self, store: S3Store, key: str, head: Mapping[str, Any]) -> None:
        self._store = store
        self._key = key
        self._etag = head["ETag"]
        self._size: int = head["ContentLength"]
        self._position = 0
        self._body: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset != self._position:
            self._position = base + offset
            self._close_body()
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._position >= self._size:
            return 0
        if self._body is None:
            self._body = self._store.call(
                "get_object", Key=self._key, Range=f"bytes={self._position}-", IfMatch=self._etag
            )["Body"]
        data = self._body.read(len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._close_body()
        super().close()

    def _close_body(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None


def _refuse_if_left_behind(**_: Any) -> None:
    refuse_if_left_behind()


def _etag(response: Mapping[str, Any]) -> str | None:
    return str(response.get("ETag", "")).strip('"') or None


def _checksum_of(response: Mapping[str, Any]) -> str | None:
    return next((f"{name.removeprefix('Checksum')}:{response[name]}" for name in _CHECKSUMS if name in response), None)


def _status(error: ClientError) -> int | None:
    status: int | None = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


def _times_as_large(parts: int) -> int:
    """Return how many times PART_BYTES the part has that follows after so many."""
    return max((times for after, times in _LARGER_AFTER.items() if parts >= after), default=1)
