# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Publishes an S3 object by a multipart upload whose parts are sent in parallel.

s3transfer, boto3's own transfer manager, cannot do this: it does not accept If-None-Match, and it publishes as soon as
the source ends, so it would send the last part of a month while other months are already visible. With the same number
and size of parts, it also needs 70 MiB and more CPU time (``make bench-storage``).
"""

from __future__ import annotations

import contextlib
import logging
from base64 import b64encode
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any, Literal

from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

from airflow_provider_isvapp.errors import InvalidArgument, StorageFailed
from airflow_provider_isvapp.transfer.gzip import Crc32
from airflow_provider_isvapp.transfer.staging.base import (
    FoundObject,
    ObjectInfo,
    Provenance,
    StorageKind,
    describe_error,
    storage_errors,
)
from airflow_provider_isvapp.transfer.staging.bucket import (
    BucketStore,
    BucketTarget,
    MultipartObject,
    PartPool,
    RequestBody,
    before_request,
)

# The smallest part that S3 accepts. S3 limits the throughput of a connection, and each part in flight has one: with
# smaller parts, more of them fit into the same memory.
PART_BYTES = 5 * 1024 * 1024
# An object has at most 10,000 parts. Later parts are larger, which allows objects of 115 GB.
_LARGER_AFTER = {2_000: 2, 6_000: 3}

_CHECKSUMS = ("ChecksumCRC64NVME", "ChecksumCRC32", "ChecksumCRC32C", "ChecksumSHA256", "ChecksumSHA1")

_CRC32_HEADER = "x-amz-checksum-crc32"

_LOG = logging.getLogger(__name__)


class S3Object(MultipartObject):
    """An object in parts; one that fits into a single part is sent in one request.

    What a reader sees if the process dies

    - before :meth:`commit`: the old object, or none. An unfinished multipart upload stays under the object's key. No
      listing of objects shows it, but its parts cost money until the next write to the same key aborts it, or the
      bucket's rule ``AbortIncompleteMultipartUpload``.
    - in :meth:`commit`: the old object or the whole new one; S3 switches in one step.

    A write begins by aborting all unfinished uploads of the key. If two tasks write the same key at once, the one that
    began first fails. This is also right after Airflow has replaced a task that still runs.
    """

    pool = PartPool(7)
    _store: S3Store

    def __init__(self, target: S3Target, **arguments: Any) -> None:
        super().__init__(target, **arguments)
        # S3 evaluates If-None-Match in the last request.
        self._condition = {"IfNoneMatch": "*"} if self._exclusive else {}
        # The checksum algorithm of parts that the storage has confirmed.
        self._verified: dict[str, str] = {}
        with self._store.errors(self._uri):
            self._watchdog.call(self._abort_unfinished_uploads)

    def flush(self, provenance: Provenance | None = None) -> None:
        """Send the last part and wait for all of them."""
        self._provenance = provenance or self._provenance
        # Without an upload, the last request sends everything.
        if self._upload is not None:
            super().flush()

    def _part_bytes(self, index: int) -> int:
        return PART_BYTES * max((times for after, times in _LARGER_AFTER.items() if index >= after), default=1)

    def _send_part(self, part: bytearray) -> None:
        if self._upload is None:
            # Meanwhile, the next part can be filled.
            self._upload = self._watchdog.start(self._begin_upload)
        super()._send_part(part)

    def _begin_upload(self) -> str:
        computed = {"ChecksumAlgorithm": "CRC32"} if self._computes_crc32 else {}
        response = self._store.call(
            "create_multipart_upload",
            Key=self._key,
            ContentType=self._content_type,
            Metadata=self._headers(),
            **computed,
        )
        # S3 repeats the algorithm; Ceph 16 and other servers ignore it.
        if response.get("ChecksumAlgorithm") == "CRC32":
            self._verified = computed
        return str(response["UploadId"])

    def _send(self, index: int, body: RequestBody) -> dict[str, Any]:
        assert self._upload is not None  # noqa: S101 - begun before the first part
        upload, checksum = self._upload.result(), self._checksum(body)
        response = self._store.call(
            "upload_part",
            Key=self._key,
            UploadId=upload,
            PartNumber=index + 1,
            Body=body,
            **checksum,
            **self._verified,
        )
        self._verify(checksum, response)
        return {name: response[name] for name in ("ETag", *_CHECKSUMS) if name in response} | {"PartNumber": index + 1}

    @property
    def _computes_crc32(self) -> bool:
        config = self._store.client.meta.config
        computed = getattr(config, "request_checksum_calculation", None) == "when_supported"
        return computed and "ChecksumAlgorithm" not in self._store.options

    def _checksum(self, body: RequestBody) -> dict[str, str]:
        """Compute the checksum that botocore would compute, but with isal, which takes a tenth of zlib's time."""
        if not self._computes_crc32:
            return {}
        crc32 = Crc32()
        crc32.update(body.data)
        return {"ChecksumCRC32": b64encode(crc32.digest()).decode()}

    def _verify(self, sent: Mapping[str, str], response: Mapping[str, Any]) -> None:
        """Compare the checksums that the storage has computed; S3 refuses wrong bytes itself (400 BadDigest)."""
        for name, value in sent.items():
            if response.get(name, value) != value:
                raise StorageFailed(
                    f"Bytes of {self._uri} changed in transit: the storage computed {name} {response[name]}, and "
                    f"{value} was sent. Nothing was published."
                )

    def _publish(self) -> tuple[str | None, str | None]:
        response = self._watchdog.call(self._put if self._upload is None else self._complete)
        return _etag(response), _checksum_of(response)

    def _put(self) -> dict[str, Any]:
        body = RequestBody(memoryview(self._part or b"")[: self._filled], self._watchdog)
        return self._store.call(
            "put_object",
            Key=self._key,
            Body=body,
            ContentType=self._content_type,
            Metadata=self._headers(),
            **self._checksum(body),
            **self._condition,
        )

    def _complete(self) -> dict[str, Any]:
        assert self._upload is not None  # noqa: S101 - the caller has checked it
        if self._condition and self._target._find() is not None:
            # Some servers support the condition for small objects only (Ceph 16).
            raise self._exists()
        return self._store.call(
            "complete_multipart_upload",
            Key=self._key,
            UploadId=self._upload.result(),
            MultipartUpload={"Parts": self._sent},
            **self._condition,
        )

    def _abort_upload(self, upload: str) -> None:
        self._store.call("abort_multipart_upload", Key=self._key, UploadId=upload)

    def _abort_unfinished_uploads(self) -> None:
        try:
            listing = self._store.call("list_multipart_uploads", Prefix=self._key)
            for upload in listing.get("Uploads", []):
                if upload["Key"] == self._key:
                    with contextlib.suppress(self._store.client.exceptions.NoSuchUpload):
                        self._abort_upload(upload["UploadId"])
                    _LOG.info("Aborted an unfinished upload to %s, begun at %s", self._uri, upload["Initiated"])
        except ClientError as error:
            # Cleaning up needs a right that writing does not need (s3:ListBucketMultipartUploads).
            _LOG.debug("Listing unfinished uploads to %s failed: %s", self._uri, error)

    def _headers(self) -> dict[str, str]:
        # Metadata travels as headers, and some proxies drop those with an underscore.
        return {name.replace("_", "-"): value for name, value in self._metadata().items()}

    def _conflict(self, error: Exception) -> Literal["exists", "replaced"] | None:
        return {"PreconditionFailed": "exists", "NoSuchUpload": "replaced"}.get(_code(error))  # type: ignore[return-value]


