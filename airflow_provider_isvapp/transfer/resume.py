# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A download that continues after its connection breaks."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Generator, Iterator
from logging import Logger
from typing import Protocol

from airflow_provider_isvapp.api.isvapp.client import DownloadResponse
from airflow_provider_isvapp.errors import BrokenTransfer, DamagedDownload, TransferError
from airflow_provider_isvapp.events import DownloadInterrupted, Observer, no_op_observer


class ExportSource(Protocol):
    """Opens the file of one export, each time at a fresh URL.

    ``functools.partial(client.open_download, export_id)`` is one.
    """

    def __call__(self, *, offset: int = 0, validator: str | None = None) -> DownloadResponse:
        """Open the whole file, or its rest from ``offset`` if it still matches ``validator``."""
        ...


_FIRST_WAIT = 1.0
_LONGEST_WAIT = 30.0


class RetryBudget:
    """Counts the responses used by a download, and waits before the next one.

    :param limit: the most responses, including resumed ones.
    :param sleep: waits for some seconds.
    """

    def __init__(self, limit: int, *, log: Logger, sleep: Callable[[float], None] = time.sleep) -> None:
        self.used = 0
        self._limit = limit
        self._log = log
        self._sleep = sleep

    def begin(self) -> None:
        """Count one response."""
        self.used += 1

    def backoff_or_raise(self, error: TransferError) -> None:
        """Wait before the next response, or raise the error if the limit is reached."""
        if self.used >= self._limit:
            times = f" This was attempt {self.used} of {self._limit}." if self._limit > 1 else ""
            error.args = (f"{error}{times} Try again later; if it lasts, ask the vendor.",)
            raise error
        wait = min(_FIRST_WAIT * 2 ** (self.used - 1), _LONGEST_WAIT)
        self._log.warning("%s Trying again in %.0f s (attempt %d of %d).", error, wait, self.used + 1, self._limit)
        self._sleep(wait)


_READ_BYTES = 256 * 1024
# The time limit for each block: 2 KiB per second, at which a download gets 8 MB in the hour that an export lives. It
# exceeds the default read timeout, which ends a stalled body.
SECONDS_FOR_A_BLOCK = 120.0


class RestartRequired(Exception):
    """The download cannot be resumed: discard the received bytes and read the whole file again."""


