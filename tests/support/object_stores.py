# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Object stores that the tests start."""

from __future__ import annotations

import base64
import io
import logging
import shutil
import socket
import subprocess
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_isvapp.transfer.destination import Destination, fsspec_destination
from airflow_provider_isvapp.transfer.staging.s3 import S3Store
from tests.support import free_port


@contextmanager
def moto(port: int = 0) -> Iterator[str]:
    """Start an S3 server from a wheel and yield its URL."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    serving = server._server
    assert serving is not None
    serving.app = with_checksums(serving.app)
    try:
        yield f"http://127.0.0.1:{serving.port}"
    finally:
        server.stop()


def with_checksums(application: Any) -> Any:
    """Adds S3's CRC-32 checks to moto: it refuses wrong bytes, and its response names the checksum that it verified.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPart.html, API_CreateMultipartUpload.html
    """

    def serve(environ: dict[str, Any], start_response: Any) -> Any:
        told = environ.get("HTTP_X_AMZ_CHECKSUM_CRC32")
        if told is not None:
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            environ["wsgi.input"] = io.BytesIO(body)
            # moto keeps the checksum of an object only if this header names its algorithm.
            environ["HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM"] = "CRC32"
            if told != base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode():
                headers, content = s3_refusal(400)
                start_response("400 Bad Request", list(headers.items()))
                return [content]
        verified = {
            "x-amz-checksum-crc32": told,
            "x-amz-checksum-algorithm": environ.get("HTTP_X_AMZ_CHECKSUM_ALGORITHM"),
        }

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            there = {name.lower() for name, _ in headers}
            also = [(name, value) for name, value in verified.items() if value is not None and name not in there]
            return start_response(status, headers + also, *error)

        return application(environ, start)

    return serve


def s3_client(url: str, *, key: str = "key", secret: str = "secret", **config: Any) -> Any:
    """A client for S3 like that of Airflow's hook."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(**{"retries": {"mode": "standard", "max_attempts": 2}} | config),
    )


def in_s3(client: Any, path: str, **options: Any) -> Destination:
    """The destination of a path ``bucket/key``."""
    bucket, _, key = path.partition("/")
    return Destination(store=S3Store(client, bucket, **options), key=key, uri=f"s3://{path}")


def gcs_client(url: str) -> Any:
    """A client for Google Cloud Storage like that of Airflow's hook."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.storage import Client

    return Client(project="test", credentials=AnonymousCredentials(), client_options={"api_endpoint": url})


def in_gcs(client: Any, path: str, **options: Any) -> Destination:
    """The destination of a path ``bucket/key``."""
    from airflow_provider_isvapp.transfer.staging.gcs import GcsStore

    bucket, _, key = path.partition("/")
    return Destination(store=GcsStore(client, bucket, **options), key=key, uri=f"gs://{path}")


class FsspecPath:
    """The interface of UPath and ObjectStoragePath that the package uses."""

    def __init__(self, fs: Any, path: str) -> None:
        self.fs = fs
        self.path = path

    def __str__(self) -> str:
        return f"arrow://{self.path}"


def in_fsspec(path: Path) -> Destination:
    """The destination of a local file through a file system of fsspec that renames, as Arrow's for HDFS does."""
    arrow = pytest.importorskip("pyarrow.fs", reason="the extra 'parquet' is not installed")
    from fsspec.implementations.arrow import ArrowFSWrapper

    class Renaming(ArrowFSWrapper):  # type: ignore[misc]
        protocol = "arrow"

    return fsspec_destination(FsspecPath(Renaming(arrow.LocalFileSystem()), str(path)))


@pytest.fixture
def s3_url() -> Iterator[str]:
    """The URL of an empty S3 server."""
    with moto() as url:
        yield url


@contextmanager
def running(command: Sequence[str | Path], port: int, *, cwd: Path | None = None) -> Iterator[None]:
    """A running server program; starts when it listens."""
    with subprocess.Popen(command, cwd=cwd) as process:
        try:
            deadline = time.monotonic() + 60
            while True:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
                assert time.monotonic() < deadline, f"{command[0]} did not start"
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
            try:
                process.wait(1)
            except subprocess.TimeoutExpired:
                process.kill()


# The account that azurite documents; it is the same everywhere.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@contextmanager
def azurite(folder: Path, *options: str) -> Iterator[str]:
    """Start Microsoft's emulator of Azure Blob Storage and yield the URL of an empty account.

    :param folder: the folder for its log.
    :param options: command-line options. With a certificate, it accepts only TLS.
    """
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("no azurite-blob: npm install --global azurite")
    port = free_port()
    # The newest SDK speaks a later version of the API than azurite knows.
    common = ["--blobPort", str(port), "--inMemoryPersistence", "--silent", "--skipApiVersionCheck"]
    with running([program, *common, *options], port, cwd=folder):
        scheme = "https" if "--cert" in options else "http"
        yield f"{scheme}://127.0.0.1:{port}/{AZURE_ACCOUNT}"


def s3_refusal(status: int) -> tuple[dict[str, str], bytes]:
    """The headers and the body of a refusal by S3."""
    codes = {
        400: "BadDigest",
        403: "AccessDenied",
        404: "NoSuchUpload",
        409: "ConditionalRequestConflict",
        410: "Gone",
        412: "PreconditionFailed",
        429: "SlowDown",
        503: "SlowDown",
    }
    body = f"<Error><Code>{codes[status]}</Code><Message>no</Message></Error>"
    return {"Content-Type": "application/xml"}, body.encode()
