# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""The answer to a download: the file or a part of it, with the headers that were chosen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from airflow_provider_isvapp.emulator.answer import Answer, FileSlice
from airflow_provider_isvapp.emulator.config import EmulatorConfig
from airflow_provider_isvapp.emulator.spool import SpoolFile

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def download_answer(file: SpoolFile, request_headers: Mapping[str, str], config: EmulatorConfig) -> Answer:
    """Answer with the file (200), the range that was asked for (206), or no such range (416)."""
    headers = {}
    if config.etag != "none":
        headers["ETag"] = f'{"W/" if config.etag == "weak" else ""}"{file.tag}"'
    if config.content_encoding:
        headers["Content-Encoding"] = "gzip"
    if config.ranges:
        headers["Accept-Ranges"] = "bytes"
    size = file.compressed_bytes
    answer = Answer(
        body=FileSlice(file.path, 0, size),
        content_type="application/x-ndjson" if config.content_encoding else "application/gzip",
        headers=headers,
        framing=config.framing,
    )
    wanted = _RANGE.fullmatch(request_headers.get("Range", "")) if config.ranges else None
    if wanted is None or wanted.groups() == ("", ""):
        return answer
    # RFC 9110, 13.1.5: without a strong match the whole file is sent; a weak validator never matches strongly.
    condition = request_headers.get("If-Range")
    if condition is not None and (config.etag != "strong" or condition != headers["ETag"]):
        return answer
    first, last = wanted.groups()
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= size:
        return Answer(status=416, headers=headers | {"Content-Range": f"bytes */{size}"})
    if stop <= start:
        return answer
    return replace(
        answer,
        status=206,
        body=FileSlice(file.path, start, stop - start),
        headers=headers | {"Content-Range": f"bytes {start}-{stop - 1}/{size}"},
    )
