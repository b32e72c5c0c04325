# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A download from the API client to a file, against the emulator and its faults."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.api.isvapp.client import IsvappClient
from airflow_provider_isvapp.api.isvapp.models import ExportRequest
from airflow_provider_isvapp.api.settings import IsvappSettings
from airflow_provider_isvapp.errors import BrokenTransfer, DamagedDownload, ExportExpired, ExportRefused, ProviderError
from airflow_provider_isvapp.events import DownloadFinished, DownloadInterrupted, Event
from airflow_provider_isvapp.transfer.destination import local_destination
from airflow_provider_isvapp.transfer.results import WriteResult
from tests.support.downloads import download_with

pytest.importorskip("aiohttp", reason="the extra 'emulator' is not installed")

from airflow_provider_isvapp.emulator import Emulator, EmulatorConfig, Fault

OLD = b'{"old":true}\n'
MONTH = "2024-03"


class NoLimit:
    """The emulator accepts any number of requests here."""

    def acquire(self) -> AbstractContextManager[None]:
        return nullcontext()

    def block_for(self, seconds: float) -> None:
        pass


class Download:
    """One completed export of an emulator, and a download of it to a file with other content."""

    def __init__(self, emulator: Emulator, client: IsvappClient, target: Path, timeframe: str) -> None:
        request = ExportRequest.checked(timeframe=timeframe, taxonomy_ids=["all"])
        self.emulator = emulator
        self.target = target
        self.export_id = client.create_export(request).id
        self.client = client
        target.write_bytes(OLD)

    def __call__(self, **options: Any) -> WriteResult:
        source = partial(self.client.open_download, self.export_id)
        return download_with(source, local_destination(str(self.target)), sleep=lambda seconds: None, **options)

    def assert_written(self) -> None:
        assert self.target.read_bytes() == self.emulator.export_bytes(self.export_id)
        assert list(self.target.parent.iterdir()) == [self.target]

    def assert_untouched(self) -> None:
        assert self.target.read_bytes() == OLD
        assert list(self.target.parent.iterdir()) == [self.target]


@contextmanager
def ready(target: Path, *, timeframe: str = MONTH, **config: Any) -> Iterator[Download]:
    config = {"rows": 4_000, "export_seconds": 0.0, "requests_per_second": None, **config}
    with Emulator(EmulatorConfig(**config)) as emulator:
        settings = IsvappSettings.from_connection(
            login=emulator.client_id, password=emulator.client_secret, host=emulator.url
        )
        with IsvappClient(settings, limiter=NoLimit(), sleep=lambda seconds: None) as client:
            yield Download(emulator, client, target, timeframe)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "export.ndjson"


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("encoded", [True, False])
@pytest.mark.parametrize("members", [1, 3])
def test_exact_bytes(target: Path, framing: str, encoded: bool, members: int) -> None:
    with ready(target, framing=framing, content_encoding=encoded, gzip_members=members) as download:
        result = download(validate="full", expected_months=[MONTH], require_months=True)
        download.assert_written()
    assert result.rows == 4_000
    assert result.months == {MONTH: 4_000}


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("empty_file", ["gzip", "nothing"])
def test_an_empty_export(target: Path, framing: str, empty_file: str) -> None:
    with ready(target, framing=framing, empty_file=empty_file, rows=0) as download:
        assert download(min_rows=0).rows == 0
        download.assert_written()


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("kind", ["cut", "reset"])
@pytest.mark.parametrize("at", [0.01, 0.5, -1])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_broken_connection(target: Path, framing: str, at: float, kind: str, ranges: bool) -> None:
    with ready(target, framing=framing, ranges=ranges) as download:
        download.emulator.inject(Fault(endpoint="download", kind=kind, at=at, times=2))
        result = download()
        download.assert_written()
        assert result.attempts >= 2
        assert download.emulator.request_counts()["download"] == result.attempts


def test_a_connection_that_always_breaks(target: Path) -> None:
    with ready(target) as download:
        download.emulator.inject(Fault(endpoint="download", kind="cut", at=0.5, times=None))
        with pytest.raises(BrokenTransfer, match=download.export_id):
            download(attempts=3)
        download.assert_untouched()


DAMAGE = [
    pytest.param({"kind": "truncate", "at": 0.5}, id="half"),
    pytest.param({"kind": "truncate", "at": -1}, id="last byte"),
    pytest.param({"kind": "flip", "at": 0.5}, id="bit"),
    pytest.param({"kind": "flip", "at": -8}, id="crc"),
    pytest.param({"kind": "flip", "at": -4}, id="isize"),
    pytest.param({"kind": "append", "message": "garbage"}, id="garbage"),
    pytest.param({"kind": "html", "status": 200}, id="html"),
]


