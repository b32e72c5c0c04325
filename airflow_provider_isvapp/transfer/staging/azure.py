# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Publishes a blob of Azure Storage by a list of blocks that are staged in parallel."""

from __future__ import annotations

import hashlib
import re
import secrets
from base64 import b64encode
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any, Literal

from azure.core import MatchConditions
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ServiceResponseError
from azure.storage.blob import BlobBlock, BlobProperties, BlobType, ContentSettings, StandardBlobTier

from airflow_provider_isvapp.errors import InvalidArgument
from airflow_provider_isvapp.transfer.staging.base import FoundObject, ObjectInfo, StorageKind, storage_errors
from airflow_provider_isvapp.transfer.staging.bucket import (
    BucketStore,
    BucketTarget,
    MultipartObject,
    PartPool,
    RequestBody,
    before_request,
)

# A blob has at most 50,000 blocks, which allows blobs of 209 GB.
BLOCK_BYTES = 4 * 1024 * 1024
# What marks a folder, in accounts with and without a hierarchical namespace.
_FOLDER_KEY = "hdi_isfolder"


def _check_request(request: Any) -> None:
    before_request(request.http_request.body)


def _check_response(response: Any) -> None:
    """Let the client retry two more refusals: too many requests, and bytes that changed in transit."""
    refusal = response.http_response
    code = refusal.headers.get("x-ms-error-code", "")
    if refusal.status_code == 429 or code == "Md5Mismatch":
        raise ServiceResponseError(f"{refusal.status_code} {code}".rstrip())


CLIENT_OPTIONS: dict[str, Any] = {"raw_request_hook": _check_request, "raw_response_hook": _check_response}
"""Arguments for the client of an :class:`AzureStore`. Arguments of a request apply to its first attempt only."""


