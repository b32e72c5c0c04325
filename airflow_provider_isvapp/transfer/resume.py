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
        """Open the whole file, or its rest from ``offset`` if it still is the one that ``validator`` names."""
        ...


_FIRST_WAIT = 1.0
_LONGEST_WAIT = 30.0


class RetryBudget:
    """Counts the responses that a download has used, and waits before the next one.

    :param limit: responses in all, whole ones and continued ones.
    :param sleep: how to wait.
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
        """Wait for the next response, or raise the error when there are no more."""
        if self.used >= self._limit:
            times = f" This was attempt {self.used} of {self._limit}." if self._limit > 1 else ""
            error.args = (f"{error}{times} Try again later; if it lasts, ask the vendor.",)
            raise error
        wait = min(_FIRST_WAIT * 2 ** (self.used - 1), _LONGEST_WAIT)
        self._log.warning("%s Trying again in %.0f s (attempt %d of %d).", error, wait, self.used + 1, self._limit)
        self._sleep(wait)


_READ_BYTES = 256 * 1024
# Each block has so many seconds to come: 2 KiB per second, at which an export's hour of life is worth 8 MB. Longer than
# the default read timeout, which ends a body that stands still.
SECONDS_FOR_A_BLOCK = 120.0


class RestartRequired(Exception):
    """The rest of the file cannot be had: what came so far must be dropped, and the whole file read."""


class ResumableDownload:
    """Reads one file to its end.

    When the connection breaks, the rest is asked for with the strong validator of the first response, so that the parts
    are of one file; without one, or if the file has changed, :class:`RestartRequired` is raised.

    :param source: opens the file.
    :param attempts: the bound on responses.
    :param observe: called with an event when the rest of a broken response comes.
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
        """Yield the file's bytes; to be called once.

        :raises BrokenTransfer: if the connection broke and the attempts are used up.
        :raises RestartRequired: if what was yielded so far is worth nothing.
        :raises DamagedDownload: if the file has another size than was announced.
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
        """Interrupt a body that trickles; to be called several times per second, from any one thread.

        Only time that is spent waiting for the network counts: a slow storage makes no download too slow.

        :param now: seconds that only grow.
        """
        if not self._is_reading or self.received != self._block_at:
            self._block_at, self._block_since = self.received, now
        elif now - self._block_since > SECONDS_FOR_A_BLOCK:
            self._too_slow_from = self._block_at
            self._body.interrupt()

    def _rest_of_body(self) -> Iterator[bytes]:
        while data := self._read():
            if self.received == 0:
                self._look_at_beginning(data)
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
            # An interrupted body that states no length looks like one that ended.
            came, self._too_slow_from = self.received - self._too_slow_from, None
            rate = _READ_BYTES / 1024 / SECONDS_FOR_A_BLOCK
            raise BrokenTransfer(
                f"The download of export {self.export.id} was too slow: {came} bytes came within "
                f"{SECONDS_FOR_A_BLOCK:.0f} s, and at least {rate:.0f} KiB per second must. "
                f"{self.received} bytes had come in all."
            )
        return data

    def cancel(self) -> None:
        """Ask for nothing more: the bytes are no longer wanted. Safe to call from another thread."""
        self._cancelled = True

    def close(self) -> None:
        """Give up the connection of a file that :meth:`chunks` has not begun with."""
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
        """Whether the response is the rest of the file that was begun.

        The server says so by the status 206, but one that ignores If-Range says it of another file, too.
        """
        body = self._body
        length = None if body.content_length is None else body.start + body.content_length
        same_length = None in (length, self.announced) or length == self.announced
        return body.start == self.received and body.validator in (None, self._validator) and same_length

    @property
    def _expected(self) -> int | None:
        """How many bytes the whole file has, as far as anything says so."""
        recorded = self._recorded
        return recorded if self.announced is None else self.announced

    @property
    def _recorded(self) -> int | None:
        if self.is_unpacked:
            return self.export.download_size_uncompressed_bytes
        return self.export.download_size_compressed_bytes

    def _look_at_beginning(self, data: bytes) -> None:
        """Find out whether a gateway has unpacked the file, which is accepted if its size confirms it.

        :raises DamagedDownload: as soon as the size that the response announces is not that of the file.
        """
        # With a row, after a byte order mark and blanks at most.
        is_ndjson = data.removeprefix(codecs.BOM_UTF8).lstrip(b" \t\r\n").startswith(b"{")
        self.is_unpacked = is_ndjson and self.export.download_size_uncompressed_bytes is not None
        self._check_announced()

    def _check_announced(self) -> None:
        """Compare what the response and the record say."""
        if None not in (self.announced, self._recorded) and self.announced != self._recorded:
            raise DamagedDownload(f"the file has {self.announced} bytes, and the export's record says {self._recorded}")

    def _check_end(self) -> None:
        """A body that was cut before a proxy ends as properly as a whole one: compare with what was announced."""
        if self._expected is not None and self.received < self._expected:
            raise BrokenTransfer(
                f"The download of export {self.export.id} ended after {self.received} of {self._expected} bytes."
            )
        if self.received == 0 and self._expected is None and self.export.download_size_uncompressed_bytes != 0:
            raise DamagedDownload("the response was empty, and nothing says that the export is")