class ResumableDownload:
    """Reads one file to its end, and resumes after a broken connection.

    The rest is requested with the strong validator of the first response, so that all parts belong to the same file.
    Without a validator, or if the file has changed, :class:`RestartRequired` is raised.

    :param source: opens the file.
    :param attempts: limits the number of responses.
    :param observe: called with an event when a download is resumed.
    """

    def __init__(self, source: ExportSource, attempts: RetryBudget, *, observe: Observer = no_op_observer) -> None:
        self._observe = observe
        self._source = source
        self._attempts = attempts
        attempts.begin()
        self._body = source()
        self._validator = self._body.validator if self._body.accepts_ranges else None
        self.export = self._body.export
        self.announced = self._body.content_length
        self.is_unpacked = False
        self.received = 0
        self._cancelled = False
        self._is_reading = False
        self._block_at = -1
        self._block_since = 0.0
        self._too_slow_from: int | None = None

    def chunks(self) -> Generator[bytes]:
        """Yield the file's bytes. Call this once.

        :raises BrokenTransfer: if the connection broke and the attempts are used up.
        :raises RestartRequired: if the bytes yielded so far must be discarded.
        :raises DamagedDownload: if the size of the file differs from the announced one.
        """
        try:
            if self.announced != self.export.download_size_uncompressed_bytes:
                self._check_announced()
            while True:
                try:
                    yield from self._rest_of_body()
                    self._check_end()
                    return
                except BrokenTransfer as error:
                    broken = error
                self._body.close()
                if self._cancelled:
                    raise broken
                self._attempts.backoff_or_raise(broken)
                self._continue()
        finally:
            self._body.close()

    def enforce_minimum_rate(self, now: float) -> None:
        """Interrupt a body that trickles. Call this several times per second, always from the same thread.

        Only the time spent waiting for the network counts, not a slow storage.

        :param now: monotonic time in seconds.
        """
        if not self._is_reading or self.received != self._block_at:
            self._block_at, self._block_since = self.received, now
        elif now - self._block_since > SECONDS_FOR_A_BLOCK:
            self._too_slow_from = self._block_at
            self._body.interrupt()

    def _rest_of_body(self) -> Iterator[bytes]:
        while data := self._read():
            if self.received == 0:
                self._check_first_bytes(data)
            self.received += len(data)
            if self._expected is not None and self.received > self._expected:
                raise DamagedDownload(f"the file has more than the {self._expected} bytes that were announced")
            yield data

    def _read(self) -> bytes:
        self._is_reading = True
        try:
            data = self._body.read(_READ_BYTES)
        except BrokenTransfer:
            if self._too_slow_from is None:
                raise
            data = b""
        finally:
            self._is_reading = False
        if self._too_slow_from is not None and not data:
            # An interrupted body without a stated length looks like a complete one.
            came, self._too_slow_from = self.received - self._too_slow_from, None
            rate = _READ_BYTES / 1024 / SECONDS_FOR_A_BLOCK
            raise BrokenTransfer(
                f"The download of export {self.export.id} was too slow: {came} bytes arrived within "
                f"{SECONDS_FOR_A_BLOCK:.0f} s. The minimum is {rate:.0f} KiB per second. "
                f"{self.received} bytes arrived in all."
            )
        return data

    def cancel(self) -> None:
        """Make no further request. Safe to call from another thread."""
        self._cancelled = True

    def close(self) -> None:
        """Close the connection if :meth:`chunks` has not started."""
        self._body.close()

    def _continue(self) -> None:
        if self._validator is None or self.received == 0:
            raise RestartRequired
        self._attempts.begin()
        self._body = self._source(offset=self.received, validator=self._validator)
        if not self._is_rest():
            raise RestartRequired
        self._observe(DownloadInterrupted(then="resumed"))

    def _is_rest(self) -> bool:
        """Whether the response is the rest of the same file.

        Status 206 alone is no proof: a server that ignores If-Range sends it for another file, too.
        """
        body = self._body
        length = None if body.content_length is None else body.start + body.content_length
        same_length = None in (length, self.announced) or length == self.announced
        return body.start == self.received and body.validator in (None, self._validator) and same_length

    @property
    def _expected(self) -> int | None:
        """The size of the whole file in bytes; None if neither the response nor the record states it."""
        recorded = self._recorded
        return recorded if self.announced is None else self.announced

    @property
    def _recorded(self) -> int | None:
        if self.is_unpacked:
            return self.export.download_size_uncompressed_bytes
        return self.export.download_size_compressed_bytes

    def _check_first_bytes(self, data: bytes) -> None:
        """Detect whether a gateway has decompressed the file, which is accepted if the record can confirm its size.

        :raises DamagedDownload: if the announced size is not that in the record.
        """
        # ndjson begins with a row, after at most a byte order mark and white space.
        is_ndjson = data.removeprefix(codecs.BOM_UTF8).lstrip(b" \t\r\n").startswith(b"{")
        self.is_unpacked = is_ndjson and self.export.download_size_uncompressed_bytes is not None
        self._check_announced()

    def _check_announced(self) -> None:
        """Compare the sizes in the response and the record."""
        if None not in (self.announced, self._recorded) and self.announced != self._recorded:
            raise DamagedDownload(
                f"the file has {self.announced} bytes, and the export's record states {self._recorded}"
            )

    def _check_end(self) -> None:
        """Compare the received size with the announced one: a truncated body can end cleanly behind a proxy."""
        if self._expected is not None and self.received < self._expected:
            raise BrokenTransfer(
                f"The download of export {self.export.id} ended after {self.received} of {self._expected} bytes."
            )
        if self.received == 0 and self._expected is None and self.export.download_size_uncompressed_bytes != 0:
            raise DamagedDownload("the response was empty, and nothing states that the export is empty")
