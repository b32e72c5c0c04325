# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
"""Compare the files of the monthly sync with the vendors' data."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_isvapp.emulator import Emulator, RequestRecord
from scripts.demo.console import DemoFailed


@dataclass(frozen=True, kw_only=True)
class WrittenFile:
    """One file that is correct."""

    path: Path
    rows: int
    bytes: int


def check_usage(result: dict[str, Any], emulator: Emulator) -> WrittenFile:
    """Compare a downloaded export byte for byte."""
    written = _read(result)
    if Path(_local(result["path"])).read_bytes() != emulator.export_bytes(result["export_id"]):
        raise DemoFailed(f"{written.path} is not what the vendor holds for export {result['export_id']}.")
    return written


def check_accounts(result: dict[str, Any], emulator: Emulator) -> WrittenFile:
    """Compare the accounts with the response to a plain request."""
    url = f"{emulator.url}/api/v1/salesforce_accounts?includeHealthScores=1"
    return _check_rows(result, _get(url, emulator.api_key)["data"])


def check_apps(result: dict[str, Any], emulator: Emulator) -> WrittenFile:
    """Compare the apps with the response to a plain request."""
    form = {
        "grant_type": "client_credentials",
        "scope": "https://api.productiv.com/apps.read",
        "client_id": emulator.productiv_client_id,
        "client_secret": emulator.productiv_client_secret,
    }
    with urllib.request.urlopen(
        emulator.productiv_token_url, data=urllib.parse.urlencode(form).encode(), timeout=30
    ) as response:
        token = json.load(response)["access_token"]
    return _check_rows(result, _get(f"{emulator.url}/pull/v1/apps", token)["Apps"])


def most_in_a_second(requests: Iterable[RequestRecord]) -> int:
    """Return how many requests arrived within the busiest window of one second."""
    arrivals = sorted(request.at for request in requests)
    return max((sum(start <= at < start + 1 for at in arrivals) for start in arrivals), default=0)


def _check_rows(result: dict[str, Any], expected: list[dict[str, Any]]) -> WrittenFile:
    written = _read(result)
    if [json.loads(line) for line in written.path.read_bytes().splitlines()] != expected:
        raise DemoFailed(f"{written.path} differs from the vendor's response.")
    return written


def _read(result: dict[str, Any]) -> WrittenFile:
    path = _local(result["path"])
    content = path.read_bytes()
    written = WrittenFile(path=path, rows=content.count(b"\n"), bytes=len(content))
    if (written.rows, written.bytes) != (result["rows"], result["bytes"]):
        raise DemoFailed(f"{path} has {written.rows} rows and {written.bytes} bytes, but its task reported {result}.")
    return written


def _local(url: str) -> Path:
    return Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path))


def _get(url: str, token: str) -> Any:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)
