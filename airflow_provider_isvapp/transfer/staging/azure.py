# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Publishes a blob of Azure Storage by a list of blocks that are staged at the same time."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import secrets
import threading
import time
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from typing import IO, Any, TypeVar

from azure.core import MatchConditions
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ServiceResponseError
from azure.storage.blob import BlobBlock, BlobProperties, BlobServiceClient, BlobType, ContentSettings, StandardBlobTier

from airflow_provider_isvapp.errors import DestinationExists, InvalidArgument, ProviderError, StorageFailed
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
)

# A blob has at most 50,000 blocks, which is enough for 209 GB.
BLOCK_BYTES = 4 * 1024 * 1024
_BLOCKS_ON_THEIR_WAY = 8
# What the service computes a checksum of, at most, when it is read.
_RANGE_BYTES = 4 * 1024 * 1024
# http.client asks for 16 KiB at a time, and the SDK for 4 KiB when it computes a checksum.
_PIECE_BYTES = 64 * 1024
_TICK_SECONDS = 0.2
_ABORT_SECONDS = 1.0

# Of all blobs together: the months of a divided export are written at the same time.
_room = threading.BoundedSemaphore(_BLOCKS_ON_THEIR_WAY)
# Blocks that were sent, to be filled again: fresh ones of this size would scatter over the heap.
_emptied: deque[_Block] = deque(maxlen=_BLOCKS_ON_THEIR_WAY)

# What marks a folder, in accounts with and without a hierarchical namespace.
_FOLDER_KEY = "hdi_isfolder"
T = TypeVar("T")

_OPTIONS = ("encryption_scope", "standard_blob_tier", "tags")


def _check_request(_: Any) -> None:
    refuse_if_left_behind()


def _check_response(response: Any) -> None:
    """Let the client try again what it would not: too many requests, and bytes that changed on their way."""
    refusal = response.http_response
    code = refusal.headers.get("x-ms-error-code", "")
    if refusal.status_code == 429 or code == "Md5Mismatch":
        raise ServiceResponseError(f"{refusal.status_code} {code}".rstrip())


CLIENT_OPTIONS: dict[str, Any] = {"raw_request_hook": _check_request, "raw_response_hook": _check_response}
"""Arguments for the client of an :class:`AzureStore`. One that is given with a request is gone after its first try."""


