# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Publishes an object on Google Cloud Storage by a resumable upload, which is invisible until its last chunk.

This module sends the chunks itself, because the file object of google-cloud-storage publishes an incomplete object if
an exception leaves its ``with`` block (2.x), cancels at the wrong URL (3.17), sends no checksum with the last chunk
(2.x), and fails if the last response is lost. The protocol:
https://docs.cloud.google.com/storage/docs/performing-resumable-uploads.
"""

from __future__ import annotations

import logging
import mmap
import re
from base64 import b64encode
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any, Literal
from weakref import WeakSet

import google_crc32c
import requests
from google.api_core.exceptions import (
    DataLoss,
    Forbidden,
    GoogleAPICallError,
    NotFound,
    PreconditionFailed,
    Unauthorized,
    from_http_status,
)
from google.api_core.retry import exponential_sleep_generator
from google.auth.exceptions import GoogleAuthError, TransportError
from google.cloud.storage import constants
from google.cloud.storage.acl import ACL
from google.cloud.storage.retry import DEFAULT_RETRY
from requests.adapters import BaseAdapter

from airflow_provider_isvapp.errors import InvalidArgument, StorageFailed
from airflow_provider_isvapp.transfer.staging.base import (
    FoundObject,
    ObjectInfo,
    Provenance,
    StorageKind,
    describe_error,
    storage_errors,
)
from airflow_provider_isvapp.transfer.staging.bucket import (
    BucketObject,
    BucketStore,
    BucketTarget,
    RequestBody,
    before_request,
)
from airflow_provider_isvapp.transfer.threads import Watchdog

# One chunk is sent while the next is filled. Each costs a round trip.
CHUNK_BYTES = 16 * 1024 * 1024
# The size of each chunk but the last is a multiple of this.
CHUNK_UNIT = 256 * 1024
# Arguments of each request; the client repeats those that are safe to repeat.
_REQUEST: dict[str, Any] = {"timeout": 30.0, "retry": DEFAULT_RETRY}
# The backoff before a chunk is sent again.
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 1.0, 30.0
_RETRIED = frozenset((408, 429, 500, 502, 503, 504))

# The months of a partitioned export are written at the same time, and share the memory of one object's chunks.
_open_objects: WeakSet[GcsObject] = WeakSet()

_LOG = logging.getLogger(__name__)


class GcsObject(BucketObject):
    """An object in chunks, which are sent one after the other, each while the next is filled.

    What a reader sees if the process dies

    - before :meth:`commit`: the old object, or none. No listing shows the unfinished upload, and Google drops it
      after a week.
    - in or after :meth:`commit`: the old object or the whole new one; Google switches in one step. If the process dies
      before a large object gets its last metadata, the object lacks its figures, and a rerun reads it to count them.

    A commit replaces only the generation that existed when the write began. If two tasks write an object at once, the
    one that commits last fails. This is also right after Airflow has replaced a task that still runs.
    """

    def __init__(self, target: GcsTarget, **arguments: Any) -> None:
        super().__init__(target, **arguments)
        # The generation to replace; 0 if there must be no object.
        existing = None if self._exclusive else target.info()
        self._replaces = 0 if existing is None else int(existing.version or 0)
        self._chunks: ResumableUpload | None = None
        self._crc32c = google_crc32c.Checksum()
        self._size = 0
        # A map takes each page of memory at the first write to it, and returns all of them when it is freed.
        self._chunk = mmap.mmap(-1, CHUNK_BYTES)
        self._filled = 0
        self._limit = CHUNK_BYTES
        self._sent_chunk: mmap.mmap | None = None
        _open_objects.add(self)

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes; blocks while the previous chunk is in flight."""
        rest = memoryview(data)
        while rest:
            # A full chunk waits for more bytes: the last chunk, which publishes, must not be empty.
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

    def _publish(self) -> tuple[str, str]:
        """Send the last bytes with the checksum of all, which Google verifies before it publishes the object."""
        digest = b64encode(self._crc32c.digest()).decode()
        rest = memoryview(self._chunk)[: self._filled]
        resource = self._watchdog.call(self._begin().send, rest, crc32c=digest)
        self._check(resource, digest)
        self._add_figures(resource)
        return str(resource["generation"]), f"crc32c:{digest}"

    def _begin(self) -> ResumableUpload:
        """Begin the upload, as late as possible: its metadata cannot change before the publication."""
        if self._chunks is None:
            self._upload = self._watchdog.start(self._begin_upload)
            url = self._watchdog.wait(self._upload)
            self._chunks = ResumableUpload(self._store.session, url, self._uri, self._watchdog)
        return self._chunks

    def _begin_upload(self) -> str:
        options = self._store.options
        blob = self._store.handle.blob(self._key, kms_key_name=options.get("kms_key_name"))
        blob.metadata = self._metadata()
        if "storage_class" in options:
            blob.storage_class = options["storage_class"]
        url: str = blob.create_resumable_upload_session(
            content_type=self._content_type,
            predefined_acl=options.get("predefined_acl"),
            if_generation_match=self._replaces,
            **_REQUEST,
        )
        return url

    def _abort_upload(self, upload: str) -> None:
        # Google responds with status 499.
        self._store.session.request("DELETE", upload, timeout=_REQUEST["timeout"])

    def _send_chunk(self) -> None:
        upload = self._begin()
        self._await_chunk()
        self._in_flight.append(self._watchdog.start(upload.send, memoryview(self._chunk)[: self._filled]))
        self._chunk, self._sent_chunk = self._sent_chunk or mmap.mmap(-1, CHUNK_BYTES), self._chunk
        self._filled = 0

    def _await_chunk(self) -> None:
        while self._in_flight:
            self._watchdog.wait(self._in_flight[0])
            self._in_flight.popleft()

    def _check(self, resource: Mapping[str, Any], digest: str) -> None:
        """Check that the published object holds the bytes that were sent, in case the server ignores the checksum."""
        if (resource.get("crc32c"), resource.get("size")) == (digest, str(self._size)):
            return
        outcome = "It was deleted"
        try:
            delete = self._store.handle.blob(self._key).delete
            self._watchdog.call(delete, if_generation_match=int(resource["generation"]), **_REQUEST)
        except Exception as error:  # noqa: BLE001 - the message must say that the object is published
            outcome = f"It is published, and deleting it failed: {_reason(error)}. Delete it"
        raise StorageFailed(
            f"{self._uri} was damaged in transit: the storage has {resource.get('size')} bytes with the CRC32C "
            f"{resource.get('crc32c')}, and {self._size} with {digest} were sent. {outcome}."
        )

    def _add_figures(self, resource: Mapping[str, Any]) -> None:
        """Add the figures that were unknown when the upload began, unless the object has changed since."""
        begun_with = self._stored_provenance
        if self._provenance == begun_with:
            return
        blob = self._store.handle.blob(self._key)
        blob.metadata = self._metadata()
        try:
            self._watchdog.call(
                blob.patch,
                if_generation_match=int(resource["generation"]),
                if_metageneration_match=int(resource["metageneration"]),
                **_REQUEST,
            )
        except Exception as error:  # noqa: BLE001 - the object is published: an error here must not fail the task
            self._stored_provenance = begun_with
            _LOG.warning(
                "%s is published, but its figures could not be added to its metadata, so a rerun reads it to count its "
                "rows: %s. This needs the permission storage.objects.update.",
                self._uri,
                _reason(error),
            )

    def _conflict(self, error: Exception) -> Literal["exists", "replaced"] | None:
        if not isinstance(error, PreconditionFailed):
            return None
        return "exists" if self._exclusive else "replaced"

    def _end(self) -> None:
        super()._end()
        _open_objects.discard(self)