class S3Target(BucketTarget):
    """The location of an object in a bucket."""

    object_type = S3Object

    def check_rights(self) -> None:
        """Begin an upload and abort it."""
        with self.store.errors(self.uri):
            upload = self.call(self.store.call, "create_multipart_upload", Key=self.key)["UploadId"]
            self.call(self.store.call, "abort_multipart_upload", Key=self.key, UploadId=upload)

    def _find(self) -> FoundObject | None:
        try:
            head = self.store.call("head_object", Key=self.key, ChecksumMode="ENABLED")
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
                return None
            raise

        def read(begin: int, end: int) -> bytes:
            content: bytes = self.store.call(
                "get_object", Key=self.key, Range=f"bytes={begin}-{end - 1}", IfMatch=head["ETag"]
            )["Body"].read()
            return content

        metadata = {name.replace("-", "_"): value for name, value in head.get("Metadata", {}).items()}
        info = ObjectInfo.from_metadata(metadata, version=_etag(head), checksum=_checksum_of(head))
        return FoundObject(info=info, size=head["ContentLength"], read=read)


# The next step by S3's error code: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_STEPS = {
    "NoSuchBucket": "Create the bucket, or correct the path.",
    "AccessDenied": "Grant the connection's user s3:PutObject and s3:AbortMultipartUpload on the path.",
    "InvalidAccessKeyId": "Check the connection's login: it is the access key's id.",
    "SignatureDoesNotMatch": "Check the connection's password: it is the secret access key.",
    "PermanentRedirect": "Set region_name in the connection's extra to the region of the bucket.",
    "AuthorizationHeaderMalformed": "Set region_name in the connection's extra to the region of the bucket.",
}


