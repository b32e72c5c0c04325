# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Publishes an object on Google Cloud Storage by a resumable upload, which shows nothing before its last chunk."""

from __future__ import annotations

import contextlib
import logging
import mmap
import secrets
from base64 import b64encode
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, wait
from typing import IO, Any
from weakref import WeakSet

import google_crc32c
from google.api_core.exceptions import NotFound, PreconditionFailed
from google.cloud.storage import constants
from google.cloud.storage.acl import ACL
from google.cloud.storage.retry import DEFAULT_RETRY

from airflow_provider_isvapp.errors import DestinationExists, InvalidArgument, StorageFailed
from airflow_provider_isvapp.transfer.staging.base import (
    METADATA_KEY,
    STALL_SECONDS,
    WRITE_ID_KEY,
    ObjectInfo,
    Provenance,
    StorageKind,
    Watchdog,
    check_key,
)
from airflow_provider_isvapp.transfer.staging.resumable_upload import (
    CANCEL_SECONDS,
    CHUNK_UNIT,
    NO_BUCKET,
    REQUEST_SECONDS,
    ResumableUpload,
    google_errors,
    reason_of,
)

# One is sent while the next is filled. Each costs a round trip.
CHUNK_BYTES = 16 * 1024 * 1024
_READ_BYTES = 8 * 1024 * 1024

_LOG = logging.getLogger(__name__)


