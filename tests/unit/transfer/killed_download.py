# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""A write in a separate process that kills itself at a given step.

Arguments: URL of an export's file, or ``list``; destination (a path, or the URL of a server and an S3 path or a
Google Cloud Storage URI), step.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from airflow_provider_isvapp.api.isvapp.models import Export
from airflow_provider_isvapp.api.schema.isvapp import ExportStatus
from airflow_provider_isvapp.checks import MaxChange
from airflow_provider_isvapp.transfer.destination import local_destination
from airflow_provider_isvapp.transfer.download import download_export
from airflow_provider_isvapp.transfer.lists import write_list
from airflow_provider_isvapp.transfer.options import WriteOptions
from airflow_provider_isvapp.transfer.staging import local, s3
from tests.support.doubles import AnyRow
from tests.support.file_server import Source
from tests.support.object_stores import gcs_client, in_gcs, in_s3, s3_client

# More than one part of a multipart upload.
LIST = [b'{"Id":"%08d","Name":"%s"}' % (number, b"x" * 100) for number in range(60_000)]


def kill_around(owner: Any, name: str, *, after: bool, calls: int = 1) -> None:
    original = getattr(owner, name)
    seen: list[None] = []

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        seen.append(None)
        if not after and len(seen) == calls:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if after and len(seen) == calls:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, wrapped)


def main(url: str, where: str, step: str) -> None:
    server, _, key = where.partition(" ")
    if key.startswith("gs://"):
        from airflow_provider_isvapp.transfer.staging import gcs

        gcs.CHUNK_BYTES = 1024 * 1024
        destination, kind = in_gcs(gcs_client(server), key.removeprefix("gs://")), gcs.GcsObject
    elif key:
        destination, kind = in_s3(s3_client(server), key), s3.S3Object  # type: ignore[assignment]
    else:
        destination, kind = local_destination(where), local.LocalFile  # type: ignore[assignment]
    if step == "staging":
        kill_around(kind, "__init__", after=True)
    elif step == "writing":
        kill_around(kind, "write", after=True, calls=5 if url == "list" else 8)
    elif step == "sealing":
        kill_around(kind, "flush", after=False)
    elif step == "flushed":
        kill_around(kind, "flush", after=True)
    elif step == "unlabelled":
        kill_around(kind, "_add_figures", after=False)
    elif step in ("committed", "without manifest"):
        kill_around(kind, "commit", after=True)
    elif step == "renamed":
        kill_around(local, "_flush_directory", after=False)
    if url == "list":
        write_list(LIST, destination, dataset="apps", row_type=AnyRow)
    else:
        export = Export(id="e-1", status=ExportStatus.COMPLETED)
        options = WriteOptions(checks=[MaxChange()] if step == "without manifest" else [])
        download_export(Source(url, export, 10.0), destination, options=options)


if __name__ == "__main__":
    main(*sys.argv[1:])