def _describe_error(error: Exception) -> tuple[str, str]:
    reason, step = describe_error(error)
    return reason, _STEPS.get(_code(error), step)


s3_errors = partial(storage_errors, describe=_describe_error)
"""``storage_errors`` with the next step for S3's error codes."""


class S3Store(BucketStore):
    """A bucket.

    :param client: a botocore client for S3, such as ``S3Hook.get_conn()`` returns. Many threads use it.
    :param bucket: the name of the bucket, or an access point.
    :param options: further arguments of the requests that create an object, such as ``ServerSideEncryption`` or
        ``StorageClass``, under boto3's names.
    :param stall_seconds: the longest time without progress.
    """

    kind: StorageKind = "s3"
    service = "S3"
    target_type = S3Target
    errors = staticmethod(s3_errors)

    def __init__(self, client: Any, bucket: str, **arguments: Any) -> None:
        super().__init__(client, bucket, **arguments)
        events = client.meta.events
        events.register_first("before-send.s3", _before_send, unique_id="isvapp-before-send")
        events.register("before-call.s3", _before_call, unique_id="isvapp-before-call")

    @property
    def namespace(self) -> str:
        """The URI of the bucket."""
        return f"s3://{self.bucket}"

    def _pages(self, prefix: str) -> Iterator[list[str]]:
        paginator = self.client.get_paginator("list_objects_v2")
        also = self._also_for("ListObjectsV2")
        for page in paginator.paginate(Bucket=self.bucket, Prefix=prefix, Delimiter="/", **also):
            folders = [item["Prefix"] for item in page.get("CommonPrefixes", [])]
            yield [item["Key"] for item in page.get("Contents", [])] + folders

    def _known_options(self) -> Collection[str]:
        ours = {"Bucket", "Key", "Body", "Metadata", "ContentType", "ContentEncoding", "IfNoneMatch", "IfMatch"}
        return set(self._shape("PutObject").members) - ours

    def _check_option(self, name: str, value: Any) -> None:
        report = ParamValidator().validate({"Bucket": "b", "Key": "k", name: value}, self._shape("PutObject"))
        if report.has_errors():
            raise InvalidArgument(f"storage_options: {report.generate_report()}.")

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Send a request for the bucket, with the options that the operation accepts."""
        model_name = self.client.meta.method_to_api_mapping[operation]
        response: dict[str, Any] = getattr(self.client, operation)(
            **({"Bucket": self.bucket} | self._also_for(model_name) | arguments)
        )
        return response

    def _also_for(self, model_name: str) -> dict[str, Any]:
        members = self._shape(model_name).members
        return {name: value for name, value in self.options.items() if name in members}

    def _shape(self, model_name: str) -> Any:
        return self.client.meta.service_model.operation_model(model_name).input_shape


def _before_send(request: Any, **_: Any) -> None:
    before_request(request.body)


def _before_call(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    headers = params["headers"]
    # Without this, botocore waits for "100 Continue" before each body, which costs a round trip for each part.
    headers.pop("Expect", None)
    if _CRC32_HEADER in headers and "x-amz-sdk-checksum-algorithm" in headers:
        # Over TLS, botocore leaves the SHA-256 of a body out of the signature if another checksum protects it
        # (S3SigV4Auth), but only if it has computed that itself. SHA-256 takes a third of an upload's CPU time.
        context["checksum"] = {"request_algorithm": {"algorithm": "crc32", "in": "header", "name": _CRC32_HEADER}}


def _code(error: Exception) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _etag(response: Mapping[str, Any]) -> str | None:
    return str(response.get("ETag", "")).strip('"') or None


def _checksum_of(response: Mapping[str, Any]) -> str | None:
    return next((f"{name.removeprefix('Checksum')}:{response[name]}" for name in _CHECKSUMS if name in response), None)