class GcsStore:
    """A bucket.

    :param client: the ``google.cloud.storage.Client`` that Airflow's ``GCSHook`` hands out.
    :param bucket: its name.
    :param options: ``kms_key_name``, ``predefined_acl`` and ``storage_class`` of the objects that are written, and
        ``user_project``, which pays for the requests.
    :param stall_seconds: for how long the storage may acknowledge nothing.
    """

    kind: StorageKind = "gcs"

    def __init__(
        self,
        client: Any,
        bucket: str,
        *,
        options: Mapping[str, Any] | None = None,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self.options = dict(options or {})
        self.stall_seconds = stall_seconds
        self.bucket = client.bucket(bucket, user_project=self.options.get("user_project"))

    @property
    def namespace(self) -> str:
        """The URI of the bucket."""
        return f"gs://{self.bucket.name}"

    def target(self, key: str, uri: str) -> GcsTarget:
        """Return the place of an object."""
        return GcsTarget(self, key, uri)

    def names(self, prefix: str) -> Iterator[str]:
        """List keys and folders."""
        with google_errors(f"{self.namespace}/{prefix}", reading=True):
            listing = self.bucket.list_blobs(
                prefix=prefix,
                delimiter="/",
                fields="items(name),prefixes,nextPageToken",
                timeout=REQUEST_SECONDS,
                retry=DEFAULT_RETRY,
            )
            for page in listing.pages:
                yield from (blob.name for blob in page)
            yield from (folder.removesuffix("/") for folder in listing.prefixes)


_OPTIONS = ("kms_key_name", "predefined_acl", "storage_class", "user_project")
_STORAGE_CLASSES = frozenset(
    value for name, value in vars(constants).items() if name.endswith("STORAGE_CLASS") and isinstance(value, str)
)


def _check_options(options: Mapping[str, Any], uri: str) -> None:
    for name, value in options.items():
        if name not in _OPTIONS:
            raise InvalidArgument(f"storage_options: {uri} takes {', '.join(_OPTIONS)}, not {name!r}.")
        if not isinstance(value, str) or not value:
            raise InvalidArgument(f"storage_options[{name!r}] must be a text, not {value!r}.")
    if (storage_class := options.get("storage_class")) not in (None, *_STORAGE_CLASSES):
        known = ", ".join(sorted(_STORAGE_CLASSES))
        raise InvalidArgument(f"storage_options['storage_class'] must be one of {known}, not {storage_class!r}.")
    try:
        ACL.validate_predefined(options.get("predefined_acl"))
    except ValueError as error:
        problem = str(error)
    else:
        return
    raise InvalidArgument(f"storage_options['predefined_acl']: {problem}.")


class GcsTarget:
    """The place of an object in a bucket."""

    def __init__(self, store: GcsStore, key: str, uri: str) -> None:
        self.store = store
        self.key = key
        self.uri = uri

    def check(self) -> None:
        """See that Google takes the key and its client the options."""
        check_key(self.key, self.uri)
        _check_options(self.store.options, self.uri)

    def check_rights(self) -> None:
        """Begin an upload and cancel it."""
        began = self.stage(exclusive=False, content_type="application/octet-stream", provenance=None)
        try:
            began.flush()
        finally:
            began.abort()

    def info(self) -> ObjectInfo | None:
        """Ask for the object's metadata."""
        blob = self._find()
        if blob is None:
            return None
        return _info(blob.generation, blob.crc32c, blob.metadata)

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the object for reading: this generation of it, whatever replaces it meanwhile."""
        with google_errors(self.uri, reading=True):
            blob = self._find()
            if blob is None:
                raise FileNotFoundError(self.uri)
            with blob.open("rb", chunk_size=_READ_BYTES, timeout=REQUEST_SECONDS) as reader:
                yield reader

    def stage(self, *, exclusive: bool, content_type: str, provenance: Provenance | None) -> GcsObject:
        """Begin an object that takes the place of what is there now, and of nothing else."""
        there = None if exclusive else self._find()
        replaces = None if exclusive else 0 if there is None else there.generation
        return GcsObject(self, replaces=replaces, content_type=content_type, provenance=provenance)

    def _find(self) -> Any:
        """Ask for the object; None if the bucket has none of this name."""
        blob = self.store.bucket.blob(self.key)
        watchdog = Watchdog(self.uri, seconds=self.store.stall_seconds)
        with google_errors(self.uri, reading=True):
            try:
                watchdog.call(blob.reload, timeout=REQUEST_SECONDS, retry=DEFAULT_RETRY)
            except NotFound as error:
                if NO_BUCKET in reason_of(error):
                    raise
                return None
        return blob


# The months of a divided export are written at the same time, and share the memory of one object's chunks.
_open_objects: WeakSet[GcsObject] = WeakSet()


class GcsObject:
    """An object in chunks, which are sent one after the other while the next is filled.

    What a reader sees if the process dies

    - before :meth:`commit`: the old object, or none. No listing shows the unfinished upload, and Google drops it
      after a week.
    - in or after :meth:`commit`: the old object or the whole new one; Google switches in one step. If the process dies
      between that and the metadata of a large object, it lacks its figures: a rerun reads it to count them.

    It replaces the generation that was there when it was begun. Of two tasks that write it at once, the one that
    commits last fails, which is also what is wanted when Airflow took a task for dead that was not.

    :param replaces: the generation; 0 if none was there, None if none may be there.
    :param provenance: stored as metadata.
    """

    def __init__(
        self, target: GcsTarget, *, replaces: int | None, content_type: str, provenance: Provenance | None
    ) -> None:
        self.write_id = secrets.token_hex(8)
        self._bucket = target.store.bucket
        self._options = target.store.options
        self._key = target.key
        self._uri = target.uri
        self._replaces = replaces
        self._content_type = content_type
        self._provenance = provenance
        self._labelled: Provenance | None = None
        self._watchdog = Watchdog(target.uri, seconds=target.store.stall_seconds)
        self._upload: ResumableUpload | None = None
        self._crc32c = google_crc32c.Checksum()
        self._size = 0
        # Pages of a map are taken when they are written to, and given back with it.
        self._chunk = mmap.mmap(-1, CHUNK_BYTES)
        self._filled = 0
        self._limit = CHUNK_BYTES
        self._sent_chunk: mmap.mmap | None = None
        self._sending: Future[None] | None = None
        self._over = False
        _open_objects.add(self)

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes; waits while the chunk before is on its way."""
        rest = memoryview(data)
        while rest:
            # Not before there is more: the last chunk, which publishes, must not be empty.
            if self._filled == self._limit:
                with self._errors():
                    self._send_chunk()
            if not self._filled:
                self._limit = max(CHUNK_BYTES // len(_open_objects) // CHUNK_UNIT, 1) * CHUNK_UNIT
            piece = bytes(rest[: self._limit - self._filled])
            self._crc32c.update(piece)
            self._chunk[self._filled : self._filled + len(piece)] = piece
            self._filled += len(piece)
            self._size += len(piece)
            rest = rest[len(piece) :]

    def flush(self, provenance: Provenance | None = None) -> None:
        """Send all but the last bytes, at most 256 KiB."""
        self._provenance = provenance or self._provenance
        with self._errors():
            upload = self._begin()
            self._await_chunk()
            sent = max(self._filled - 1, 0) // CHUNK_UNIT * CHUNK_UNIT
            if sent:
                self._watchdog.call(upload.send, memoryview(self._chunk)[:sent])
                self._chunk.move(0, sent, self._filled - sent)
                self._filled -= sent

    def commit(self) -> ObjectInfo:
        """Send the last bytes with the checksum of all, which Google compares before it publishes them.

        :raises DestinationExists: if it must not replace an object and there is one.
        """
        digest = b64encode(self._crc32c.digest()).decode()
        with self._errors():
            upload = self._begin()
            rest = memoryview(self._chunk)[: self._filled]
            resource = self._watchdog.call(upload.finish, rest, crc32c=digest)
            self._check(resource, digest)
        self._end()
        self._label(resource)
        metadata = resource.get("metadata", {}) | self._metadata()
        return _info(resource["generation"], resource["crc32c"], metadata)

    def abort(self) -> None:
        """Cancel the upload, unless it is committed."""
        if self._over:
            return
        self._end()
        if self._upload is None:
            return
        self._upload.stop()
        if self._sending is not None:
            wait([self._sending], timeout=CANCEL_SECONDS)
        with contextlib.suppress(Exception):
            self._upload.cancel()

    def _begin(self) -> ResumableUpload:
        """Begin the upload, as late as possible: its metadata cannot be changed before it is published."""
        if self._upload is None:
            blob = self._bucket.blob(self._key, kms_key_name=self._options.get("kms_key_name"))
            blob.metadata = self._metadata()
            if "storage_class" in self._options:
                blob.storage_class = self._options["storage_class"]
            self._labelled = self._provenance
            url = self._watchdog.call(
                blob.create_resumable_upload_session,
                content_type=self._content_type,
                predefined_acl=self._options.get("predefined_acl"),
                if_generation_match=self._replaces or 0,
                timeout=REQUEST_SECONDS,
                retry=DEFAULT_RETRY,
            )
            # The client's own session, which authorises what it sends; no public name leads to it.
            self._upload = ResumableUpload(self._bucket.client._http, url, self._uri, self._watchdog)
            if self._over:
                # It was aborted by another thread meanwhile.
                self._upload.cancel()
                self._upload.stop()
        return self._upload

    def _metadata(self) -> dict[str, str]:
        provenance = {} if self._provenance is None else {METADATA_KEY: self._provenance.to_text()}
        return {WRITE_ID_KEY: self.write_id} | provenance

    def _send_chunk(self) -> None:
        upload = self._begin()
        self._await_chunk()
        self._sending = self._watchdog.start(upload.send, memoryview(self._chunk)[: self._filled])
        self._chunk, self._sent_chunk = self._sent_chunk or mmap.mmap(-1, CHUNK_BYTES), self._chunk
        self._filled = 0

    def _await_chunk(self) -> None:
        if self._sending is not None:
            self._watchdog.wait(self._sending)

    def _check(self, resource: Mapping[str, Any], digest: str) -> None:
        """See that what is published is what was sent, should the server take no notice of the checksum."""
        if (resource.get("crc32c"), resource.get("size")) == (digest, str(self._size)):
            return
        outcome = "It was deleted"
        try:
            self._watchdog.call(
                self._bucket.blob(self._key).delete,
                if_generation_match=int(resource["generation"]),
                timeout=REQUEST_SECONDS,
                retry=DEFAULT_RETRY,
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, what was published is to be said
            outcome = f"It is published, and deleting it failed: {reason_of(error)}. Delete it"
        raise StorageFailed(
            f"{self._uri} was damaged on its way: the storage has {resource.get('size')} bytes with the CRC32C "
            f"{resource.get('crc32c')}, and {self._size} with {digest} were sent. {outcome}."
        )

    def _label(self, resource: Mapping[str, Any]) -> None:
        """Add the figures that were unknown when the upload began, unless the object was changed since."""
        if self._provenance == self._labelled:
            return
        blob = self._bucket.blob(self._key)
        blob.metadata = self._metadata()
        try:
            self._watchdog.call(
                blob.patch,
                if_generation_match=int(resource["generation"]),
                if_metageneration_match=int(resource["metageneration"]),
                timeout=REQUEST_SECONDS,
                retry=DEFAULT_RETRY,
            )
        except Exception as error:  # noqa: BLE001 - the object is published: nothing from here on may say otherwise
            _LOG.warning(
                "%s is published, but its figures could not be added to its metadata, so that a rerun reads it to "
                "count its rows: %s. This needs the permission storage.objects.update.",
                self._uri,
                reason_of(error),
            )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        with google_errors(self._uri):
            try:
                yield
            except PreconditionFailed:
                pass
            else:
                return
            if self._replaces is None:
                raise DestinationExists(f"{self._uri} exists, and the task may not overwrite it.")
            raise StorageFailed(
                f"{self._uri} was changed by someone else while it was written, probably by another task that writes "
                "the same object. Nothing was published. See that only one task writes it."
            )

    def _end(self) -> None:
        self._over = True
        _open_objects.discard(self)


def _info(generation: object, crc32c: str, metadata: Mapping[str, str] | None) -> ObjectInfo:
    metadata = metadata or {}
    return ObjectInfo(
        version=str(generation),
        checksum=f"crc32c:{crc32c}",
        provenance=Provenance.from_text(metadata.get(METADATA_KEY)),
        write_id=metadata.get(WRITE_ID_KEY),
    )