class AzureStore:
    """A container.

    :param client: of the storage account, made with :data:`CLIENT_OPTIONS`. Many threads use it.
    :param container: its name.
    :param options: ``encryption_scope``, ``standard_blob_tier`` and ``tags`` of what is written, as the SDK's
        ``BlobClient.commit_block_list`` takes them; the tier as a text such as ``Cool``.
    :param stall_seconds: for how long the service may acknowledge nothing.
    """

    kind: StorageKind = "azure"

    def __init__(
        self,
        client: BlobServiceClient,
        container: str,
        *,
        options: Mapping[str, Any] | None = None,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self.client = client
        self.container = container
        self.options = dict(options or {})
        self.stall_seconds = stall_seconds

    @property
    def namespace(self) -> str:
        """The container's URI, as the data lake's clients spell it."""
        return f"abfss://{self.container}@{self.client.primary_hostname.replace('.blob.', '.dfs.', 1)}"

    def target(self, key: str, uri: str) -> AzureTarget:
        """Return the place of a blob."""
        return AzureTarget(self, key, uri)

    def names(self, prefix: str) -> Iterator[str]:
        """List blobs and folders that begin with a prefix."""
        uri = f"{self.namespace}/{prefix}"
        with _errors(f"Listing {uri}"):
            items = self.client.get_container_client(self.container).walk_blobs(prefix or None, delimiter="/")
            watchdog = Watchdog(uri, seconds=self.stall_seconds)
            while (item := watchdog.call(next, items, None)) is not None:
                yield item.name.rstrip("/")

    def check_options(self) -> None:
        """See that the SDK and the service know the options.

        :raises InvalidArgument: naming the one that is wrong.
        """
        for name, value in self.options.items():
            if name not in _OPTIONS:
                raise InvalidArgument(f"storage_options: Azure takes no {name!r} here. It takes {', '.join(_OPTIONS)}.")
            if name == "standard_blob_tier" and value not in list(StandardBlobTier):
                raise InvalidArgument(
                    f"storage_options: standard_blob_tier must be one of "
                    f"{', '.join(tier.value for tier in StandardBlobTier)}, not {value!r}."
                )
            if name == "encryption_scope" and not (isinstance(value, str) and value):
                raise InvalidArgument(f"storage_options: encryption_scope must be the name of one, not {value!r}.")
            if name == "tags" and not _are_tags(value):
                raise InvalidArgument(
                    f"storage_options: tags cannot be {value!r}. Azure takes at most ten texts of 256 characters by "
                    "names of 128, of letters, digits, spaces and + - . / : = _ alone."
                )


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


class AzureTarget:
    """The place of a blob in a container.

    :param uri: the URI for messages.
    """

    def __init__(self, store: AzureStore, key: str, uri: str) -> None:
        self._store = store
        self._client = store.client.get_blob_client(store.container, key)
        self._key = key
        self._uri = uri

    def check(self) -> None:
        """See that the credentials open the container, and that nothing else has the blob's name."""
        check_key(self._key, self._uri)
        self._store.check_options()
        properties = self._properties()
        if properties is None:
            return
        if properties.metadata.get(_FOLDER_KEY, "").lower() == "true":
            raise InvalidArgument(f"path {self._uri!r} is a folder. Choose another path.")
        if properties.blob_type != BlobType.BLOCKBLOB:
            raise InvalidArgument(
                f"path {self._uri!r} is a blob of the type {properties.blob_type.value}, which cannot be replaced. "
                "Remove it, or choose another path."
            )

    def check_rights(self) -> None:
        """Commit a block that was never staged, if the blob has a version that none has: that leaves nothing."""
        with _errors(f"Writing {self._uri}"):
            try:
                self._call(
                    lambda: self._client.commit_block_list(
                        [BlobBlock(secrets.token_hex(11))], etag='"0x0"', match_condition=MatchConditions.IfNotModified
                    )
                )
            except HttpResponseError as error:
                # Who may not write is refused before either is looked at.
                if _code(error) not in ("ConditionNotMet", "InvalidBlockList"):
                    raise

    def info(self) -> ObjectInfo | None:
        """Ask for the blob's properties."""
        properties = self._properties()
        if properties is None:
            return None
        md5 = properties.content_settings.content_md5
        return ObjectInfo(
            version=properties.etag,
            checksum=None if md5 is None else _checksum(md5),
            provenance=Provenance.from_text(properties.metadata.get(METADATA_KEY)),
            write_id=properties.metadata.get(WRITE_ID_KEY),
        )

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the blob for reading."""
        with _errors(f"Reading {self._uri}"):
            properties = self._properties()
            if properties is None:
                raise FileNotFoundError(self._uri)
            with io.BufferedReader(_Reader(self._read, properties), _RANGE_BYTES) as reader:
                yield reader

    def stage(self, *, exclusive: bool, content_type: str, provenance: Provenance | None) -> AzureObject:
        """Begin a blob."""
        return AzureObject(
            self._store,
            self._key,
            self._uri,
            exclusive=exclusive,
            content_type=content_type,
            provenance=provenance,
        )

    def _properties(self) -> BlobProperties | None:
        with _errors(f"Reading {self._uri}"):
            try:
                return self._call(self._client.get_blob_properties)
            except HttpResponseError as error:
                if _code(error) == "BlobNotFound":
                    return None
                raise

    def _read(self, position: int, length: int, properties: BlobProperties) -> bytes:
        return self._call(
            lambda: self._client.download_blob(
                position,
                length,
                etag=properties.etag,
                match_condition=MatchConditions.IfNotModified,
                validate_content=True,
            ).readall()
        )

    def _call(self, request: Callable[[], T]) -> T:
        return Watchdog(self._uri, seconds=self._store.stall_seconds).call(request)


class AzureObject:
    """A blob whose blocks are staged while they come, and put together at the end.

    What a reader sees if the process dies

    - before :meth:`commit`: the old blob, or none. The blocks that were staged show in no listing. They cannot be
      dropped on their own: the next commit to the same name drops them, or the service does a week after the last
      block. Until then, they are paid for.
    - in :meth:`commit`: the old blob or the whole new one; the service switches in one step.

    Of two tasks that write a blob at once, the one that commits first wins: its commit drops the other's blocks.

    :param exclusive: never replace an existing blob (If-None-Match, which the service decides in the last step).
    :param provenance: stored as metadata, with the last step.
    """

    def __init__(
        self,
        store: AzureStore,
        key: str,
        uri: str,
        *,
        exclusive: bool,
        content_type: str,
        provenance: Provenance | None,
    ) -> None:
        # Begins each block's id, too: blocks of another write are never taken for this one's.
        self.write_id = secrets.token_hex(8)
        self._store = store
        self._client = store.client.get_blob_client(store.container, key)
        self._uri = uri
        self._exclusive = exclusive
        self._content_type = content_type
        self._provenance = provenance
        self._watchdog = Watchdog(uri, seconds=store.stall_seconds)
        self._block: _Block | None = None
        self._block_ids: list[str] = []
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._on_their_way: deque[Future[None]] = deque()
        self._over = threading.Event()

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes; waits while too many blocks are on their way."""
        rest = memoryview(data)
        self._md5.update(rest)
        with _errors(f"Writing {self._uri}"):
            while rest:
                if self._block is None:
                    self._block = _empty_block()
                rest = rest[self._block.fill(rest) :]
                if self._block.tell() == BLOCK_BYTES:
                    self._send(self._block)

    def flush(self, provenance: Provenance | None = None) -> None:
        """Send the last block and wait for all of them."""
        self._provenance = provenance or self._provenance
        with _errors(f"Writing {self._uri}"):
            if self._block is not None:
                self._send(self._block)
            while self._on_their_way:
                self._watchdog.wait(self._on_their_way.popleft())

    def commit(self) -> ObjectInfo:
        """Put the blocks together.

        :raises DestinationExists: if it must not replace a blob and there is one.
        """
        with _errors(f"Publishing {self._uri}"):
            try:
                etag = self._watchdog.call(self._commit)
            except HttpResponseError as error:
                # 409 has many meanings: a lease, a snapshot, a container that is being deleted.
                if not (self._exclusive and _code(error) in ("BlobAlreadyExists", "ConditionNotMet")):
                    raise
            else:
                return ObjectInfo(
                    version=etag,
                    checksum=_checksum(self._md5.digest()),
                    provenance=self._provenance,
                    write_id=self.write_id,
                )
        raise DestinationExists(f"{self._uri} exists, and the task may not overwrite it.")

    def abort(self) -> None:
        """Stop sending; a block that is on its way stops at its next piece."""
        self._over.set()
        wait(self._on_their_way, timeout=_ABORT_SECONDS)

    def _send(self, block: _Block) -> None:
        while self._on_their_way and self._on_their_way[0].done():
            self._watchdog.wait(self._on_their_way.popleft())
        self._take_room()
        self._block = None
        size = block.seal(self._over)
        block_id = f"{self.write_id}{len(self._block_ids):06d}"
        self._block_ids.append(block_id)
        try:
            sending = self._watchdog.start(self._stage, block_id, block, size)
        except BaseException:
            _room.release()
            raise
        sending.add_done_callback(lambda _: _room.release())
        self._on_their_way.append(sending)

    def _take_room(self) -> None:
        # The room may be other blobs', whose requests end sooner if the service takes anything.
        deadline = time.monotonic() + self._store.stall_seconds
        while not _room.acquire(timeout=_TICK_SECONDS):
            self._watchdog.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"the service took no block for {self._store.stall_seconds:.0f} s")

    def _stage(self, block_id: str, block: _Block, size: int) -> None:
        scope = self._store.options.get("encryption_scope")
        self._client.stage_block(block_id, block, length=size, validate_content=True, encryption_scope=scope)
        block.seek(0)
        _emptied.append(block)

    def _commit(self) -> str:
        provenance = {} if self._provenance is None else {METADATA_KEY: self._provenance.to_text()}
        tier = self._store.options.get("standard_blob_tier")
        response = self._client.commit_block_list(
            [BlobBlock(block_id) for block_id in self._block_ids],
            # The service computes no checksum of a blob of blocks. Those who download it verify this one.
            content_settings=ContentSettings(
                content_type=self._content_type, content_md5=bytearray(self._md5.digest())
            ),
            metadata={WRITE_ID_KEY: self.write_id} | provenance,
            match_condition=MatchConditions.IfMissing if self._exclusive else None,
            validate_content=True,
            **(self._store.options | ({} if tier is None else {"standard_blob_tier": StandardBlobTier(tier)})),
        )
        return str(response["etag"])