class AzureObject(MultipartObject):
    """A blob whose blocks are staged during the download, and committed at the end.

    What a reader sees if the process dies

    - before :meth:`commit`: the old blob, or none. No listing shows the staged blocks, and no request deletes them: the
      next commit to the same name drops them, or the service a week after the last block. Until then, they cost money.
    - in :meth:`commit`: the old blob or the whole new one; the service switches in one step.

    If two tasks write a blob at once, the one that commits first wins: its commit drops the other's blocks.
    """

    pool = PartPool(8)

    def __init__(self, target: AzureTarget, **arguments: Any) -> None:
        super().__init__(target, **arguments)
        self._client = target.client
        self._md5 = hashlib.md5(usedforsecurity=False)

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes; blocks while too many blocks are in flight."""
        self._md5.update(data)
        super().write(data)

    def _part_bytes(self, index: int) -> int:
        return BLOCK_BYTES

    def _send(self, index: int, body: RequestBody) -> BlobBlock:
        # The write id distinguishes the blocks from those of other writes.
        block_id = f"{self.write_id}{index:06d}"
        scope = self._store.options.get("encryption_scope")
        self._client.stage_block(block_id, body, length=len(body), validate_content=True, encryption_scope=scope)
        return BlobBlock(block_id)

    def _publish(self) -> tuple[str | None, str | None]:
        md5 = self._md5.digest()
        options = self._store.options
        if "standard_blob_tier" in options:
            options = options | {"standard_blob_tier": StandardBlobTier(options["standard_blob_tier"])}
        response = self._watchdog.call(
            self._client.commit_block_list,
            self._sent,
            # The service computes no checksum of a block blob. Clients that download it verify this one.
            content_settings=ContentSettings(content_type=self._content_type, content_md5=bytearray(md5)),
            metadata=self._metadata(),
            match_condition=MatchConditions.IfMissing if self._exclusive else None,
            validate_content=True,
            **options,
        )
        return str(response["etag"]), _checksum(md5)

    def _conflict(self, error: Exception) -> Literal["exists", "replaced"] | None:
        # Status 409 has many reasons: a lease, a snapshot, a container that is being deleted.
        if self._exclusive and _code(error) in ("BlobAlreadyExists", "ConditionNotMet"):
            return "exists"
        return "replaced" if _code(error) == "InvalidBlockList" else None


class AzureTarget(BucketTarget):
    """The location of a blob in a container."""

    object_type = AzureObject
    # The largest range that the service computes a checksum of.
    range_bytes = 4 * 1024 * 1024

    def __init__(self, store: AzureStore, key: str, uri: str) -> None:
        super().__init__(store, key, uri)
        self.client = store.client.get_blob_client(store.bucket, key)

    def check(self) -> None:
        """Check the key, the options, access to the container, and that only a block blob may have the name."""
        super().check()
        with self.store.errors(self.uri, reading=True):
            properties = self.call(self._properties)
        if properties is None:
            return
        if properties.metadata.get(_FOLDER_KEY, "").lower() == "true":
            raise InvalidArgument(f"path {self.uri!r} is a folder. Choose another path.")
        if properties.blob_type != BlobType.BLOCKBLOB:
            raise InvalidArgument(
                f"path {self.uri!r} is a blob of the type {properties.blob_type.value}, which cannot be replaced. "
                "Remove it, or choose another path."
            )

    def check_rights(self) -> None:
        """Commit an unknown block under a condition that never holds, which leaves nothing behind."""
        with self.store.errors(self.uri):
            try:
                self.call(
                    self.client.commit_block_list,
                    [BlobBlock(secrets.token_hex(11))],
                    etag='"0x0"',
                    match_condition=MatchConditions.IfNotModified,
                )
            except HttpResponseError as error:
                # The service checks the right to write before both of them.
                if _code(error) not in ("ConditionNotMet", "InvalidBlockList"):
                    raise

    def _properties(self) -> BlobProperties | None:
        try:
            properties: BlobProperties = self.client.get_blob_properties()
        except HttpResponseError as error:
            if _code(error) == "BlobNotFound":
                return None
            raise
        return properties

    def _find(self) -> FoundObject | None:
        properties = self._properties()
        if properties is None:
            return None

        def read(begin: int, end: int) -> bytes:
            condition = {"etag": properties.etag, "match_condition": MatchConditions.IfNotModified}
            content: bytes = self.client.download_blob(begin, end - begin, validate_content=True, **condition).readall()
            return content

        md5 = properties.content_settings.content_md5
        checksum = None if md5 is None else _checksum(md5)
        info = ObjectInfo.from_metadata(properties.metadata, version=properties.etag, checksum=checksum)
        return FoundObject(info=info, size=properties.size, read=read)


_ADVICE = {
    "AuthenticationFailed": "Check the account key, or the SAS token's signature and dates, and this host's clock.",
    "AuthorizationFailure": (
        "Check the key, the rights of the SAS token (it needs read, create, write and list), and the account's network "
        "rules."
    ),
    "AuthorizationPermissionMismatch": "Give the identity the role Storage Blob Data Contributor on the container.",
    "AuthorizationProtocolMismatch": "The SAS token is for HTTPS only: use an https URL.",
    "BlobArchived": "Move the blob out of the Archive tier, or write to another path.",
    "BlobBeingRehydrated": "Wait until the blob has left the Archive tier, or write to another path.",
    "BlobImmutableDueToPolicy": "An immutability policy protects the blob: write to another path.",
    "BlockCountExceedsLimit": "The blob has 100,000 uncommitted blocks of failed writes, which expire after a week.",
    "ConditionNotMet": "The blob was replaced meanwhile: ensure that only one task writes it.",
    "ContainerBeingDeleted": "Wait until the container is deleted, create it again, or write to another one.",
    "ContainerNotFound": "Create the container, or correct its name in the path.",
    "InvalidBlobOrBlock": (
        "Another program has left an unfinished upload of this name, with block ids of another length. Write to "
        "another path, or replace the blob once with a tool that uploads in one request."
    ),
    "InvalidBlobType": "An append or page blob has this name: delete it, or write to another path.",
    "KeyBasedAuthenticationNotPermitted": "The account takes no keys: use a service principal or a managed identity.",
    "LeaseIdMissing": "Another client holds a lease on the blob: wait for its end, or break it.",
    "PublicAccessNotPermitted": "The connection has no credentials, and the account refuses anonymous requests.",
}
_ADVICE_BY_STATUS: dict[int | None, str] = {
    401: "Check the connection's credentials.",
    403: "Check the connection's credentials, their rights, and the account's network rules.",
    404: "Check the account's URL.",
}
_REACHABLE = "Check that the service is reachable."


def _code(error: Exception) -> str:
    code = getattr(error, "error_code", None) or ""
    return str(getattr(code, "value", code))


def _describe_error(error: Exception) -> tuple[str, str]:
    """Describe an error with the service's message."""
    status = 401 if isinstance(error, ClientAuthenticationError) else getattr(error, "status_code", None)
    step = _ADVICE.get(_code(error)) or _ADVICE_BY_STATUS.get(status, _REACHABLE)
    if getattr(error, "status_code", None) is None:
        return f"{type(error).__name__}: {error}", step
    # The first line is the service's message; the others repeat headers.
    message = str(getattr(error, "message", "")).strip().partition("\n")[0]
    return f"{getattr(error, 'status_code', None)} {_code(error)}: {message}", step


