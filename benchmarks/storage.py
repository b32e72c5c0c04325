# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The speed of writes to S3, Azure and Google Cloud Storage, compared with other clients: ``make bench-storage``.

Each storage is an emulator on this host behind a proxy with TLS, lets each connection have 20 MB/s and adds
20 ms of latency; with ``--unlimited`` it only adds TLS. Contenders take turns, each in a separate process. Prints
the best and the median of each as a Markdown table, and ends with status 1 if this provider misses a goal.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support import free_port
from tests.support.object_stores import AZURE_ACCOUNT, AZURE_KEY, azurite, in_s3, moto, running, s3_client
from tests.support.tls_server import write_certificate

BUCKET = "lake"
PIECE = 256 * 1024
OURS = "this provider"
BOTO3 = "boto3 upload_fileobj"
# How many times as fast as the others this provider is at least: behind the proxy, and unlimited.
GOALS: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    "s3": ({"s3fs": 3.0}, {"s3fs": 1.0}),
    "azure": ({"adlfs": 3.0}, {"adlfs": 1.0}),
    "gcs": ({"google-cloud-storage, a file": 1.0}, {"gcsfs": 1.0}),
}
MEMORY_GOAL_MIB = 64.0
AZURE_CONNECTION = (
    f"DefaultEndpointsProtocol=https;AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};BlobEndpoint={{url}};"
)


def stage(destination: Any, file: Path) -> Callable[[], object]:
    from airflow_provider_isvapp.transfer.staging.base import commit_staged

    def work() -> None:
        target = destination.target()
        staged = target.stage(exclusive=False, content_type="application/x-ndjson", provenance=None)
        with file.open("rb") as source:
            while data := source.read(PIECE):
                staged.write(data)
        staged.flush()
        assert commit_staged(staged, target, uri=destination.uri, if_exists="overwrite") is not None

    return work


def copy(opened: Callable[[], Any], file: Path) -> Callable[[], object]:
    def work() -> None:
        with file.open("rb") as source, opened() as out:
            while data := source.read(PIECE):
                out.write(data)

    return work


def s3_contender(name: str, url: str, file: Path) -> Callable[[], object]:
    client = s3_client(url)
    if name == OURS:
        return stage(in_s3(client, f"{BUCKET}/object"), file)
    if name == "s3fs":
        import s3fs

        fs = s3fs.S3FileSystem(
            key="key",
            secret="secret",
            endpoint_url=url,
            client_kwargs={"region_name": "us-east-1", "verify": os.environ["AWS_CA_BUNDLE"]},
        )
        fs.connect()
        return copy(lambda: fs.open(f"{BUCKET}/object", "wb"), file)

    def upload() -> None:
        with file.open("rb") as source:
            client.upload_fileobj(source, BUCKET, "object")

    def upload_bounded() -> None:
        """With this provider's bounds. For a source that cannot seek, s3transfer keeps the parts in memory."""
        from s3transfer.manager import TransferConfig, TransferManager

        config = TransferConfig(
            multipart_threshold=5 * 1024 * 1024,
            multipart_chunksize=5 * 1024 * 1024,
            max_request_concurrency=7,
            max_submission_concurrency=1,
            max_request_queue_size=7,
            max_in_memory_upload_chunks=7,
        )
        with TransferManager(client, config) as manager, file.open("rb") as source:
            manager.upload(SimpleNamespace(read=source.read), BUCKET, "object").result()

    return upload if name == BOTO3 else upload_bounded


def azure_contender(name: str, url: str, file: Path) -> Callable[[], object]:
    connection = AZURE_CONNECTION.format(url=url)
    if name == "adlfs":
        import adlfs

        fs = adlfs.AzureBlobFileSystem(connection_string=connection)
        return copy(lambda: fs.open(f"{BUCKET}/object", "wb"), file)
    from azure.storage.blob import BlobServiceClient

    client = BlobServiceClient.from_connection_string(connection)
    if name == OURS:
        from airflow_provider_isvapp.transfer.destination import Destination
        from airflow_provider_isvapp.transfer.staging.azure import AzureStore

        place = Destination(store=AzureStore(client, BUCKET), key="object", uri=f"abfs://{BUCKET}/object")
        return stage(place, file)

    def upload() -> None:
        with file.open("rb") as source:
            client.get_blob_client(BUCKET, "object").upload_blob(source, overwrite=True, max_concurrency=5)

    return upload


