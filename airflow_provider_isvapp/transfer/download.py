# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Downloads one export: bytes in, verified, published whole or not at all."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Literal

from airflow_provider_isvapp.errors import DamagedDownload, DestinationExists, InvalidArgument, TransferCancelled
from airflow_provider_isvapp.transfer.attempts import Attempts
from airflow_provider_isvapp.transfer.checksum import Crc32
from airflow_provider_isvapp.transfer.destination import Destination
from airflow_provider_isvapp.transfer.gzip_members import GzipMembers
from airflow_provider_isvapp.transfer.prefetch import Prefetch
from airflow_provider_isvapp.transfer.progress import Progress
from airflow_provider_isvapp.transfer.result import DownloadResult
from airflow_provider_isvapp.transfer.rows import RowInspector
from airflow_provider_isvapp.transfer.source import ExportSource
from airflow_provider_isvapp.transfer.wire import StartAgain, Wire
from airflow_provider_isvapp.transfer.write_behind import WriteBehind

IfExists = Literal["overwrite", "skip", "fail"]

_LOG = logging.getLogger(__name__)


def download_export(
    source: ExportSource,
    destination: Destination,
    *,
    if_exists: IfExists = "overwrite",
    attempts: int = 5,
    cancelled: Callable[[], bool] = lambda: False,
    log: logging.Logger = _LOG,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> DownloadResult:
    """Write the rows of an export, as the vendor sent them, to one object.

    One pass in bounded memory: received, decompressed, checked, counted and staged. Only when the last check has passed
    is the object published; on any error the old object stays and nothing new is left.

    :param source: opens the export's file.
    :param destination: where the object shall be.
    :param if_exists: ``overwrite`` an object that is there, or ``fail``.
    :param attempts: how many answers may be used up by connections that break and bodies that are damaged.
    :param cancelled: asked about twice a second or more often; when it says yes, the transfer stops.
    :param log: where progress goes.
    :param clock: seconds that only grow.
    :param sleep: how to wait between attempts.
    :raises DamagedDownload: if the file is not whole and sound, after the last attempt.
    :raises BrokenTransfer: if the connection broke, after the last attempt.
    :raises DestinationExists: if there is an object and ``if_exists`` is ``fail``.
    :raises StorageFailed: if the storage refused.
    :raises TransferCancelled: if ``cancelled`` said yes.
    """
    if if_exists not in ("overwrite", "skip", "fail"):
        raise InvalidArgument(f"if_exists must be 'overwrite', 'skip' or 'fail', not {if_exists!r}.")
    started = clock()
    if if_exists == "fail" and destination.exists():
        raise DestinationExists(f"{destination.uri} exists, and if_exists is 'fail'.")
    budget = Attempts(attempts, log=log, sleep=sleep)
    while True:
        try:
            with destination.staged(exclusive=if_exists == "fail") as staged, ExitStack() as stack:
                wire = Wire(source, budget)
                behind = WriteBehind(staged)
                stack.callback(behind.stop)
                copy = _Copy(wire, write=behind.write, cancelled=cancelled, log=log, clock=clock)
                copy.run()
                behind.drain()
        except StartAgain:
            log.warning("The rest of export %s cannot be had: reading it from its beginning again.", wire.export.id)
        except DamagedDownload as damage:
            budget.again_after(
                DamagedDownload(f"The download of export {wire.export.id} is damaged: {damage}. Nothing was published.")
            )
        else:
            return DownloadResult(
                path=destination.uri,
                export_id=wire.export.id,
                rows=copy.inspector.rows,
                bytes=copy.plain_bytes,
                compressed_bytes=wire.received,
                crc32=str(copy.crc32),
                months=copy.inspector.months,
                attempts=budget.used,
                seconds=clock() - started,
            )


class _Copy:
    """One pass over one whole file."""

    def __init__(
        self,
        wire: Wire,
        *,
        write: Callable[[bytes], None],
        cancelled: Callable[[], bool],
        log: logging.Logger,
        clock: Callable[[], float],
    ) -> None:
        self.plain_bytes = 0
        self.wire_bytes = 0
        self.crc32 = Crc32()
        self.inspector = RowInspector()
        self._wire = wire
        self._write = write
        self._cancelled = cancelled
        self._members = GzipMembers()
        export = wire.export
        total = wire.announced if wire.announced is not None else export.download_size_compressed_bytes
        self._progress = Progress(total=total, log=log, clock=clock)

    def run(self) -> None:
        with ExitStack() as stack:
            pieces = Prefetch(self._pieces())
            stack.callback(pieces.stop)
            stack.callback(self._wire.abandon)
            going_on = True
            while going_on:
                if self._cancelled():
                    raise TransferCancelled(
                        f"The download of export {self._wire.export.id} was stopped; nothing was published."
                    )
                going_on, piece = pieces.take()
                if piece is not None:
                    self._pass_on(*piece)
                self._progress.report(wire=self.wire_bytes, plain=self.plain_bytes, rows=self.inspector.rows)
        self._check_end()

    def _pieces(self) -> Iterator[tuple[memoryview, bytes]]:
        with closing(self._wire.chunks()) as chunks:
            for data in chunks:
                yield from self._members.decode(data)

    def _pass_on(self, compressed: memoryview, plain: bytes) -> None:
        self.wire_bytes += len(compressed)
        if plain:
            self.plain_bytes += len(plain)
            self.crc32.update(plain)
            self.inspector.feed(plain)
            self._write(plain)

    def _check_end(self) -> None:
        if self._members.inside_member:
            raise DamagedDownload(f"it ends inside gzip member {self._members.finished_members + 1}")
        self.inspector.finish()
        recorded = self._wire.export.download_size_uncompressed_bytes
        if recorded is not None and self.plain_bytes != recorded:
            raise DamagedDownload(
                f"it decompresses to {self.plain_bytes} bytes, and the export's record says {recorded}"
            )