def _checksum(md5: bytes | bytearray) -> str:
    return f"md5:{b64encode(md5).decode()}"


class _Block(io.BytesIO):
    """A block that is filled, sent and filled again, in the same memory.

    It is sent in pieces. A body that is one piece would have to leave in the time that a connection has to open
    (urllib3 2.8). And a write that is aborted stops after a piece.
    """

    def __init__(self) -> None:
        super().__init__(bytes(BLOCK_BYTES))
        self._over = threading.Event()

    def fill(self, data: memoryview) -> int:
        """Take what fits in, and return how much that is."""
        return self.write(data[: BLOCK_BYTES - self.tell()])

    def seal(self, over: threading.Event) -> int:
        """Go back to the beginning, to be sent, and return the size.

        :param over: when it is set, nothing more can be read.
        """
        self._over = over
        size = self.truncate()
        self.seek(0)
        return size

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next piece, whatever size is asked for: those who read it take it as it comes."""
        if self._over.is_set():
            raise InterruptedError("the write was aborted")
        return super().read(_PIECE_BYTES)


def _empty_block() -> _Block:
    with contextlib.suppress(IndexError):
        return _emptied.pop()
    return _Block()


class _Reader(io.RawIOBase):
    """Reads a blob as it was when it was opened, range by range.

    :param read: gets a range.
    :param properties: of the blob.
    """

    def __init__(self, read: Callable[[int, int, BlobProperties], bytes], properties: BlobProperties) -> None:
        self._read = read
        self._properties = properties
        self._position = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to a position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._properties.size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer from the current position on."""
        length = min(len(buffer), self._properties.size - self._position, _RANGE_BYTES)
        if length <= 0:
            return 0
        data = self._read(self._position, length, self._properties)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


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
    "ConditionNotMet": "The blob was replaced meanwhile: see that only one task writes it.",
    "ContainerBeingDeleted": "Wait until the container is deleted, create it again, or write to another one.",
    "ContainerNotFound": "Create the container, or correct its name in the path.",
    "InvalidBlobOrBlock": (
        "Another program has left an unfinished upload of this name, with block ids of another length. Write to "
        "another path, or replace the blob once with a tool that uploads in one request."
    ),
    "InvalidBlobType": "An append or page blob has this name: delete it, or write to another path.",
    "InvalidBlockList": (
        "The staged blocks are gone: probably another task published a blob of this name meanwhile. See that only one "
        "task writes it."
    ),
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
_LONGEST_REASON = 1_000


def _code(error: Exception) -> str:
    code = getattr(error, "error_code", None) or ""
    return str(getattr(code, "value", code))


def _reason(error: Exception) -> str:
    """Describe an error in the service's own words."""
    status = getattr(error, "status_code", None)
    if status is None:
        text = f"{type(error).__name__}: {error}"
    else:
        # The first line of the message is the service's, and the others repeat headers.
        text = f"{status} {_code(error)}: {str(getattr(error, 'message', '')).strip().partition(chr(10))[0]}"
    return text[:_LONGEST_REASON].rstrip(".: ")


@contextlib.contextmanager
def _errors(action: str) -> Iterator[None]:
    """Raise whatever goes wrong inside as StorageFailed.

    :param action: what is tried.
    """
    try:
        yield
    except ProviderError:
        raise
    except Exception as error:
        status = 401 if isinstance(error, ClientAuthenticationError) else getattr(error, "status_code", None)
        advice = _ADVICE.get(_code(error)) or _ADVICE_BY_STATUS.get(status, _REACHABLE)
        raise StorageFailed(f"{action} failed: {_reason(error)}. {advice}") from error
