# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""One pass over a whole file: received, decompressed, checked, staged, verified."""

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
from airflow_provider_isvapp.transfer.rows import PartitionChunk, Row, RowInspector, UndocumentedRow
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
        """Log where the transfer stands, if it is time.

        :param now: seconds, by the clock of ``started``.
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

    One thread receives and decompresses, one checks, one writes, and the caller's is left to look up: whatever stands
    still, the network or the storage, a task that is cancelled stops at once. Only checking holds the
    interpreter's lock; the others run beside it.

    Malformed rows end the writing, but not the reading: at its end, sizes and checksums show whether the vendor has
    made the file so, which no other download would change.

    :param download: the file.
    :param options: how far to check its rows, and whether they are wanted by month.
    :param open_writer: opens the writer, with what is known before the first byte.
    :param cancelled: asked several times per second.
    :ivar keys: of the rows, if a check asks for repeated ones.
    :ivar objects: what there will be when it is published, known as soon as it is verified.
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
        self._writer: RowWriter | None = None
        self.objects: list[WrittenObject] = []

    @property
    def drift(self) -> DriftReport | None:
        """What differs from the documentation so far; None if that is not looked for."""
        return None if self._checker is None else self._checker.report

    @property
    def summary(self) -> Summary | None:
        """The rows so far, as they are stored; None if they are not summed up."""
        return None if self._summarizer is None else self._summarizer.summary()

    @contextmanager
    def verified(self) -> Iterator[Provenance]:
        """Run, and give the full provenance when every check has passed; nothing is published yet.

        What :meth:`commit` has not published by the end of the block is removed.

        :raises DamagedDownload: if the file is not whole and sound.
        :raises ExportRefused: if it is, but its rows are not, or if its record does not say how long it must be.
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
        """Publish some of :attr:`objects`, and say which were."""
        assert self._writer is not None  # noqa: S101 - only called inside verified()
        return self._writer.commit(objects)

    def _forget_keys(self) -> None:
        if self.keys is not None:
            self.keys.close()

    def _move(self, output: RowWriter) -> None:
        _keep_freed_memory()
        pieces = Prefetch(self._decompressed(), name="isvapp-download")
        chunks = Prefetch(self._checked(pieces), name="isvapp-check")
        writing = WorkerThread(lambda: self._write(chunks, output), name="isvapp-write")
        try:
            while not writing.poll():
                self._check_cancelled()
        finally:
            self._download.cancel()
            pieces.stop()
            chunks.stop()
            writing.join_briefly()

    def _decompressed(self) -> Generator[tuple[memoryview, bytes]]:
        with closing(self._download.chunks()) as chunks:
            for data in chunks:
                if self._download.is_unpacked:
                    yield memoryview(b""), data
                else:
                    yield from self._members.decode(data)

    def _checked(self, pieces: Iterable[tuple[memoryview, bytes]]) -> Generator[Chunk]:
        for compressed, plain in pieces:
            self._measure(compressed, plain)
            if (partitions := self._inspect(partial(self._inspector.feed, plain))) is not None:
                yield from self._summed_up(self._without_fields(compressed, self._fields.feed(plain), partitions))
        if self._members.inside_member:
            raise DamagedDownload(f"it ends inside gzip member {self._members.finished_members + 1}")
        self._check_size()
        if (partitions := self._inspect(self._inspector.finish)) is not None:
            last = self._without_fields(memoryview(b""), self._fields.finish(), partitions)
            yield from self._summed_up(last, is_last=True)

    def _write(self, chunks: Iterable[Chunk], output: RowWriter) -> None:
        for chunk in chunks:
            # Here and not while checking: the checksum lets go of the interpreter's lock, and the thread that checks
            # would wait for its return with every chunk, a quarter of the whole download's time.
            self._crc32.update(chunk.plain)
            self._kept_bytes += len(chunk.plain)
            if self._malformed is None:
                try:
                    output.write(chunk)
                except MalformedRows as problem:
                    self._keep(problem)

    def _flush(self, writer: RowWriter, provenance: Provenance) -> list[WrittenObject]:
        if self._malformed is None:
            try:
                return writer.flush(provenance)
            except MalformedRows as problem:
                self._keep(problem)
        raise ExportRefused(
            f"Export {self._download.export.id} has malformed rows: {self._malformed}. The sizes and checksums of its "
            "file are right, so another download would bring the same: create a new export. Nothing was published."
        )

    def _measure(self, compressed: memoryview, plain: bytes) -> None:
        self._received += len(compressed)
        self._plain_bytes += len(plain)
        recorded = self._download.export.download_size_uncompressed_bytes
        if recorded is not None and self._plain_bytes > recorded:
            raise DamagedDownload(
                f"it decompresses to more than the {recorded} bytes that the export's record says: it was "
                f"stopped after {self._plain_bytes}"
            )

    def _without_fields(self, compressed: memoryview, kept: bytes, partitions: Sequence[PartitionChunk]) -> Chunk:
        """Return a chunk of rows that were checked with all their fields.

        :param kept: without the fields that are left out.
        """
        return Chunk(compressed, kept, [replace(part, lines=self._fields.strip(part.lines)) for part in partitions])

    def _summed_up(self, chunk: Chunk, *, is_last: bool = False) -> Generator[Chunk]:
        """Yield a chunk of rows when they are summed up, if they are to be; nothing if that shows anything wrong."""
        try:
            if self._summarizer is not None:
                self._summarizer.feed(chunk.plain)
                if is_last:
                    self._summarizer.finish()
        except MalformedRows as problem:
            self._keep(problem)
        else:
            yield chunk

    def _inspect(self, step: Callable[[], list[PartitionChunk]]) -> list[PartitionChunk] | None:
        """Take a step of the inspection; return None when there was anything wrong with the rows before or now."""
        if self._malformed is not None:
            return None
        try:
            partitions = step()
            if problem := too_many_months(self._inspector.months):
                raise MalformedRows(problem)
        except MalformedRows as problem:
            self._keep(problem)
            return None
        return partitions

    def _keep(self, problem: MalformedRows) -> None:
        """Keep a problem until the end, where the sizes of the record show whether the vendor has made the file so.

        :raises MalformedRows: if it states none: a gateway may have compressed the file anew.
        """
        export = self._download.export
        if not export.states_sizes:
            raise problem
        self._log.warning(
            "Export %s has malformed rows: %s. Reading on to see whether the file is as the vendor has made it.",
            export.id,
            problem,
        )
        self._malformed = problem

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
        """Return the size of the gzip file, also where it did not arrive as one."""
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
                f"it decompresses to {self._plain_bytes} bytes, and the export's record says {recorded}"
            )


def _keep_freed_memory() -> None:
    """Let glibc keep what a piece leaves for the next one.

    It returns freed memory above a threshold to the kernel, which then makes the same pages anew for every piece: a
    tenth of a download's processor time. The threshold follows the largest block that was freed (mallopt(3),
    M_MMAP_THRESHOLD); a block that is never touched takes no memory itself.
    """
    bytearray(16 * 1024 * 1024)
