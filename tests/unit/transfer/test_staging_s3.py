# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Downloads to S3: the old object or the whole new one, and no upload left open."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.errors import DamagedDownload, DestinationExists, StorageFailed, TransferCancelled
from airflow_provider_isvapp.transfer.destination import Destination
from airflow_provider_isvapp.transfer.lists import write_list
from airflow_provider_isvapp.transfer.results import Outcome, WriteResult
from airflow_provider_isvapp.transfer.staging import s3
from tests.support.ceph_gateway import ACCESS_KEY, SECRET_KEY
from tests.support.doubles import AnyRow
from tests.support.downloads import download_with
from tests.support.fault_proxy import FaultProxy
from tests.support.file_server import MONTHS, FileResponse, FileServer, Source, gzip_bytes, ndjson
from tests.support.object_stores import in_s3, s3_client, s3_refusal
from tests.support.tls_server import server_context

PART = s3.PART_BYTES
BIG = ndjson(22_000, months=MONTHS[:1])
BIG_BODY = gzip_bytes(BIG)
SMALL = ndjson(500, months=MONTHS[:1])
OLD = b'{"old":true}\n'
PATH = "lake/usage/export.ndjson"


on_every_store = pytest.mark.parametrize("front", ["s3_server", "ceph_server"], indirect=True)


@pytest.fixture
def front(request: pytest.FixtureRequest) -> Iterator[FaultProxy]:
    with FaultProxy(request.getfixturevalue(getattr(request, "param", "s3_server")), s3_refusal) as front:
        yield front


class Bucket:
    def __init__(self, url: str) -> None:
        import s3fs

        self.fs = s3fs.S3FileSystem(
            key=ACCESS_KEY,
            secret=SECRET_KEY,
            endpoint_url=url,
            client_kwargs={"region_name": "us-east-1"},
            config_kwargs={"retries": {"mode": "standard", "max_attempts": 2}},
            skip_instance_cache=True,
        )
        self.name = "lake"
        self.client = s3_client(url, key=ACCESS_KEY, secret=SECRET_KEY)

    def destination(self, path: str = PATH, **options: Any) -> Destination:
        return in_s3(self.client, path, **options)

    def read(self, path: str = PATH) -> bytes:
        self.fs.invalidate_cache()
        content: bytes = self.fs.cat_file(path)
        return content

    def open_uploads(self) -> list[dict[str, Any]]:
        uploads: list[dict[str, Any]] = self.fs.call_s3("list_multipart_uploads", Bucket=self.name).get("Uploads", [])
        return uploads

    def assert_holds(self, content: bytes) -> None:
        assert self.read() == content
        assert self.fs.find(self.name) == [PATH]
        assert self.open_uploads() == []


@pytest.fixture
def bucket(front: FaultProxy) -> Iterator[Bucket]:
    bucket = Bucket(front.url)
    with contextlib.suppress(FileExistsError):
        bucket.fs.call_s3("create_bucket", Bucket="lake")
    for path in bucket.fs.find("lake"):
        bucket.fs.rm_file(path)
    bucket.fs.pipe_file(PATH, OLD)
    front.seen.clear()
    yield bucket
    front.before = lambda method, path: None
    for upload in bucket.open_uploads():
        bucket.fs.call_s3("abort_multipart_upload", Bucket="lake", Key=upload["Key"], UploadId=upload["UploadId"])


def download(source: Source, destination: Destination, **options: Any) -> WriteResult:
    options = {"sleep": lambda seconds: None, **options}
    return download_with(source, destination, **options)


