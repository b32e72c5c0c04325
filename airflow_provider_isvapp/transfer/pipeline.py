# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Receives, decompresses, checks, stages and verifies a file in one pass."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from logging import Logger

import msgspec

from airflow_provider_isvapp.api.schema.isvapp import ExportType, TaxonomyItemRow
from airflow_provider_isvapp.errors import DamagedDownload, ExportRefused, MalformedRows, TransferCancelled
from airflow_provider_isvapp.transfer.audit import too_many_months
from airflow_provider_isvapp.transfer.drift import DriftReport, RowChecker
from airflow_provider_isvapp.transfer.exclude_fields import FieldFilter
from airflow_provider_isvapp.transfer.gzip import Crc32, GzipMembers
from airflow_provider_isvapp.transfer.options import WriteOptions
from airflow_provider_isvapp.transfer.results import WrittenObject
from airflow_provider_isvapp.transfer.resume import ResumableDownload
from airflow_provider_isvapp.transfer.rows import Row, RowBatch, RowInspector, UndocumentedRow
from airflow_provider_isvapp.transfer.staging.base import Provenance
from airflow_provider_isvapp.transfer.summary import KeyIndex, RowSummarizer, Summary
from airflow_provider_isvapp.transfer.threads import Prefetch, WorkerThread
from airflow_provider_isvapp.transfer.writers import Chunk, RowWriter

_INTERVAL_SECONDS = 5.0
_MB = 1_000_000


class Progress:
    """Logs a line every few seconds.

    :param total: size of the compressed file, if known.
    :param started: when the transfer began, in seconds.
    """

    def __init__(self, *, total: int | None, log: Logger, started: float) -> None:
        self._total = total
        self._log = log
        self._started = started
        self._next = started + _INTERVAL_SECONDS

    def report(self, now: float, *, received: int, plain: int, rows: int) -> None:
        """Log the progress if the interval has passed.

        :param now: the current time in seconds, by the clock of ``started``.
        :param received: compressed bytes so far.
        :param plain: bytes of ndjson so far.
        :param rows: rows so far.
        """
        if now < self._next:
            return
        self._next = now + _INTERVAL_SECONDS
        share = f", {received / self._total:.0%}" if self._total else ""
        self._log.info(
            "%.0f MB downloaded, %.0f MB of ndjson in %d rows so far, %.0f MB/s%s",
            received / _MB,
            plain / _MB,
            rows,
            plain / _MB / (now - self._started),
            share,
        )