def gcs_contender(name: str, url: str, file: Path) -> Callable[[], object]:
    if name == "gcsfs":
        # Otherwise it requests the kind of bucket by gRPC, which no emulator supports.
        os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"
        import gcsfs

        fs = gcsfs.GCSFileSystem(endpoint_url=url, token="anon", project="bench")
        return copy(lambda: fs.open(f"{BUCKET}/object", "wb"), file)
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    client = storage.Client(project="bench", credentials=AnonymousCredentials(), client_options={"api_endpoint": url})
    if name == OURS:
        from airflow_provider_isvapp.transfer.destination import Destination
        from airflow_provider_isvapp.transfer.staging.gcs import GcsStore

        return stage(Destination(store=GcsStore(client, BUCKET), key="object", uri=f"gs://{BUCKET}/object"), file)
    return lambda: client.bucket(BUCKET).blob("object").upload_from_filename(str(file))


CONTENDERS: dict[str, tuple[Callable[[str, str, Path], Callable[[], object]], tuple[str, ...]]] = {
    "s3": (s3_contender, (OURS, "s3fs", BOTO3, "s3transfer, seven parts of 5 MiB")),
    "azure": (azure_contender, (OURS, "adlfs", "azure-storage-blob, five connections")),
    "gcs": (gcs_contender, (OURS, "google-cloud-storage, a file", "gcsfs")),
}


def peak_mib() -> float:
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024


def contend(kind: str, name: str, url: str, file: Path) -> None:
    """Run one contender once, and print its measurements."""
    work = CONTENDERS[kind][0](name, url, file)
    before, started, used = peak_mib(), time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    work()
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    print(json.dumps({"seconds": seconds, "cpu": cpu, "mib": peak_mib() - before}), flush=True)
    os._exit(0)