class ResumableUpload:
    """An upload that resumes after the last byte that the storage has.

    :param session: a ``requests`` session that authorises its requests.
    :param url: the upload's URL. It grants the right to write, so no message shows it.
    :param uri: the object's URI, for messages.
    :param watchdog: notified of all progress.
    """

    def __init__(self, session: Any, url: str, uri: str, watchdog: Watchdog) -> None:
        self._session = session
        self._url = url
        self._uri = uri
        self._watchdog = watchdog
        self._acknowledged = 0

    def send(self, data: memoryview, *, crc32c: str | None = None) -> dict[str, Any]:
        """Send a chunk.

        :param data: a multiple of 256 KiB, except in the last chunk.
        :param crc32c: the checksum of the whole object. Marks the last chunk, which publishes the object.
        :return: the object's resource after the last chunk.
        :raises GoogleAPICallError: if the storage refuses.
        """
        headers = {} if crc32c is None else {"x-goog-hash": f"crc32c={crc32c}"}
        begin, end = self._acknowledged, self._acknowledged + len(data)
        body = RequestBody(data, self._watchdog)
        waits = exponential_sleep_generator(_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS)
        in_doubt = False
        while True:
            try:
                if in_doubt:
                    response = self._put(b"", "*/*", {})
                else:
                    body.resume(self._acknowledged - begin)
                    size = "*" if crc32c is None else end
                    sent = f"{self._acknowledged}-{end - 1}" if body else "*"
                    response = self._put(body, f"{sent}/{size}", headers)
            except (requests.ConnectionError, requests.Timeout, TransportError) as error:
                # The error's text has the URL.
                problem = type(error).__name__
            else:
                problem = f"{response.status_code} {response.reason}"
                if response.status_code in (200, 201):
                    resource: dict[str, Any] = response.json()
                    return resource
                if response.status_code == 308:
                    # No range means that nothing has arrived.
                    last = re.fullmatch(r"bytes=0-(\d+)", response.headers.get("Range", ""))
                    acknowledged = int(last[1]) + 1 if last else 0
                    if not self._acknowledged <= acknowledged <= end:
                        raise DataLoss(f"the storage has {acknowledged} bytes, not {self._acknowledged} to {end}")
                    moves = acknowledged > self._acknowledged
                    if moves:
                        self._watchdog.acknowledge()
                        self._acknowledged = acknowledged
                        waits = exponential_sleep_generator(_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS)
                    if crc32c is None and acknowledged == end:
                        return {}
                    if moves or in_doubt:
                        in_doubt = False
                        continue
                elif response.status_code in (404, 410):
                    raise StorageFailed(
                        f"The upload to {self._uri} no longer exists: it was cancelled, or is older than a week. "
                        "A retry of the task uploads the object again."
                    )
                elif response.status_code not in _RETRIED:
                    raise from_http_status(response.status_code, _message(response))
            self._watchdog.sleep(next(waits))
            _LOG.info("The upload to %s resumes after %s bytes: %s", self._uri, self._acknowledged, problem)
            in_doubt = True

    def _put(self, body: object, content_range: str, headers: Mapping[str, str]) -> Any:
        headers = {"Content-Range": f"bytes {content_range}", **headers}
        return self._session.request("PUT", self._url, data=body, headers=headers, timeout=_REQUEST["timeout"])