@on_every_store
@pytest.mark.parametrize("plain", [BIG, SMALL, b""], ids=["parts", "one request", "empty"])
def test_exact_bytes(bucket: Bucket, front: FaultProxy, plain: bytes) -> None:
    with FileServer(FileResponse(gzip_bytes(plain))) as server:
        result = download(server.source(uncompressed=len(plain)), bucket.destination(), min_rows=0)
    bucket.assert_holds(plain)
    assert (result.path, result.bytes, result.rows) == (f"s3://{PATH}", len(plain), plain.count(b"\n"))
    parts = [request for request in front.seen if "partNumber" in request]
    assert len(parts) == (-(-len(plain) // PART) if len(plain) > PART else 0)


def test_parts_are_sent_at_the_same_time(bucket: Bucket, front: FaultProxy) -> None:
    together = threading.Barrier(2)

    def wait_for_another(method: str, path: str) -> None:
        if "partNumber=1&" in path + "&" or "partNumber=2&" in path + "&":
            together.wait(timeout=10)

    front.before = wait_for_another
    with FileServer(FileResponse(BIG_BODY)) as server:
        download(server.source(), bucket.destination())
    bucket.assert_holds(BIG)


@pytest.mark.parametrize("wanted", ["when_supported", "when_required"])
def test_each_part_carries_its_checksum_unless_the_connection_says_otherwise(
    bucket: Bucket, front: FaultProxy, wanted: str
) -> None:
    bucket.client = s3_client(front.url, key=ACCESS_KEY, secret=SECRET_KEY, request_checksum_calculation=wanted)
    sums: dict[int, bool] = {}

    def look(request: Any, **_: Any) -> None:
        number = re.search(r"partNumber=(\d+)", request.url)
        if number:
            crc32 = base64.b64encode(zlib.crc32(request.body.data).to_bytes(4, "big"))
            sums[int(number[1])] = request.headers.get("x-amz-checksum-crc32") == crc32

    bucket.client.meta.events.register("before-send.s3.UploadPart", look)
    with FileServer(FileResponse(BIG_BODY)) as server:
        download(server.source(), bucket.destination())
    bucket.assert_holds(BIG)
    assert len(sums) > 1
    assert set(sums.values()) == {wanted == "when_supported"}


@pytest.mark.parametrize(
    ("server", "over_tls", "config", "is_signed"),
    [
        pytest.param("s3_server", True, {}, False, id="S3 over TLS verifies the CRC-32"),
        pytest.param("s3_server", False, {}, True, id="plain HTTP"),
        pytest.param("ceph_server", True, {}, True, id="Ceph ignores the CRC-32"),
        pytest.param("s3_server", True, {"s3": {"payload_signing_enabled": True}}, True, id="as the connection says"),
        pytest.param("s3_server", True, {"request_checksum_calculation": "when_required"}, True, id="no CRC-32"),
    ],
)
def test_sha256_is_left_out_only_where_tls_and_a_verified_crc32_guard_the_bytes(
    server: str,
    over_tls: bool,
    config: dict[str, Any],
    is_signed: bool,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    certificate = tmp_path / "certificate.pem"
    tls = server_context(certificate, "127.0.0.1") if over_tls else None
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    told: dict[bytes, bytes] = {}

    def look(request: Any, **_: Any) -> None:
        told[bytes(request.body.data)] = request.headers["X-Amz-Content-SHA256"]

    plain = bytes(range(256)) * (PART // 256) + b"the last part"
    with FaultProxy(request.getfixturevalue(server), s3_refusal, tls=tls) as front:
        client = s3_client(front.url, key=ACCESS_KEY, secret=SECRET_KEY, **config)
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket="lake")
        client.meta.events.register("before-send.s3.UploadPart", look)
        staged = in_s3(client, PATH).target().stage(exclusive=False, content_type="text/plain", provenance=None)
        staged.write(plain)
        staged.flush()
        staged.commit()
        assert client.get_object(Bucket="lake", Key=PATH.partition("/")[2])["Body"].read() == plain
    assert told == {
        part: hashlib.sha256(part).hexdigest().encode() if is_signed else b"UNSIGNED-PAYLOAD"
        for part in (plain[:PART], plain[PART:])
    }


def test_later_parts_are_larger_and_fewer_are_in_flight(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "_LARGER_AFTER", {2: 2, 4: 3})
    sizes: dict[int, int] = {}
    on_their_way: dict[int, int] = {}
    most = 0
    changing = threading.Lock()

    def begins(params: dict[str, Any], **_: Any) -> None:
        nonlocal most
        with changing:
            number = params["PartNumber"]
            sizes[number] = on_their_way[number] = len(params["Body"])
            most = max(most, sum(on_their_way.values()))

    def ends(parsed: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        with changing:
            on_their_way.pop(context["number"])

    def number(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        context["number"] = params["PartNumber"]

    events = bucket.client.meta.events
    events.register("before-parameter-build.s3.UploadPart", begins)
    events.register("provide-client-params.s3.UploadPart", number)
    events.register("after-call.s3.UploadPart", ends)
    plain = BIG * 7
    with FileServer(FileResponse(BIG_BODY * 7)) as server:
        download(server.source(), bucket.destination())
    bucket.assert_holds(plain)
    count = len(sizes)
    assert [sizes[part] // PART for part in range(1, count)] == ([1, 1, 2, 2] + [3] * count)[: count - 1]
    assert count > 6
    assert most <= 7 * PART
    # All room is released: the next object can be sent.
    room = s3.S3Object.pool._room
    free = [room.acquire(blocking=False) for _ in range(8)]
    room.release(sum(free))
    assert free == [True] * 7 + [False]


def test_an_upload_that_is_not_begun_keeps_the_old_object(bucket: Bucket, front: FaultProxy) -> None:
    front.before = lambda method, path: 403 if method == "POST" and "?uploads" in path else None
    with FileServer(FileResponse(BIG_BODY)) as server, pytest.raises(StorageFailed, match="Could not publish "):
        download(server.source(), bucket.destination())
    bucket.assert_holds(OLD)


@on_every_store
@pytest.mark.parametrize("plain", [BIG, SMALL], ids=["parts", "one request"])
def test_a_damaged_download_publishes_nothing(bucket: Bucket, plain: bytes) -> None:
    body = gzip_bytes(plain)
    damaged = body[:-8] + bytes([body[-8] ^ 1]) + body[-7:]
    with FileServer(FileResponse(damaged)) as server, pytest.raises(DamagedDownload):
        download(server.source(), bucket.destination(), attempts=2)
    bucket.assert_holds(OLD)


def test_a_damaged_download_is_fetched_again(bucket: Bucket) -> None:
    body = gzip_bytes(BIG)
    with FileServer(FileResponse(body[:-1], chunked=True), FileResponse(body)) as server:
        assert download(server.source(), bucket.destination()).attempts == 2
    bucket.assert_holds(BIG)


@on_every_store
def test_the_upload_of_a_killed_process_is_aborted_by_the_next(bucket: Bucket) -> None:
    left = bucket.fs.call_s3("create_multipart_upload", Bucket="lake", Key="usage/export.ndjson")
    bucket.fs.call_s3(
        "upload_part", Bucket="lake", Key="usage/export.ndjson", UploadId=left["UploadId"], PartNumber=1, Body=b"x"
    )
    bucket.fs.call_s3("create_multipart_upload", Bucket="lake", Key="usage/export.ndjson.other")
    assert len(bucket.open_uploads()) == 2
    with FileServer(FileResponse(gzip_bytes(SMALL))) as server:
        download(server.source(), bucket.destination())
    assert bucket.read() == SMALL
    assert [upload["Key"] for upload in bucket.open_uploads()] == ["usage/export.ndjson.other"]


def test_cancelling_does_not_wait_for_a_slow_storage(bucket: Bucket, front: FaultProxy) -> None:
    killed = threading.Event()

    def be_slow(method: str, path: str) -> None:
        if "partNumber=" in path:
            killed.set()
            time.sleep(2)

    front.before = be_slow
    with FileServer(FileResponse(BIG_BODY)) as server, pytest.raises(TransferCancelled):
        download(server.source(), bucket.destination(), cancelled=killed.is_set)
    front.before = lambda method, path: None
    bucket.assert_holds(OLD)


def test_writing_needs_no_right_to_list_uploads(bucket: Bucket, front: FaultProxy) -> None:
    front.before = lambda method, path: 403 if method == "GET" and "uploads" in path else None
    with FileServer(FileResponse(BIG_BODY)) as server:
        download(server.source(), bucket.destination())
    front.before = lambda method, path: None
    bucket.assert_holds(BIG)


@on_every_store
@pytest.mark.parametrize("moment", ["PUT partNumber=2", "POST uploadId="])
def test_of_two_tasks_the_one_that_began_first_fails(bucket: Bucket, front: FaultProxy, moment: str) -> None:
    verb, needle = moment.split(" ")
    other = ndjson(21_000)
    second: list[WriteResult] = []
    second_is_over = threading.Event()

    def start_another(method: str, path: str) -> int | None:
        if method != verb or needle not in path:
            return None
        upload_id = re.findall("uploadId=([^&]+)", path)[0]
        # S3's response; moto responds with 500 if an upload is gone.
        front.before = lambda method, path: 404 if upload_id in path and method != "DELETE" else None
        with FileServer(FileResponse(gzip_bytes(other))) as server:
            second.append(download(server.source(export_id="e-2"), bucket.destination()))
        second_is_over.set()
        return 404

    front.before = start_another
    with (
        FileServer(FileResponse(BIG_BODY)) as server,
        pytest.raises(StorageFailed, match="another task that writes the same object"),
    ):
        download(server.source(), bucket.destination())
    # S3 can refuse another part of the first upload before.
    assert second_is_over.wait(60)
    assert second[0].rows == 21_000
    bucket.assert_holds(other)


@pytest.mark.parametrize("plain", [BIG, SMALL], ids=["parts", "one request"])
def test_fail_is_decided_by_the_storage_in_the_last_step(bucket: Bucket, front: FaultProxy, plain: bytes) -> None:
    bucket.fs.rm_file(PATH)

    def appear(method: str, path: str) -> None:
        if method in ("POST", "PUT") and ("uploadId=" in path or plain is SMALL):
            front.before = lambda method, path: None
            bucket.fs.pipe_file(PATH, OLD)

    front.before = appear
    with FileServer(FileResponse(gzip_bytes(plain))) as server, pytest.raises(DestinationExists, match="exists"):
        download(server.source(), bucket.destination(), if_exists="fail")
    bucket.assert_holds(OLD)


@pytest.mark.parametrize("partition_by", [None, "reference_date"])
def test_skip_keeps_an_object_that_appears_meanwhile_without_a_manifest(
    bucket: Bucket, front: FaultProxy, partition_by: Any
) -> None:
    months = MONTHS[:2]
    path = PATH if partition_by is None else "lake/usage/{reference_date}.ndjson"
    taken = PATH if partition_by is None else f"lake/usage/{months[0]}.ndjson"
    bucket.fs.rm_file(PATH)

    def appear(method: str, path: str) -> None:
        if method == "PUT" and path == f"/{taken}":
            front.before = lambda method, path: None
            bucket.fs.pipe_file(taken, OLD)

    front.before = appear
    options = {"if_exists": "skip", "manifest": True, "partition_by": partition_by}
    with FileServer(FileResponse(gzip_bytes(ndjson(400, months=months)))) as server:
        result = download(server.source(), bucket.destination(path), **options)
    assert bucket.read(taken) == OLD
    if partition_by is None:
        assert (result.outcome, result.objects, result.manifests) == (Outcome.SKIPPED, (), ())
        assert bucket.fs.find("lake") == [PATH]
    else:
        assert result.outcome is Outcome.WRITTEN
        assert [item.reference_date for item in result.objects] == [months[1]]
        other = f"lake/usage/{months[1]}.ndjson"
        manifest = f"lake/usage/_{months[1]}.ndjson.manifest.json"
        assert result.manifests == (f"s3://{manifest}",)
        assert bucket.fs.find("lake") == sorted([taken, other, manifest])


@on_every_store
@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("plain", [BIG, SMALL], ids=["parts", "one request"])
def test_a_rerun_downloads_nothing(bucket: Bucket, plain: bytes, compression: Any) -> None:
    body = gzip_bytes(plain) if compression is None else gzip_bytes(plain, level=0)
    options = {"export_id": "e-1", "compression": compression}
    place = bucket.destination(PATH if compression is None else f"{PATH}.gz")
    with FileServer(FileResponse(body)) as server:
        first = download(server.source(), place, **options)
        again = download(server.source(), place, **options)
        requests = len(server.requested_ranges)
        other = download(server.source(export_id="e-2"), place, **options | {"export_id": "e-2"})
    assert requests == 1
    assert again.outcome is Outcome.UNCHANGED
    assert (again.rows, again.bytes, again.compressed_bytes, again.crc32, again.months) == (
        first.rows,
        first.bytes,
        first.compressed_bytes,
        first.crc32,
        first.months,
    )
    assert other.outcome is Outcome.WRITTEN


@pytest.mark.parametrize("partition_by", [None, "reference_date"])
def test_the_manifest_of_a_multipart_upload_has_its_figures(
    bucket: Bucket, front: FaultProxy, partition_by: Any
) -> None:
    """Its metadata lacks them: a rerun reads the manifest, not the object, and needs no list of months."""
    path = PATH if partition_by is None else "lake/usage/{reference_date}.ndjson"
    options = {"export_id": "e-1", "manifest": True, "partition_by": partition_by}
    with FileServer(FileResponse(BIG_BODY)) as server:
        first = download(server.source(), bucket.destination(path), **options)
        front.seen.clear()
        again = download(server.source(), bucket.destination(path), **options)
        assert len(server.requested_ranges) == 1
    assert again.outcome is Outcome.UNCHANGED
    assert (again.rows, again.bytes, again.crc32, again.months) == (first.rows, first.bytes, first.crc32, first.months)
    read = {request for request in front.seen if request.startswith("GET /lake/usage")}
    assert read
    assert all(request.endswith(".manifest.json") for request in read)


@on_every_store
def test_a_replaced_object_does_not_count_as_the_export(bucket: Bucket) -> None:
    with FileServer(FileResponse(gzip_bytes(SMALL))) as server:
        download(server.source(), bucket.destination(), export_id="e-1")
        bucket.fs.pipe_file(PATH, OLD)
        again = download(server.source(), bucket.destination(), export_id="e-1")
    assert again.outcome is Outcome.WRITTEN
    bucket.assert_holds(SMALL)


def test_storage_options_are_used(bucket: Bucket) -> None:
    destination = bucket.destination(options={"ServerSideEncryption": "AES256"})
    for plain in (BIG, SMALL):
        with FileServer(FileResponse(gzip_bytes(plain))) as server:
            download(server.source(), destination)
        head = bucket.fs.call_s3("head_object", Bucket="lake", Key="usage/export.ndjson")
        assert head["ServerSideEncryption"] == "AES256"


def test_lists_are_written_the_same_way(bucket: Bucket) -> None:
    lines = [b'{"Id":"%d"}' % number for number in range(300_000)]
    result = write_list(lines, bucket.destination(), dataset="apps", row_type=AnyRow)
    bucket.assert_holds(b"".join(line + b"\n" for line in lines))
    assert (result.rows, result.bytes) == (300_000, sum(map(len, lines)) + 300_000)