# https://learn.microsoft.com/azure/storage/blobs/storage-manage-find-blobs, "Setting blob index tags"
_TAG_NAME = re.compile(r"[A-Za-z0-9 +\-./:=_]{1,128}")
_TAG_VALUE = re.compile(r"[A-Za-z0-9 +\-./:=_]{0,256}")


def _are_tags(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) <= 10
        and all(isinstance(text, str) for item in value.items() for text in item)
        and all(_TAG_NAME.fullmatch(name) and _TAG_VALUE.fullmatch(text) for name, text in value.items())
    )


class AzureStore(BucketStore):
    """A container.

    :param client: the client of the storage account, created with :data:`CLIENT_OPTIONS`. Many threads use it.
    :param bucket: the container's name.
    :param options: ``encryption_scope``, ``standard_blob_tier`` and ``tags`` of the blobs, as the SDK's
        ``BlobClient.commit_block_list`` takes them; the tier as a text such as ``Cool``.
    :param stall_seconds: the longest time without progress.
    """

    kind: StorageKind = "azure"
    service = "Azure"
    target_type = AzureTarget
    errors = staticmethod(partial(storage_errors, describe=_describe_error))

    @property
    def namespace(self) -> str:
        """The container's URI, as data lake clients write it."""
        return f"abfss://{self.bucket}@{self.client.primary_hostname.replace('.blob.', '.dfs.', 1)}"

    def _pages(self, prefix: str) -> Iterator[list[str]]:
        blobs = self.client.get_container_client(self.bucket).walk_blobs(prefix or None, delimiter="/")
        for page in blobs.by_page():
            yield [item.name for item in page]

    def _known_options(self) -> Collection[str]:
        return ("encryption_scope", "standard_blob_tier", "tags")

    def _check_option(self, name: str, value: Any) -> None:
        if name == "standard_blob_tier" and value not in list(StandardBlobTier):
            tiers = ", ".join(tier.value for tier in StandardBlobTier)
            raise InvalidArgument(f"storage_options: standard_blob_tier must be one of {tiers}, not {value!r}.")
        if name == "encryption_scope" and not (isinstance(value, str) and value):
            raise InvalidArgument(f"storage_options: encryption_scope must be a name, not {value!r}.")
        if name == "tags" and not _are_tags(value):
            raise InvalidArgument(
                f"storage_options: tags cannot be {value!r}. Azure takes at most ten tags, with names of 128 and "
                "values of 256 characters: letters, digits, spaces and + - . / : = _."
            )


def _checksum(md5: bytes | bytearray) -> str:
    return f"md5:{b64encode(md5).decode()}"