class TransferPipeline:
    """Moves a file from a download to a writer.

    One thread receives, decompresses and checks, and another one writes. The caller's thread only polls for
    cancellation: a cancelled task stops at once, even while the network or the storage stalls. A third thread for the
    checks gains nothing: they hold the interpreter's lock, and the others would wait for it after every piece.

    Malformed rows stop the writing, but not the reading: at the end, sizes and checksums show whether the vendor
    produced them, in which case another download does not help.

    :param download: the file.
    :param options: how to check its rows, and whether to partition them by month.
    :param open_writer: opens the writer, given the provenance known before the first byte.
    :param cancelled: returns whether the task was cancelled; called several times per second.
    :ivar keys: the keys of the rows; None if no check looks for repeated ones.
    :ivar objects: the objects to publish, known once the file is verified.
    """

    def __init__(
        self,
        download: ResumableDownload,
        options: WriteOptions,
        *,
        open_writer: Callable[[Provenance], RowWriter],
        cancelled: Callable[[], bool],
        log: logging.Logger,
        clock: Callable[[], float],
    ) -> None:
        self._download = download
        self._options = options
        self._open_writer = open_writer
        self._cancelled = cancelled
        self._clock = clock
        self._total = (
            download.announced if download.announced is not None else download.export.download_size_compressed_bytes
        )
        self._provenance = Provenance(
            export_id=download.export.id, format=options.storage_format, compressed_bytes=self._total
        )
        self._progress = Progress(total=self._total, log=log, started=clock())
        self._members = GzipMembers()
        by_month = options.partition_by is not None
        is_documented = download.export.type in (None, *ExportType)
        self._checker = RowChecker(TaxonomyItemRow, allow_wrong_types=False) if options.parses_rows else None
        self._inspector = RowInspector(
            Row if is_documented or by_month else UndocumentedRow,
            checker=self._checker,
            by_month=by_month,
            as_arrays=options.output_format == "parquet",
            max_row_bytes=options.max_row_bytes,
        )
        self.keys = KeyIndex() if options.indexes_keys else None
        self._summarizer = None
        if options.summarizes_rows:
            self._summarizer = RowSummarizer(is_documented=is_documented, keys=self.keys)
        self._log = log
        self._require_sizes = options.require_sizes
        self._fields = FieldFilter(options.exclude_fields)
        self._crc32 = Crc32()
        self._received = 0
        self._plain_bytes = 0
        self._kept_bytes = 0
        self._malformed: MalformedRows | None = None
        # Only rows that passed the checks are written, so this row comes before the one that the checks found.
        self._unwritable: MalformedRows | None = None
        self._writer: RowWriter | None = None
        self.objects: list[WrittenObject] = []

    @property
    def drift(self) -> DriftReport | None:
        """The differences from the documentation so far; None if rows are not compared with it."""
        return None if self._checker is None else self._checker.report

    @property
    def summary(self) -> Summary | None:
        """The figures of the stored rows so far; None if none are computed."""
        return None if self._summarizer is None else self._summarizer.summary()

    @contextmanager
    def verified(self) -> Iterator[Provenance]:
        """Transfer and verify the file, and yield its full provenance; nothing is published yet.

        At the end of the block, objects that :meth:`commit` has not published are removed.

        :raises DamagedDownload: if the file is truncated or corrupt.
        :raises ExportRefused: if the file is intact but has malformed rows, or if ``require_sizes`` is set and its
            record states no size.
        """
        try:
            self._options.check_for_type(self._download.export.type)
            self._check_record()
            self._writer = self._open_writer(self._provenance)
        except BaseException:
            self._download.close()
            self._forget_keys()
            raise
        try:
            self._move(self._writer)
            provenance = msgspec.structs.replace(
                self._provenance,
                compressed_bytes=self._compressed_bytes(),
                rows=self._inspector.rows,
                bytes=self._kept_bytes,
                crc32=str(self._crc32),
                months=self._inspector.months,
            )
            self.objects = self._flush(self._writer, provenance)
            self._fields.check(TaxonomyItemRow.__struct_fields__)
            self._check_cancelled()
            yield provenance
        finally:
            self._writer.abort()
            self._forget_keys()

    def commit(self, objects: Sequence[WrittenObject]) -> list[WrittenObject]:
        """Publish some of :attr:`objects`, and return those that were published."""
        assert self._writer is not None  # noqa: S101 - only called inside verified()
        return self._writer.commit(objects)

    def _forget_keys(self) -> None:
        if self.keys is not None:
            self.keys.close()

    def _move(self, output: RowWriter) -> None:
        _keep_freed_memory()
        chunks = Prefetch(self._checked(), name="isvapp-download")
        writing = WorkerThread(lambda: self._write(chunks, output), name="isvapp-write")
        try:
            while not writing.poll():
                self._check_cancelled()
        finally:
            self._download.cancel()
            chunks.stop()
            writing.join_briefly()

    def _decompressed(self) -> Generator[tuple[memoryview, bytes]]:
        with closing(self._download.chunks()) as chunks:
            for data in chunks:
                if self._download.is_unpacked:
                    yield memoryview(b""), data
                else:
                    yield from self._members.decode(data)

    def _checked(self) -> Generator[Chunk]:
        with closing(self._decompressed()) as pieces:
            for compressed, plain in pieces:
                self._measure(compressed, plain)
                if (batches := self._inspect(partial(self._inspector.feed, plain))) is not None:
                    yield from self._summed_up(self._without_fields(compressed, self._fields.feed(plain), batches))
        if self._members.inside_member:
            raise DamagedDownload(f"it ends inside gzip member {self._members.finished_members + 1}")
        self._check_size()
        if (batches := self._inspect(self._inspector.finish)) is not None:
            last = self._without_fields(memoryview(b""), self._fields.finish(), batches)
            yield from self._summed_up(last, is_last=True)

    def _write(self, chunks: Iterable[Chunk], output: RowWriter) -> None:
        try:
            for chunk in chunks:
                # Computed here and not in the other thread: the checksum releases the interpreter's lock, and the
                # thread that checks would wait for the lock again after every chunk.
                self._crc32.update(chunk.plain)
                self._kept_bytes += len(chunk.plain)
                if self._unwritable is None:
                    self._write_chunk(chunk, output)
        except MalformedRows:
            # The checks found it. The writer may find an earlier one among its last rows.
            output.flush(self._provenance)
            raise

    def _write_chunk(self, chunk: Chunk, output: RowWriter) -> None:
        try:
            output.write(chunk)
        except MalformedRows as problem:
            self._unwritable = self._kept(problem)

    def _flush(self, writer: RowWriter, provenance: Provenance) -> list[WrittenObject]:
        objects: list[WrittenObject] = []
        if self._unwritable is None:
            # Even if the checks found a malformed row: the writer may find an earlier one among its last rows.
            try:
                objects = writer.flush(provenance)
            except MalformedRows as problem:
                self._unwritable = self._kept(problem)
        malformed = self._unwritable or self._malformed
        if malformed is None:
            return objects
        raise ExportRefused(
            f"Export {self._download.export.id} has malformed rows: {malformed}. The sizes and checksums of its "
            "file are right, so downloading it again would not help: create a new export. Nothing was published."
        )

    def _measure(self, compressed: memoryview, plain: bytes) -> None:
        self._received += len(compressed)
        self._plain_bytes += len(plain)
        recorded = self._download.export.download_size_uncompressed_bytes
        if recorded is not None and self._plain_bytes > recorded:
            raise DamagedDownload(
                f"it decompresses to more than the {recorded} bytes that the export's record states: it was "
                f"stopped after {self._plain_bytes}"
            )

    def _without_fields(self, compressed: memoryview, kept: bytes, batches: Sequence[RowBatch]) -> Chunk:
        """Return a chunk of rows that were checked with all their fields.

        :param kept: the rows without the excluded fields.
        """
        return Chunk(compressed, kept, [replace(batch, lines=self._fields.strip(batch.lines)) for batch in batches])

    def _summed_up(self, chunk: Chunk, *, is_last: bool = False) -> Generator[Chunk]:
        """Compute the figures of a chunk if they are needed, and yield it; yield nothing if a row is malformed."""
        try:
            if self._summarizer is not None:
                self._summarizer.feed(chunk.plain)
                if is_last:
                    self._summarizer.finish()
        except MalformedRows as problem:
            self._malformed = self._kept(problem)
        else:
            yield chunk

    def _inspect(self, step: Callable[[], list[RowBatch]]) -> list[RowBatch] | None:
        """Run a step of the inspection; return None if a row is malformed, in this step or an earlier one."""
        if self._malformed is not None or self._unwritable is not None:
            return None
        try:
            batches = step()
            if problem := too_many_months(self._inspector.months):
                raise MalformedRows(problem)
        except MalformedRows as problem:
            self._malformed = self._kept(problem)
            return None
        return batches

    def _kept(self, problem: MalformedRows) -> MalformedRows:
        """Return a problem, to keep it until the end, when the sizes in the record show whether the vendor produced it.

        :raises MalformedRows: if the record states no sizes: a gateway may have recompressed the file.
        """
        export = self._download.export
        if not export.states_sizes:
            raise problem
        self._log.warning("Export %s has malformed rows: %s. Reading the rest to verify the file.", export.id, problem)
        return problem

    def _check_record(self) -> None:
        export = self._download.export
        if export.states_sizes:
            return
        if self._require_sizes:
            raise ExportRefused(
                f"Export {export.id} cannot be verified against a size: its record states none, and require_sizes is "
                "set. Nothing was published."
            )
        self._log.warning("Export %s is not verified against a size: its record states none.", export.id)

    def _compressed_bytes(self) -> int:
        """Return the size of the gzip file, even if it arrived decompressed."""
        recorded = self._download.export.download_size_compressed_bytes
        return recorded if self._download.is_unpacked and recorded is not None else self._received

    def _check_cancelled(self) -> None:
        if self._cancelled():
            raise TransferCancelled(
                f"The download of export {self._download.export.id} was stopped; nothing was published."
            )
        now = self._clock()
        self._download.enforce_minimum_rate(now)
        self._progress.report(now, received=self._received, plain=self._plain_bytes, rows=self._inspector.rows)

    def _check_size(self) -> None:
        recorded = self._download.export.download_size_uncompressed_bytes
        if recorded is not None and self._plain_bytes != recorded:
            raise DamagedDownload(
                f"it decompresses to {self._plain_bytes} bytes, and the export's record states {recorded}"
            )


def _keep_freed_memory() -> None:
    """Let glibc reuse freed memory instead of returning it to the kernel.

    glibc returns freed blocks above a threshold, and the kernel then maps new pages for every piece: a tenth of a
    download's processor time. The threshold rises to the size of the largest freed block (mallopt(3),
    M_MMAP_THRESHOLD). A block that is never touched takes no memory itself.
    """
    bytearray(16 * 1024 * 1024)