class GcsTarget(BucketTarget):
    """The location of an object in a bucket."""

    object_type = GcsObject

    def check_rights(self) -> None:
        """Begin an upload and cancel it."""
        began = self.stage(exclusive=False, content_type="application/octet-stream", provenance=None)
        try:
            began.flush()
        finally:
            began.abort()

    def _find(self) -> FoundObject | None:
        blob = self.store.handle.blob(self.key)
        try:
            blob.reload(**_REQUEST)
        except NotFound as error:
            if _NO_BUCKET in _reason(error):
                raise
            return None

        def read(begin: int, end: int) -> bytes:
            # The blob names the generation that was found.
            content: bytes = blob.download_as_bytes(start=begin, end=end - 1, raw_download=True, **_REQUEST)
            return content

        info = ObjectInfo.from_metadata(blob.metadata, version=str(blob.generation), checksum=f"crc32c:{blob.crc32c}")
        return FoundObject(info=info, size=blob.size, read=read)


# A missing bucket and a missing object have the same status and reason.
_NO_BUCKET = "The specified bucket does not exist"


def _reason(error: Exception) -> str:
    """Return Google's own message, where there is one, without the request's URL."""
    response = getattr(error, "response", None)
    return (str(error) if response is None else _message(response)).removesuffix(".")