@pytest.mark.parametrize(
    ("fault", "config", "then"),
    [
        pytest.param({"kind": "cut", "at": 0.5}, {"ranges": True}, "resumed", id="resumed"),
        pytest.param({"kind": "cut", "at": 0.5}, {"ranges": False}, "restarted", id="restarted"),
        pytest.param({"kind": "flip", "at": 0.5}, {}, "retried", id="retried"),
    ],
)
def test_an_observer_gets_each_failure_and_the_end(
    target: Path, fault: dict[str, Any], config: dict[str, Any], then: Any
) -> None:
    events: list[Event] = []
    with ready(target, **config) as download:
        download.emulator.inject(Fault(endpoint="download", times=2, **fault))
        result = download(observe=events.append)
        again = download(observe=events.append, if_exists="skip")
    assert events == [
        DownloadInterrupted(then=then),
        DownloadInterrupted(then=then),
        DownloadFinished(
            rows=4_000, bytes=result.bytes, compressed_bytes=result.compressed_bytes, seconds=result.seconds
        ),
    ]
    assert again.outcome == "skipped"


@pytest.mark.parametrize("fault", DAMAGE)
def test_damage(target: Path, fault: dict[str, Any]) -> None:
    with ready(target) as download:
        download.emulator.inject(Fault(endpoint="download", times=None, **fault))
        with pytest.raises(ProviderError) as caught:
            download(attempts=2)
        assert isinstance(caught.value, DamagedDownload | BrokenTransfer)
        download.assert_untouched()


@pytest.mark.parametrize("fault", DAMAGE)
def test_damage_once(target: Path, fault: dict[str, Any]) -> None:
    with ready(target) as download:
        download.emulator.inject(Fault(endpoint="download", **fault))
        assert download().attempts == 2
        download.assert_written()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_that_changes_between_two_attempts(target: Path, ranges: bool) -> None:
    with ready(target, ranges=ranges) as download:
        download.emulator.inject(Fault(endpoint="download", kind="cut", at=0.5))
        download.emulator.inject(Fault(endpoint="download", kind="file_changes", after=1))
        download()
        download.assert_written()


@pytest.mark.parametrize("name", ["download_size_compressed_bytes", "download_size_uncompressed_bytes"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_sizes_that_contradict_the_record(target: Path, name: str, framing: str) -> None:
    with ready(target, framing=framing) as download:
        size = getattr(download.client.get_export(download.export_id), name)
        download.emulator.inject(Fault(endpoint="show_export", kind="edit", replace={name: size + 1}, times=None))
        with pytest.raises(ProviderError, match=r"bytes"):
            download(attempts=2)
        download.assert_untouched()


def test_an_expired_url_is_refreshed(target: Path) -> None:
    with ready(target) as download:
        download.emulator.inject(Fault(endpoint="download", kind="cut", at=0.5))
        download.emulator.inject(Fault(endpoint="download", kind="status", status=403, after=1))
        download()
        download.assert_written()


def test_an_expired_export_is_its_own_error(target: Path) -> None:
    with ready(target) as download:
        download.emulator.inject(Fault(endpoint="download", kind="cut", at=0.5))
        download.emulator.inject(Fault(endpoint="show_export", kind="export_expires", after=1))
        with pytest.raises(ExportExpired):
            download()
        download.assert_untouched()


def test_a_missing_month(target: Path) -> None:
    with ready(target) as download:
        with pytest.raises(ExportRefused, match="no rows of requested months: 2024-04"):
            download(expected_months=[MONTH, "2024-04"], require_months=True)
        download.assert_untouched()
        assert download.emulator.request_counts()["download"] == 1


def test_twelve_months_divided_are_twelve_monthly_exports(tmp_path: Path) -> None:
    with ready(tmp_path / "x", timeframe="LATEST_12_COMPLETED_MONTHS", rows=300) as download:
        download.target = tmp_path / "year" / "{reference_date}.ndjson"
        year = download(partition_by="reference_date")
        assert len(year.months) == 12
        for item in year.objects:
            assert item.reference_date is not None
            request = ExportRequest.checked(timeframe=item.reference_date, taxonomy_ids=["all"])
            download.export_id = download.client.create_export(request).id
            download.target = tmp_path / "months" / item.reference_date
            download()
            assert Path(item.path).read_bytes() == download.target.read_bytes()