async def throttle(port: int, behind: int, certificate: Path, key: Path, rate: float, latency: float) -> None:
    """Speak TLS in front of a server; each connection sends at a rate, and waits for each response."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, rate: float, latency: float) -> None:
        free = 0.0
        with suppress(OSError):
            while data := await source.read(PIECE):
                now = time.monotonic()
                if latency:
                    await asyncio.sleep(latency)
                if rate:
                    free = max(free, now) + len(data) / rate
                    await asyncio.sleep(max(free - time.monotonic(), 0))
                sink.write(data)
                await sink.drain()
        with suppress(OSError):
            sink.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, downstream = await asyncio.open_connection("127.0.0.1", behind)
        await asyncio.gather(
            pump(reader, downstream, rate=rate, latency=0),
            pump(upstream, writer, rate=0, latency=latency),
            return_exceptions=True,
        )

    server = await asyncio.start_server(connected, "127.0.0.1", port, ssl=context, limit=PIECE)
    await server.serve_forever()


@contextmanager
def storage(kind: str, folder: Path) -> Iterator[tuple[int, str]]:
    """An emulator with an empty bucket: its port, and the path of its URL."""
    if kind == "azure":
        with azurite(folder) as url:
            from azure.storage.blob import BlobServiceClient

            connection = AZURE_CONNECTION.replace("=https;", "=http;").format(url=url)
            BlobServiceClient.from_connection_string(connection).create_container(BUCKET)
            yield int(url.rpartition(":")[2].partition("/")[0]), f"/{AZURE_ACCOUNT}"
        return
    port = free_port()
    if kind == "s3":
        with running([sys.executable, __file__, "serve", str(port)], port):
            s3_client(f"http://127.0.0.1:{port}").create_bucket(Bucket=BUCKET)
            yield port, ""
        return
    command = [sys.executable, "-m", "tests.support.gcs_server", "--port", str(port), "--bucket", BUCKET]
    with running(command, port):
        yield port, ""


def compare(kind: str, file: Path, *, rounds: int, rate: float, latency: float) -> list[str]:
    """Let the contenders of a storage take turns; print the table, and return the goals that are missed."""
    contenders = CONTENDERS[kind][1]
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        certificate, key = Path(folder, "certificate.pem"), Path(folder, "key.pem")
        write_certificate(certificate, key, "127.0.0.1")
        behind, path = stack.enter_context(storage(kind, Path(folder)))
        port = free_port()
        proxy = [sys.executable, __file__, "throttle", str(port), str(behind), str(certificate), str(key)]
        stack.enter_context(running([*proxy, str(rate), str(latency)], port))
        for _ in range(rounds):
            for name in contenders:
                url = f"https://127.0.0.1:{port}{path}"
                command = [sys.executable, __file__, "contend", kind, name, url, str(file)]
                trusted = dict.fromkeys(("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"), str(certificate))
                environment = os.environ | trusted
                run = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
                taken[name].append(json.loads(run.stdout.splitlines()[-1]))
    size = file.stat().st_size
    print(f"\n{kind}, {size / 1e6:.0f} MB, " + (f"{rate / 1e6:.0f} MB/s a connection" if rate else "unlimited"))
    print("\n| client | s, best | s, median | MB/s | CPU s | MiB |\n| --- | --- | --- | --- | --- | --- |")
    middle = {name: {key: statistics.median(r[key] for r in runs) for key in runs[0]} for name, runs in taken.items()}
    for name, runs in taken.items():
        best, half = min(run["seconds"] for run in runs), middle[name]
        print(
            f"| {name} | {best:.2f} | {half['seconds']:.2f} | {size / half['seconds'] / 1e6:.0f} |"
            f" {half['cpu']:.2f} | {half['mib']:.0f} |",
            flush=True,
        )
    missed = []
    for other, goal in GOALS[kind][0 if rate else 1].items():
        times = middle[other]["seconds"] / middle[OURS]["seconds"]
        if times < goal:
            missed.append(f"{kind}: {times:.2f} times as fast as {other}, not {goal}")
    if middle[OURS]["mib"] > MEMORY_GOAL_MIB:
        missed.append(f"{kind}: {middle[OURS]['mib']:.0f} MiB, not {MEMORY_GOAL_MIB:.0f}")
    if kind == "s3" and middle[OURS]["cpu"] > middle[BOTO3]["cpu"]:
        missed.append("s3: more CPU seconds than boto3's upload_fileobj")
    return missed


def main() -> int:
    if sys.argv[1:2] == ["contend"]:
        kind, name, url, sent = sys.argv[2:]
        contend(kind, name, url, Path(sent))
    if sys.argv[1:2] == ["serve"]:
        with moto(int(sys.argv[2])):
            signal.pause()
    if sys.argv[1:2] == ["throttle"]:
        port, behind, certificate, key, *pace = sys.argv[2:]
        asyncio.run(throttle(int(port), int(behind), Path(certificate), Path(key), *map(float, pace)))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=list(CONTENDERS), help="s3, azure, gcs")
    parser.add_argument("--mb", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--unlimited", action="store_true")
    arguments = parser.parse_args()
    rate, latency = (0.0, 0.0) if arguments.unlimited else (20e6, 0.02)
    missed = []
    with tempfile.NamedTemporaryFile(suffix=".ndjson") as file:
        row = os.urandom(500).hex().encode()
        for number in range(arguments.mb):
            file.write((b'{"n":%06d,"x":"%s"}\n' % (number, row) * 1000)[:1_000_000])
        file.flush()
        for kind in arguments.kinds:
            missed += compare(kind, Path(file.name), rounds=arguments.rounds, rate=rate, latency=latency)
    print("\n" + ("\n".join(missed) or "All goals are met."))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