def _message(response: Any) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return str(response.text) or str(response.reason)


def _describe_error(error: Exception) -> tuple[str, str]:
    if isinstance(error, TransportError) or not isinstance(error, GoogleAPICallError | GoogleAuthError):
        return describe_error(error)
    reason = f"{type(error).__name__}: {_reason(error)}"
    if _NO_BUCKET in reason:
        return reason, "Create the bucket, or correct the path."
    if isinstance(error, NotFound):
        return reason, "It was deleted or replaced meanwhile: try again."
    if isinstance(error, Forbidden):
        return reason, (
            "Grant the account the missing permission, for example with the role Storage Object User "
            "(roles/storage.objectUser) on the bucket."
        )
    if isinstance(error, Unauthorized | GoogleAuthError):
        return reason, "Check the credentials of the Google Cloud connection."
    return reason, "Check that the storage is reachable, and correct what the message names."


google_errors = partial(storage_errors, describe=_describe_error, secret=(GoogleAPICallError, GoogleAuthError))
"""``storage_errors`` with Google's messages and without the URL of an upload."""

_STORAGE_CLASSES = frozenset(
    value for name, value in vars(constants).items() if name.endswith("STORAGE_CLASS") and isinstance(value, str)
)


class GcsStore(BucketStore):
    """A bucket.

    :param client: the ``google.cloud.storage.Client`` that Airflow's ``GCSHook`` returns.
    :param bucket: the name of the bucket.
    :param options: ``kms_key_name``, ``predefined_acl`` and ``storage_class`` of the written objects, and
        ``user_project``, which pays for the requests.
    :param stall_seconds: the longest time without progress.
    """

    kind: StorageKind = "gcs"
    service = "Google Cloud Storage"
    target_type = GcsTarget
    errors = staticmethod(google_errors)

    def __init__(self, client: Any, bucket: str, **arguments: Any) -> None:
        super().__init__(client, bucket, **arguments)
        self.handle = client.bucket(bucket, user_project=self.options.get("user_project"))
        # The client's own session, which authorises its requests; it has no public name.
        self.session = client._http
        for prefix, adapter in list(self.session.adapters.items()):
            if not isinstance(adapter, _Adapter):
                self.session.mount(prefix, _Adapter(adapter))

    @property
    def namespace(self) -> str:
        """The URI of the bucket."""
        return f"gs://{self.bucket}"

    def _pages(self, prefix: str) -> Iterator[list[str]]:
        fields = "items(name),prefixes,nextPageToken"
        listing = self.handle.list_blobs(prefix=prefix, delimiter="/", fields=fields, **_REQUEST)
        for page in listing.pages:
            yield [blob.name for blob in page]
        yield list(listing.prefixes)

    def _known_options(self) -> Collection[str]:
        return ("kms_key_name", "predefined_acl", "storage_class", "user_project")

    def _check_option(self, name: str, value: Any) -> None:
        if not isinstance(value, str) or not value:
            raise InvalidArgument(f"storage_options: {name} must be a text, not {value!r}.")
        if name == "storage_class" and value not in _STORAGE_CLASSES:
            known = ", ".join(sorted(_STORAGE_CLASSES))
            raise InvalidArgument(f"storage_options: storage_class must be one of {known}, not {value!r}.")
        if name == "predefined_acl":
            try:
                ACL.validate_predefined(value)
            except ValueError as error:
                problem = str(error)
            else:
                return
            raise InvalidArgument(f"storage_options: predefined_acl: {problem}.")


class _Adapter(BaseAdapter):
    """Refuses the requests of a cancelled write, including the client's own retries."""

    def __init__(self, adapter: BaseAdapter) -> None:
        super().__init__()
        self._adapter = adapter

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        body = request.body
        before_request(body)
        if isinstance(body, RequestBody):
            # After 401, google-auth sends a request again, and does not rewind its body.
            request.headers["Content-Length"] = str(len(body))
        return self._adapter.send(request, *arguments, **options)

    def close(self) -> None:
        self._adapter.close()
